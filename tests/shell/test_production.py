"""Production starts only when it is safe: each rule broken alone stops it."""

import os
import subprocess
import sys
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import connection

from stripemeter import checks
from stripemeter.lib.env import ConfigurationError
from stripemeter.production import SECRETS, refusals
from tests.support.environment import ROOT

SAFE = {
    "STRIPEMETER_ENV": "production",
    "STRIPEMETER_SECRET_KEY": "Jm3V-qX8nB5wRt7Kc2Lz9Yp4Hd6Gf1Sa0Ue-iOoPlMkNjBhVgC",
    "STRIPEMETER_API_KEY_PEPPER": "Wq2eRt5yUi8oPa1sDf4gHj7kLz0xCv3bNm6Q-wErTyUi",
    "STRIPEMETER_WIDGET_SIGNING_KEY": "zX9cVb6nMq3wEr0tYu7iOp4aSd1fGh8jKl5Z-xCvBnMa",
    "STRIPEMETER_ALLOWED_HOSTS": "meter.acme.test",
    "STRIPEMETER_PUBLIC_URL": "https://meter.acme.test",
    "STRIPE_SECRET_KEY": "sk_live_" + "k" * 24,
    "STRIPE_TEST_SECRET_KEY": "sk_test_" + "k" * 24,
    "STRIPE_WEBHOOK_SECRET": "whsec_" + "Zq4Tn8Wb2Rk6Xv0Cm5Ys9Pd3Lf7Hj1Ga",
    "DATABASE_URL": "postgresql://stripemeter_app:x@127.0.0.1:1/stripemeter",
    "DATABASE_OWNER_URL": "postgresql://stripemeter_owner:x@127.0.0.1:1/stripemeter",
}
_KEPT = ("PATH", "HOME", "LANG")


def _start(*command: str, **changes: str | None) -> "subprocess.CompletedProcess[str]":
    """Run manage.py in the safe environment with ``changes`` (None unsets)."""
    merged: dict[str, str | None] = {**SAFE, **changes}
    environ = {name: value for name, value in merged.items() if value is not None}
    environ |= {name: os.environ[name] for name in _KEPT if name in os.environ}
    return subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_deployment_check_is_clean_and_silences_nothing() -> None:
    done = _start("check", "--deploy", "--fail-level", "WARNING")
    assert "no issues (0 silenced)" in done.stdout + done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize("variable", [*SECRETS.values()])
def test_production_does_not_start_without_a_secret(variable: str) -> None:
    done = _start("check", **{variable: None})
    assert done.returncode != 0
    assert f"{variable} must be set in production" in done.stderr


def test_production_stops_at_the_import_of_settings_and_names_every_fault() -> None:
    done = _start("check", STRIPEMETER_DEBUG="1", STRIPEMETER_OPEN_DEMO_TENANT="demo")
    assert done.returncode != 0
    assert "Production refuses to start" in done.stderr
    assert "E001: DEBUG is on" in done.stderr
    assert "E005: The open demo is on" in done.stderr


def _values(**changes: Any) -> dict[str, Any]:
    """The settings that SAFE gives, with changes."""
    return {
        "DEBUG": False,
        "SECRET_KEY": SAFE["STRIPEMETER_SECRET_KEY"],
        "API_KEY_PEPPER": SAFE["STRIPEMETER_API_KEY_PEPPER"],
        "WIDGET_SIGNING_KEY": SAFE["STRIPEMETER_WIDGET_SIGNING_KEY"],
        "OPEN_DEMO_TENANT": "",
        "FAULT_POINTS": "",
        "CLOCK_OFFSET_FILE": "",
        "ALLOWED_HOSTS": ["meter.acme.test"],
        "PUBLIC_URL": "https://meter.acme.test",
        "STRIPE_SECRET_KEY": SAFE["STRIPE_SECRET_KEY"],
        "STRIPE_TEST_SECRET_KEY": SAFE["STRIPE_TEST_SECRET_KEY"],
        "STRIPE_WEBHOOK_SECRETS": [SAFE["STRIPE_WEBHOOK_SECRET"]],
        "STRIPE_API_BASE": "https://api.stripe.com",
        "STRIPE_METER_EVENTS_BASE": "https://meter-events.stripe.com",
        **changes,
    }


