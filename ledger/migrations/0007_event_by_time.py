from django.contrib.postgres.indexes import BrinIndex
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("ledger", "0006_event_keys")]
    operations = [
        migrations.RemoveIndex(model_name="event", name="event_by_arrival"),
        migrations.AddIndex(
            model_name="event",
            index=BrinIndex(
                fields=["recorded_at", "ts"],
                name="event_by_time",
                opclasses=["timestamptz_minmax_ops", "timestamptz_minmax_multi_ops"],
                pages_per_range=128,
                autosummarize=True,
            ),
        ),
    ]
