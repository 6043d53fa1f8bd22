"""Pages of the proof: plans, closes, exports, runs; each act by the right person, and whole."""

import hashlib
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

from billing.models import CustomerLink
from counters.models import BillingPeriod
from ledger.models import Metric
from reconciliation.models import Export, Finding, PeriodClose, RepairPlan, ReportLine, Run
from reconciliation.selectors import reports
from reconciliation.services import exports
from reconciliation.services.findings import new_id
from stripemeter.lib import clock
from stripemeter.lib.periods import utc_month
from stripemeter.tenancy.models import AuditEntry
from tests.ops.conftest import Office
from tests.ops.test_pages import finding

PAGES = ["plans", "closes", "exports"]


@pytest.fixture(autouse=True)
def _nobody_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("plan_pages", "export_pages", "finding_pages"):
        monkeypatch.setattr(f"reconciliation.views.{module}.wake", lambda: None)


@pytest.fixture
def broken(office: Office) -> Finding:
    """A held cursor of acme: a plan releases it."""
    found = finding(office, office.acme)
    found.cause, found.amount_minor, found.currency = "unpushed", 50, "USD"
    found.save()
    CustomerLink.objects.create(
        tenant=office.acme, customer_ref="acme-customer", mode="live",
        stripe_customer_id="cus_acme", created_at=clock.now(), created_by="test",
    )  # fmt: skip
    return found


def post(client: Client, name: str, *arguments: Any, **fields: Any) -> Any:
    return client.post(reverse(f"ops:{name}", args=arguments), fields, follow=True)


@pytest.mark.parametrize("page", PAGES)
def test_empty_lists_say_what_to_do_and_strangers_sign_in(office: Office, page: str) -> None:
    url = reverse(f"ops:{page}")
    assert Client().get(url).status_code == 302
    answer = office.sign_in("viewer").get(url)
    assert answer.status_code == 200
    assert "globex" not in answer.content.decode().lower()


def test_a_finding_is_repaired_by_two_people(office: Office, broken: Finding) -> None:
    ada = office.sign_in("maintainer", name="ada")
    grace = office.sign_in("maintainer", name="grace")
    page = ada.get(reverse("ops:finding", args=[broken.pk])).content.decode()
    link = f"{reverse('ops:plan-new')}?finding={broken.pk}"
    assert link in page
    dry = ada.get(link).content.decode()
    assert "Release the cursor" in dry
    assert "+5" in dry
    assert "50 USD" in dry
    assert not RepairPlan.objects.exists()
    proposed = post(ada, "plan-new", finding=str(broken.pk), note="held on Friday")
    plan = RepairPlan.objects.get()
    assert "Another person approves" in proposed.content.decode()
    assert post(ada, "plan-act", plan.pk, "approve").status_code == 403
    assert "Apply" in post(grace, "plan-act", plan.pk, "approve").content.decode()
    assert "Undo" in post(grace, "plan-act", plan.pk, "apply").content.decode()
    plan.refresh_from_db()
    assert (plan.state, plan.created_by, plan.decided_by) == ("applied", "user:ada", "user:grace")
    assert (
        "applied, not read back yet"
        in ada.get(reverse("ops:finding", args=[broken.pk])).content.decode().lower()
    )
    assert post(grace, "plan-act", plan.pk, "undo").status_code == 200
    plan.refresh_from_db()
    assert plan.state == "undone"
    verbs = AuditEntry.objects.filter(object_id=str(plan.pk)).order_by("sequence")
    assert [each.action.split(".")[1] for each in verbs] == [
        "proposed", "approved", "started", "applied", "undone",
    ]  # fmt: skip


