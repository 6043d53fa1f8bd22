from django.db import migrations

from stripemeter.lib.migrations import sql_pair


class Migration(migrations.Migration):
    dependencies = [("counters", "0002_initial")]
    operations = [sql_pair(__file__, "0003_storage")]
