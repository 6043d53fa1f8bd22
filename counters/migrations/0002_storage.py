from django.db import migrations

from stripemeter.lib.migrations import sql_pair


class Migration(migrations.Migration):
    dependencies = [("counters", "0001_initial")]
    operations = [sql_pair(__file__, "0002_storage")]