def test_safe_settings_break_no_rule() -> None:
    assert refusals(_values()) == []


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"DEBUG": True}, "E001"),
        ({"SECRET_KEY": SAFE["STRIPEMETER_SECRET_KEY"][:49]}, "E002"),
        ({"API_KEY_PEPPER": SAFE["STRIPEMETER_API_KEY_PEPPER"][:31]}, "E002"),
        ({"WIDGET_SIGNING_KEY": ""}, "E002"),
        ({"API_KEY_PEPPER": "ab" * 30}, "E003"),
        ({"SECRET_KEY": "development-only-" + "xyzabcdefg" * 4}, "E003"),
        ({"WIDGET_SIGNING_KEY": "please-ChangeMe-0123456789-0123456789"}, "E003"),
        ({"WIDGET_SIGNING_KEY": SAFE["STRIPEMETER_API_KEY_PEPPER"]}, "E004"),
        ({"OPEN_DEMO_TENANT": "demo"}, "E005"),
        ({"FAULT_POINTS": "fold.before_commit"}, "E006"),
        ({"CLOCK_OFFSET_FILE": "/somewhere"}, "E007"),
        ({"ALLOWED_HOSTS": []}, "E008"),
        ({"ALLOWED_HOSTS": ["*"]}, "E008"),
        ({"PUBLIC_URL": "http://meter.acme.test"}, "E009"),
        ({"STRIPE_SECRET_KEY": "sk_test_" + "k" * 24}, "E010"),
        ({"STRIPE_TEST_SECRET_KEY": "sk_live_" + "k" * 24}, "E011"),
        ({"STRIPE_WEBHOOK_SECRETS": ["short"]}, "E012"),
        ({"STRIPE_WEBHOOK_SECRETS": ["whsec_" + "0a" * 32]}, "E013"),
        ({"STRIPE_WEBHOOK_SECRETS": []}, "E014"),
        ({"STRIPE_API_BASE": "http://127.0.0.1:12111"}, "E015"),
        ({"STRIPE_API_BASE": "https://stripe.com.evil.test"}, "E015"),
    ],
)
def test_one_broken_rule_is_refused_by_its_number(changes: dict[str, Any], rule: str) -> None:
    assert [refusal.id for refusal in refusals(_values(**changes))] == [rule]


def test_without_any_stripe_key_no_webhook_secret_is_asked_for() -> None:
    none = {"STRIPE_SECRET_KEY": "", "STRIPE_TEST_SECRET_KEY": "", "STRIPE_WEBHOOK_SECRETS": []}
    assert refusals(_values(**none)) == []


def _need_forgetful_server() -> None:
    # The embedded server of the tests runs with fsync and full_page_writes off.
    if checks.switched_off(connection) != ["fsync", "full_page_writes"]:
        pytest.skip("TEST_DATABASE_URL leads to a server with durability on")


@pytest.mark.django_db
def test_a_server_that_forgets_commits_is_refused_in_production(settings: Any) -> None:
    _need_forgetful_server()
    settings.PRODUCTION = True
    found = [message.id for message in run_checks(tags=["database"], databases=["default"])]
    assert found == ["stripemeter.E022", "stripemeter.E022"]


@pytest.mark.django_db(transaction=True)
def test_a_connection_to_a_server_that_forgets_commits_is_closed() -> None:
    _need_forgetful_server()
    with pytest.raises(ConfigurationError, match="fsync, full_page_writes off"):
        checks.refuse_forgetful_server(None, connection)
    assert connection.connection is None


@pytest.mark.django_db
def test_the_application_role_owns_nothing() -> None:
    assert checks.check_roles(None, databases=["default"]) == []


@pytest.mark.django_db
def test_a_role_with_the_rights_of_the_owner_is_warned_about() -> None:
    done = _start(
        "check",
        "--deploy",
        "--database",
        "default",
        STRIPEMETER_ENV="development",
        STRIPEMETER_IGNORE_RUNTIME="1",
        DATABASE_URL=os.environ["DATABASE_OWNER_URL"],
    )
    assert "stripemeter.W001" in done.stderr
