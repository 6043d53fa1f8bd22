from django.db import migrations, models

from stripemeter.lib.migrations import sql_pair


class Migration(migrations.Migration):
    dependencies = [("ledger", "0005_seals_append_only")]
    operations = [
        migrations.CreateModel(
            name="EventKey",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "tenant_id",
                        "key",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("tenant_id", models.BigIntegerField()),
                ("key", models.UUIDField()),
                ("fingerprint", models.UUIDField()),
                ("batch_id", models.BigIntegerField()),
            ],
        ),
        sql_pair(__file__, "0006_event_keys"),
    ]
