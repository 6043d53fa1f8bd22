from django.db import migrations

from stripemeter.lib.migrations import sql_pair


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial"), ("tenancy", "0002_audit_append_only")]
    operations = [sql_pair(__file__, "0002_push_facts")]