def test_plans_of_others_and_unknown_acts_are_not_found(office: Office, broken: Finding) -> None:
    post(office.sign_in("maintainer"), "plan-new", finding=str(broken.pk))
    plan = RepairPlan.objects.get()
    stranger = office.sign_in("maintainer", name="eve", tenant=office.globex)
    assert stranger.get(reverse("ops:plan", args=[plan.pk])).status_code == 404
    assert post(stranger, "plan-act", plan.pk, "approve").status_code == 404
    viewer = office.sign_in("viewer")
    assert viewer.get(reverse("ops:plan", args=[plan.pk])).status_code == 200
    assert post(viewer, "plan-act", plan.pk, "approve").status_code == 403
    owner = office.sign_in("owner")
    assert post(owner, "plan-act", plan.pk, "explode").status_code == 404
    assert owner.get(reverse("ops:plan-new"), {"finding": "x"}).status_code == 404
    assert owner.get(reverse("ops:plan-new"), {"cause": "unpushed"}).status_code == 200


def test_what_no_machine_repairs_is_told_with_its_reason(office: Office, broken: Finding) -> None:
    Finding.objects.update(cause="foreign_writer", units=-5)
    client = office.sign_in("maintainer")
    page = client.get(reverse("ops:plan-new"), {"finding": str(broken.pk)}).content.decode()
    assert "Stripe is higher and no cause is known" in page
    assert "Propose it" not in page
    assert post(client, "plan-new", finding=str(broken.pk)).status_code == 409


def done_run(office: Office, **fields: Any) -> Run:
    """A finished run with one line of acme's customer."""
    now = clock.now()
    period = utc_month(fields.pop("of", now))
    run = Run.objects.create(
        id=new_id(), tenant=office.acme, status="done", requested_by="user:ada", requested_at=now,
        started_at=now, finished_at=now, cursors=1, parity=1,
    )  # fmt: skip
    values: dict[str, Any] = {
        "ledger": 10, "counter": 10, "wanted": 10, "acknowledged": 10, "stripe": 10,
        "status": "parity", "mapping_id": uuid4(), "metric_id": 1,
        "customer_ref": "acme-customer",
    }  # fmt: skip
    ReportLine.objects.create(
        tenant_id=office.acme.pk, run_id=run.pk, period_start=period.start,
        period_end=period.end, mode="live", id=new_id(), checked_at=now, **{**values, **fields},
    )  # fmt: skip
    return run


def test_a_run_shows_every_number_of_what_differs(office: Office) -> None:
    run = done_run(
        office, stripe=7, status="drift", causes=[{"cause": "lost_at_stripe", "units": "3"}]
    )
    client = office.sign_in("viewer")
    page = client.get(reverse("ops:run", args=[run.pk])).content.decode()
    assert "lost at Stripe (3)" in page
    assert (
        "No line is parity"
        in client.get(reverse("ops:run", args=[run.pk]), {"status": "parity"}).content.decode()
    )
    stranger = office.sign_in("viewer", name="eve", tenant=office.globex)
    assert stranger.get(reverse("ops:run", args=[run.pk])).status_code == 404


def test_the_board_shows_what_differs_now_however_much_does_not(office: Office) -> None:
    mapping, metric = office.mapping(), Metric.objects.get(tenant=office.acme, name="api_calls")
    here: dict[str, Any] = {"mapping_id": mapping, "metric_id": metric.pk}
    for number in range(120):
        done_run(office, customer_ref=f"a-{number:03}", **here)
    done_run(office, customer_ref="was-wrong", status="drift", stripe=7, **here)
    done_run(office, customer_ref="was-wrong", **here)
    done_run(office, customer_ref="was-right", **here)
    done_run(office, customer_ref="was-right", status="drift", stripe=7, **here)
    done_run(office, customer_ref="z-settles", status="settling", stripe=9, **here)
    client = office.sign_in("viewer")
    page = client.get(reverse("ops:reconciliation")).content.decode()
    assert "was-right" in page
    assert "z-settles" in page
    assert "was-wrong" not in page
    assert "a-000" not in page
    for number in range(60):
        done_run(office, customer_ref=f"b-{number:03}", status="drift", stripe=7, **here)
    page = client.get(reverse("ops:reconciliation")).content.decode()
    assert "the first 50" in page
    eve = office.sign_in("viewer", name="eve", tenant=office.globex)
    assert "was-right" not in eve.get(reverse("ops:reconciliation")).content.decode()


