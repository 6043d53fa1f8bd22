from typing import ClassVar

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies: ClassVar = [("billing", "0010_caps_index")]

    operations: ClassVar = [
        AddIndexConcurrently(
            model_name="push",
            index=models.Index(
                condition=models.Q(("state", "acknowledged")),
                fields=["account", "target", "stripe_customer_id", "stamped_at"],
                name="push_acknowledged_by_lane",
            ),
        ),
    ]
