from django.db import migrations

from stripemeter.lib.migrations import sql_pair


class Migration(migrations.Migration):
    dependencies = [("ledger", "0004_seals")]
    operations = [sql_pair(__file__, "0005_seals_append_only")]
