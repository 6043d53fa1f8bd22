"""``manage.py tenant`` and ``manage.py apikey``."""

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from stripemeter.lib import clock
from stripemeter.tenancy.models import ApiKey, Tenant
from stripemeter.tenancy.recognition import principal_for
from tests.builders.tenancy import Caller


def run(*arguments: str, **options: Any) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out, stderr=StringIO(), **options)
    return out.getvalue().strip()


@pytest.mark.django_db
def test_a_tenant_is_created_and_listed() -> None:
    assert run("tenant", "create", "initech", "--name", "Initech") == "initech"
    assert run("tenant", "list") == "initech\tInitech"
    with pytest.raises(CommandError, match="exists already"):
        run("tenant", "create", "initech")
    with pytest.raises(CommandError, match="slug or UUID"):
        run("tenant", "create", "a b")
    assert Tenant.objects.count() == 1


def test_standard_output_holds_the_new_key_and_nothing_else(acme: Caller) -> None:
    plaintext = run("apikey", "create", "--tenant", "acme", "--scopes", "all")
    principal = principal_for(plaintext, now=clock.now())
    assert principal is not None
    assert (principal.tenant_key, "widget:mint" in principal.scopes) == ("acme", True)


def test_keys_are_listed_rotated_and_revoked(acme: Caller) -> None:
    lookup = acme.key.lookup
    assert run("apikey", "list", "--tenant", "acme").startswith(f"{lookup}\tactive\tkey of acme")
    successor = run("apikey", "rotate", lookup, "--tenant", "acme", "--overlap-hours", "0")
    assert principal_for(successor, now=clock.now()) is not None
    assert principal_for(acme.plaintext, now=clock.now()) is None
    run("apikey", "revoke", successor[8:20], "--tenant", "acme")
    assert {key.status(clock.now()) for key in ApiKey.objects.all()} == {"expired", "revoked"}


def test_another_tenants_key_is_out_of_reach(acme: Caller, globex: Caller) -> None:
    with pytest.raises(CommandError, match="No such API key"):
        run("apikey", "revoke", globex.key.lookup, "--tenant", "acme")
    with pytest.raises(CommandError, match="No tenant"):
        run("apikey", "list", "--tenant", "nobody")
