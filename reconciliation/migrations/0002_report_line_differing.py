from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("reconciliation", "0001_initial")]
    operations = [
        migrations.AddIndex(
            model_name="reportline",
            index=models.Index(
                fields=["tenant_id", "period_start", "mapping_id", "customer_ref", "mode"],
                condition=~models.Q(status="parity"),
                name="report_line_differing",
            ),
        ),
    ]
