"""Periods, replay, backfill and operations as pages: look first, then do, with a role."""

import gzip
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from counters import tasks
from counters.models import BillingCalendar, Counter
from counters.services.verify import verify_counters
from ledger.models import Event, Operation
from ledger.services import backfill, operations
from stripemeter.lib import clock
from stripemeter.tenancy.models import AuditEntry
from tests.ops.conftest import Office

CSV = (
    "wann,kunde,menge,rest\n{day}T10:00:00Z,acme-customer,3,x\n{day}T11:00:00Z,acme-customer,=1,x\n"
)
MAPPED = {
    "column-0": "wann", "field-0": "ts", "column-1": "kunde", "field-1": "customerRef",
    "column-2": "menge", "field-2": "quantity", "column-3": "rest", "field-3": "",
}  # fmt: skip


def text_of(client: Client, name: str, query: dict[str, str] | None = None) -> str:
    answer = client.get(reverse(f"ops:{name}"), query or {})
    assert answer.status_code == 200
    return str(answer.content.decode())


def form(**more: object) -> dict[str, object]:
    day = (clock.now() - timedelta(days=1)).date()
    content = CSV.format(day=day).encode()
    return {
        "file": SimpleUploadedFile("usage.csv.gz", gzip.compress(content)),
        "periodStart": day.isoformat(), "metric": "api_calls", "reason": "from the old system",
        **more,
    }  # fmt: skip


@pytest.mark.parametrize("page", ["replay", "backfill"])
def test_a_viewer_starts_nothing(office: Office, page: str) -> None:
    client = office.sign_in("viewer")
    assert client.get(reverse(f"ops:{page}")).status_code == 403
    assert client.post(reverse("ops:replay-apply"), {"mode": "apply"}).status_code == 403
    assert client.post(reverse("ops:backfill"), form()).status_code == 403
    assert client.post(reverse("ops:periods-set"), {"ref": ""}).status_code == 403
    assert not Operation.objects.exists()


def test_a_file_is_looked_at_before_it_is_stored(office: Office) -> None:
    client = office.sign_in("maintainer")
    looked = client.post(
        reverse("ops:backfill-check"), form(), headers={"HX-Request": "true"}
    ).content.decode()
    assert 'name="field-2"' in looked
    assert "column customerRef is missing" in looked
    looked = client.post(reverse("ops:backfill-check"), form(**MAPPED)).content.decode()
    assert "Store 1 row" in looked
    assert "<h2>2. What its columns are</h2>" in looked
    assert not Operation.objects.exists()


def test_a_backfill_runs_and_its_failed_rows_can_be_taken_away(office: Office) -> None:
    client = office.sign_in("maintainer")
    started = client.post(reverse("ops:backfill"), form(**MAPPED))
    operation = Operation.objects.get()
    assert started["Location"] == reverse("ops:operation", args=[operation.id])
    assert "a worker takes it" in client.get(started["Location"]).content.decode()
    claimed = operations.claim(kind="backfill", now=clock.now())
    assert claimed is not None
    backfill.run_backfill(claimed, clock=clock.now)
    assert Event.objects.filter(tenant_id=office.acme.pk).count() == 2
    fragment = client.get(reverse("ops:operation-progress", args=[operation.id])).content.decode()
    assert "hx-get" not in fragment
    assert "completed" in fragment
    answer = client.get(reverse("ops:operation-errors", args=[operation.id]))
    assert b"".join(answer.streaming_content).count(b"\r\n") == 2  # type: ignore[attr-defined]
    assert AuditEntry.objects.filter(action="backfill.created").count() == 1


def test_an_operation_is_stopped_and_resumed_by_a_maintainer_of_its_tenant(office: Office) -> None:
    client = office.sign_in("maintainer")
    client.post(reverse("ops:backfill"), form(**MAPPED))
    operation = Operation.objects.get()
    stop, resume = (
        reverse(f"ops:operation-{act}", args=[operation.id]) for act in ("cancel", "resume")
    )
    stranger = office.sign_in("owner", name="theirs", tenant=office.globex)
    assert stranger.post(stop).status_code == 404
    assert stranger.get(reverse("ops:operation", args=[operation.id])).status_code == 404
    assert office.sign_in("viewer").post(stop).status_code == 403
    assert client.post(stop).status_code == 302
    operation.refresh_from_db()
    assert operation.status == "cancelled"
    assert "Resume" in client.get(reverse("ops:operation", args=[operation.id])).content.decode()
    assert client.post(resume).status_code == 302
    operation.refresh_from_db()
    assert operation.status == "pending"


def test_a_replay_is_looked_at_and_then_applied(office: Office) -> None:
    client = office.sign_in("maintainer")
    counters = Counter.objects.filter(tenant_id=office.acme.pk)
    counters.update(sum=4)
    query = {"since": f"{clock.now() - timedelta(days=1):%Y-%m-%dT%H:%M}"}
    looked = text_of(client, "replay", query)
    assert "1 counter differs from the events" in looked
    assert 'data-confirm="Would update 1 counters with +6 total delta?' in looked
    assert counters.get().sum == 4
    assert client.post(reverse("ops:replay-apply"), query | {"mode": "apply"}).status_code == 302
    assert counters.get().sum == 10
    assert "Every counter equals its events" in text_of(client, "replay", query)
    assert Counter.objects.filter(tenant_id=office.globex.pk).get().sum == 10
    assert client.get(reverse("ops:replay"), {"since": "yesterday"}).status_code == 400


def test_the_tile_turns_red_when_the_nightly_comparison_finds_a_difference(office: Office) -> None:
    client = office.sign_in("viewer")
    tasks.verify()
    assert "differs from the events" not in text_of(client, "freshness-panel")
    Counter.objects.filter(tenant_id=office.acme.pk).update(sum=4)
    assert tasks.verify() == 1
    panel = text_of(client, "freshness-panel")
    assert "1 counter differs from the events" in panel
    assert 'class="panel bad"' in panel
    theirs = office.sign_in("viewer", name="theirs", tenant=office.globex)
    assert "differs from the events" not in text_of(theirs, "freshness-panel")
    verify_counters(now=clock.now(), repair=True)
    assert "differs from the events" not in text_of(client, "freshness-panel")


def test_a_change_of_calendar_is_looked_at_and_then_cut(office: Office) -> None:
    client = office.sign_in("maintainer")
    change = {
        "ref": "acme-customer", "anchor": "2026-01-31T00:00", "count": "1", "interval": "month",
        "zone": "Europe/Berlin",
    }  # fmt: skip
    looked = text_of(client, "periods", change | {"look": "set"})
    assert "1, of 1 customer" in looked
    assert not BillingCalendar.objects.exists()
    before = Counter.objects.get(tenant_id=office.acme.pk).period_start
    assert client.post(reverse("ops:periods-set"), change).status_code == 302
    after = Counter.objects.get(tenant_id=office.acme.pk)
    assert after.period_start != before
    assert (after.sum, BillingCalendar.objects.get().zone) == (10, "Europe/Berlin")
    shown = text_of(client, "periods", {"ref": "acme-customer"})
    assert "Cut by a calendar of its own" in shown
    assert "In Europe/Berlin" in shown
    wrong = client.get(reverse("ops:periods"), change | {"look": "set", "zone": "Mars"})
    assert wrong.status_code == 400
    clear = {"ref": "acme-customer", "look": "clear"}
    assert "What the change would do" in text_of(client, "periods", clear)
    client.post(reverse("ops:periods-clear"), clear)
    assert Counter.objects.get(tenant_id=office.acme.pk).period_start == before
    assert AuditEntry.objects.filter(action__startswith="calendar.").count() == 2
