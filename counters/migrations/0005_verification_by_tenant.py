from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("counters", "0004_verification")]
    operations = [
        migrations.AddField("verification", "left", models.JSONField(default=dict)),
    ]
