"""What takes its time, without a lock that anybody waits for."""

from django.db import migrations


class Migration(migrations.Migration):
    """The rule is checked and the index built while rows come in."""

    atomic = False
    dependencies = [("next_release", "0001_expand")]
    operations = [
        migrations.RunSQL("ALTER TABLE ledger_event VALIDATE CONSTRAINT next_release_said"),
        migrations.RunSQL(
            "CREATE INDEX CONCURRENTLY next_release_index ON ledger_event"
            " (tenant_id, next_release) WHERE next_release IS NOT NULL"
        ),
    ]
