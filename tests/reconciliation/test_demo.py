"""What an operator of the demo meets: a cause injected, found, and repaired."""

import pytest
from django.core.management import CommandError, call_command

from reconciliation.injection import INJECTIONS, NOT_IN_THE_DEMO
from reconciliation.models import Finding, ReportLine
from stripemeter.lib import clock

REPAIRED = {
    "async_rejected",
    "unpushed",
    "lost_at_stripe",
    "duplicated",
    "wrong_customer",
    "counter_mismatch",
}


@pytest.fixture
def demo(world, monkeypatch):
    monkeypatch.setattr(clock, "now", world.clock)
    world.mapping(local_price={"model": "flat", "currency": "USD", "unitPrice": "0.05"})
    world.use(100)
    world.push()
    return world


@pytest.mark.parametrize("cause", sorted(INJECTIONS))
def test_an_injected_cause_is_found_and_what_can_be_is_repaired(demo, cause, capsys):
    call_command("demo_drift", cause)
    said = capsys.readouterr().out
    lines = ReportLine.objects.order_by("-checked_at", "-run_id")
    assert cause in {part["cause"] for line in lines for part in line.causes}, said
    assert f"Found: {cause}" in said
    if cause not in REPAIRED:
        return
    finding = Finding.objects.get(cause=cause, closed_at__isnull=True)
    call_command("repair", str(finding.pk))
    assert "Dry run" in capsys.readouterr().out
    call_command("repair", str(finding.pk), "--proposer", "ada", "--approver", "grace")
    said = capsys.readouterr().out
    assert ": applied" in said
    demo.settle()
    demo.move(minutes=20)
    from reconciliation.services import verifying

    verifying.verify_applied(clock=demo.clock)
    finding.refresh_from_db()
    assert finding.state == "repaired"


def test_every_cause_is_injected_in_the_demo_or_in_a_test():
    from pathlib import Path

    text = Path(__file__).with_name("test_causes.py").read_text("utf-8")
    for cause in NOT_IN_THE_DEMO - {"invoice_mismatch"}:
        assert f'"{cause}"' in text


def test_nothing_is_injected_into_the_real_stripe(demo, settings):
    settings.STRIPE_API_BASE = "https://api.stripe.com"
    with pytest.raises(CommandError, match="not the local sandbox"):
        call_command("demo_drift", "foreign_writer")


def test_the_plan_of_a_rationed_run_is_printed(demo, settings, capsys):
    settings.STRIPE_READS_PER_MONTH = 10
    call_command("reconcile", "--tenant", "acme", "--plan")
    said = capsys.readouterr().out
    assert "budget: 10 reads; reading 1, leaving out 0" in said
    assert "c1 (live): never read" in said
