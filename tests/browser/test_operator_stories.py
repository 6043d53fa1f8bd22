"""Whole stories of operators in a real browser: a repair, a replay, a carried correction."""

import re
from typing import Any

import pytest
from django.core.management import call_command

from billing.models import Push
from billing.services.mappings import Actor, create_mapping
from counters.models import Adjustment, Counter
from counters.services.adjustments import create_adjustment
from counters.tasks import replay
from ledger.models import Operation
from reconciliation.models import Finding, RepairPlan
from reconciliation.services import runs
from stripemeter.lib import clock
from stripemeter.lib.decimals import decimal_of
from tests.browser.conftest import CHROMIUM, CUSTOMER, Site

pytestmark = [
    pytest.mark.browser,
    pytest.mark.large,  # minutes of Chromium on a busy machine: run with -m large
    pytest.mark.xdist_group("browser-stories"),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]


def says(visitor: Any, words: str) -> None:
    """Waits until the page says it."""
    visitor.page.wait_for_function(
        "(words) => document.body.innerText.includes(words)", arg=words, timeout=60_000
    )


def press(visitor: Any, name: str, then: str) -> None:
    """Press a button (its question is answered with yes) and wait for what the page says."""
    visitor.page.get_by_role("button", name=name, exact=True).first.click()
    says(visitor, then)


@pytest.fixture
def drifted(site: Site, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Site:
    """Seven units of the customer that Stripe acknowledged and lost; no run has seen it."""
    settings.RECONCILIATION_SETTLING_SECONDS = 0  # the sandbox adds up at once
    values = {"aggregation": "sum", "stripe_account": "default", "price_id": site.price}
    create_mapping(
        actor=Actor(site.acme.tenant.pk, "test", clock.now()), metric="api_calls", values=values
    )
    call_command("push")
    assert Push.objects.get(customer_ref=CUSTOMER).state == "acknowledged"
    call_command("demo_drift", "lost_at_stripe", tenant="acme", no_reconcile=True)
    return site


def work_off_the_run() -> None:
    """What a worker does with a run that was asked for."""
    claimed = runs.claim(now=clock.now())
    assert claimed is not None
    runs.execute(claimed, clock=clock.now)


def test_a_drift_is_found_planned_approved_by_another_applied_and_verified(
    drifted: Site, visit: Any
) -> None:
    mai, max_ = visit("mai"), visit("max")
    mai.go("/admin/reconciliation/")
    press(mai, "Run now", "Queued.")
    work_off_the_run()
    finding = Finding.objects.get(cause="lost_at_stripe", units=7)
    mai.go("/admin/reconciliation/")
    assert CUSTOMER in mai.text()
    mai.go(f"/admin/findings/{finding.pk}")
    mai.page.get_by_role("link", name="Dry run of a repair").click()
    says(mai, "Nothing is written yet")
    assert "+7" in mai.text()
    mai.page.fill("textarea[name=note]", "Lost on Friday.")
    press(mai, "Propose", "Another person approves it.")
    assert mai.page.get_by_role("button", name="Approve", exact=True).count() == 0
    plan = RepairPlan.objects.get()
    max_.go(f"/admin/repair-plans/{plan.pk}")
    press(max_, "Approve", "Approved.")
    press(max_, "Apply", "Applied. Pushes follow")
    call_command("push")
    press(max_, "Read back now", "Read back.")
    assert "verified" in max_.text()
    plan.refresh_from_db()
    assert (plan.state, plan.created_by, plan.decided_by) == ("verified", "user:mai", "user:max")
    mai.go(f"/admin/findings/{finding.pk}")
    assert "repaired" in mai.text()


def test_a_replay_looks_first_then_sets_right_and_shows_its_progress(
    site: Site, visit: Any
) -> None:
    broken = Counter.objects.filter(tenant_id=site.acme.tenant.pk, customer_ref=CUSTOMER)
    right = broken.get().sum
    # More than a million events, by its own account: a worker has to look.
    broken.update(sum=1, event_count=2_000_000)
    mai = visit("mai")
    mai.go("/admin/replay/")
    mai.page.get_by_role("button", name="Compare", exact=True).click()
    says(mai, "More than a million events")
    for button, total in (("Compare in the background", 1), ("Set right in the background", right)):
        mai.page.get_by_role("button", name=button).click()
        mai.page.wait_for_url(re.compile(r"/admin/operations/[0-9a-f-]{36}"))
        says(mai, "a worker takes it within seconds")
        assert mai.page.locator("progress").get_attribute("value") == "0"
        assert replay() == 1
        says(mai, "completed")  # without a reload
        assert mai.page.locator("progress").get_attribute("value") == "100"
        assert broken.get().sum == total
        mai.page.go_back(wait_until="load")
    assert broken.get().event_count < 2_000_000
    assert set(Operation.objects.values_list("kind", "status")) == {("replay", "completed")}


def test_an_adjustment_is_asked_for_by_one_and_rejected_or_approved_by_another(
    site: Site, visit: Any
) -> None:
    mai, max_ = visit("mai"), visit("max")
    mai.go(f"/admin/adjustments/?status=all&customerRef={CUSTOMER}&metric=api_calls")
    mai.page.fill("#new-customer", CUSTOMER)
    mai.page.fill("input[name=delta]", "6")
    press(mai, "Ask", "someone else approves it")
    asked = Adjustment.objects.get(delta=6)
    other = create_adjustment(
        tenant_id=site.acme.tenant.pk, metric="api_calls", customer_ref=CUSTOMER,
        period_start=clock.now(), delta=decimal_of(9), reason="correction", actor="user:mai",
        now=clock.now(),
    )  # fmt: skip
    mai.go("/admin/adjustments/")
    assert mai.page.locator(f"form[action*='{asked.pk}/approve']").count() == 0
    max_.go("/admin/adjustments/")
    max_.page.locator(f"form[action*='{asked.pk}/approve'] button").click()
    says(max_, "it counts now")
    max_.page.locator(f"form[action*='{other.pk}/reject'] button").click()
    says(max_, "it never counts")
    asked.refresh_from_db()
    other.refresh_from_db()
    assert (asked.status, asked.approved_by) == ("approved", "user:max")
    assert other.status == "rejected"