def test_newest_lines_are_paged_whole(office: Office) -> None:
    mapping, metric = office.mapping(), Metric.objects.get(tenant=office.acme, name="api_calls")
    here: dict[str, Any] = {"mapping_id": mapping, "metric_id": metric.pk}
    for stripe in (7, 10):
        for number in range(7):
            done_run(office, customer_ref=f"c-{number}", stripe=stripe, **here)
    wanted = reports.Filter(office.acme.pk, utc_month(clock.now()))
    found: list[reports.Row] = []
    while page := reports.rows(
        wanted, after=reports.Position.of(found[-1]) if found else None, limit=3
    ):
        found += page
    assert [row.customer_ref for row in found] == [f"c-{number}" for number in range(7)]
    assert all(row.stripe == 10 for row in found)


def test_a_month_is_closed_against_what_blocks_it_only_with_a_note(office: Office) -> None:
    last = utc_month(clock.now()).start - timedelta(days=1)
    month = f"{last:%Y-%m}"
    ada = office.sign_in("maintainer", name="ada")
    name = f"{last:%B %Y}"
    assert name not in ada.get(reverse("ops:closes")).content.decode()
    board = ada.get(reverse("ops:close", args=[month])).content.decode()
    assert "no run since the period ended" in board
    assert post(ada, "close-period", month).status_code == 409
    assert post(ada, "close-period", month, force="yes").status_code == 409
    assert post(office.sign_in("viewer"), "close-period", month).status_code == 403
    closed = post(ada, "close-period", month, force="yes", note="agreed with finance")
    assert "Closed, not certified yet" in closed.content.decode()
    assert name in ada.get(reverse("ops:closes")).content.decode()
    assert post(ada, "certify", month).status_code == 409
    run = done_run(office, of=last)
    sealed = post(ada, "certify", month).content.decode()
    row = PeriodClose.objects.get()
    assert row.certificate_sha256 in sealed
    assert str(run.pk) in sealed
    assert "sealed</span>" in ada.get(reverse("ops:closes")).content.decode()
    file = ada.get(reverse("ops:certificate", args=[month]))
    assert file.json()["certificate"]["linesSha256"] == row.certificate["linesSha256"]
    assert "of acme-customer" in post(ada, "certificate-check", month).content.decode()
    globex = office.sign_in("owner", name="eve", tenant=office.globex)
    assert globex.get(reverse("ops:certificate", args=[month])).status_code == 404


def test_the_running_month_is_never_closed(office: Office) -> None:
    month = f"{clock.now():%Y-%m}"
    client = office.sign_in("owner")
    page = client.get(reverse("ops:close", args=[month])).content.decode()
    assert "A month is closed once it is over" in page
    assert post(client, "close-period", month, force="yes", note="now").status_code == 409
    assert not BillingPeriod.objects.filter(state="frozen").exists()
    for wrong in ("2026-13", "abc", "1-1"):
        assert client.get(reverse("ops:close", args=[wrong])).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_an_export_is_asked_for_watched_and_downloaded(office: Office) -> None:
    viewer = office.sign_in("viewer")
    month = f"{clock.now():%Y-%m}"
    assert post(viewer, "export-new", period=month, format="exe").status_code == 400
    assert post(viewer, "export-new", period="x", format="csv").status_code == 400
    waiting = post(viewer, "export-new", period=month, format="csv").content.decode()
    assert "<progress" in waiting
    export = Export.objects.get()
    exports.execute(exports.claim(now=clock.now()), clock=clock.now)  # type: ignore[arg-type]
    url = reverse("ops:export", args=[export.pk])
    part = viewer.get(url, headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in part
    assert "hx-get" not in part
    export.refresh_from_db()
    link = part.split('href="')[1].split('"')[0].replace("&amp;", "&")
    answer = Client().get(link)
    data = b"".join(answer.streaming_content)  # type: ignore[attr-defined]
    assert hashlib.sha256(data).hexdigest() == export.manifest["files"][0]["sha256"]
    stranger = office.sign_in("viewer", name="eve", tenant=office.globex)
    assert stranger.get(url).status_code == 404
