"""`manage.py push` says where each tenant's pushing stands."""

import pytest
from django.core.management import call_command

from tests.builders.tenancy import make_tenant


@pytest.mark.django_db(transaction=True)
def test_it_names_every_tenant(sandbox, capsys):
    make_tenant("acme")
    make_tenant("globex")
    call_command("push")
    shown = capsys.readouterr().out
    assert "planned 0 pushes" in shown
