from typing import ClassVar

from django.db import migrations


class Migration(migrations.Migration):
    dependencies: ClassVar = [("billing", "0011_push_lanes")]

    operations: ClassVar = [
        migrations.AlterModelOptions(
            name="simulationbatch", options={"verbose_name_plural": "simulation batches"}
        ),
    ]
