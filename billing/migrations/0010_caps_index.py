from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("billing", "0009_terms")]

    operations: ClassVar = [
        migrations.AddIndex(
            model_name="alertrule",
            index=models.Index(
                condition=models.Q(
                    ("action__in", ["soft_cap", "hard_cap"]),
                    ("deleted_at__isnull", True),
                    ("enabled", True),
                ),
                fields=["tenant", "customer_ref"],
                name="alert_rule_caps",
            ),
        ),
    ]
