"""What a release may do to tables in use: it expands them."""

from django.db import migrations

_CHECK = "CHECK (next_release IS NULL OR next_release <> '')"


class Migration(migrations.Migration):
    """Columns of the ledger and the counters, and a rule that is checked later."""

    dependencies = [("ledger", "0006_event_keys"), ("counters", "0005_verification_by_tenant")]
    operations = [
        migrations.RunSQL("ALTER TABLE ledger_event ADD COLUMN next_release text"),
        migrations.RunSQL(
            f"ALTER TABLE ledger_event ADD CONSTRAINT next_release_said {_CHECK} NOT VALID"
        ),
        migrations.RunSQL(
            "ALTER TABLE counters_counter ADD COLUMN next_release bigint NOT NULL DEFAULT 0"
        ),
        migrations.RunSQL("ALTER TABLE tenancy_tenant ADD COLUMN next_release text"),
    ]
