"""Closing a period: the board, the freeze, the certificate and what breaks it."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from counters.models import Adjustment, BillingPeriod, Counter
from ledger.services import seals
from reconciliation.models import PeriodClose, ReportLine
from reconciliation.selectors import board
from reconciliation.services import closes
from stripemeter.lib import clock
from stripemeter.lib.errors import Conflict
from stripemeter.lib.periods import utc_month
from stripemeter.tenancy.recognition import forget_cached_keys
from tests.builders.billing import at
from tests.builders.tenancy import make_caller
from tests.reconciliation.injecting import foreign
from tests.reconciliation.running import reconcile, settled

NOVEMBER = utc_month(datetime(2026, 11, 5, tzinfo=UTC))


@pytest.fixture
def over(world):
    """November with some usage, pushed and compared after its end."""
    world.mapping()
    world.use(5)
    world.push()
    world.move(days=11)
    reconcile(world)
    return world


def closed(world) -> PeriodClose:
    return closes.close(
        tenant_id=world.acme.pk, period=NOVEMBER, actor="ada", now=world.now, note=""
    )


def sealed(world) -> PeriodClose:
    closed(world)
    world.move(minutes=1)
    reconcile(world)
    return closes.seal(tenant_id=world.acme.pk, period=NOVEMBER, actor="ada", now=world.now)


def test_the_board_counts_down_and_names_what_blocks(world):
    world.mapping()
    world.use(5)
    found = board.board(tenant_id=world.acme.pk, period=NOVEMBER, now=world.now)
    assert found["secondsToFinalization"] == 10 * 86_400 + 13 * 3_600
    assert "the period is not over" in found["blockers"]
    assert "no run since the period ended" in found["blockers"]


def test_a_period_that_is_not_over_is_never_closed(world):
    with pytest.raises(Conflict, match="not over"):
        closes.close(
            tenant_id=world.acme.pk,
            period=NOVEMBER,
            actor="ada",
            now=world.now,
            note="please",
            force=True,
        )


def test_closing_freezes_and_late_usage_is_held(over):
    closed(over)
    assert set(BillingPeriod.objects.values_list("state", flat=True)) == {"frozen"}
    over.use(4, ts=at(30))
    assert Counter.objects.get(tenant_id=over.acme.pk, period_start=NOVEMBER.start).sum == 5
    held = Adjustment.objects.get()
    assert (held.status, held.delta) == ("pending", Decimal(4))


def test_open_findings_block_closing_unless_forced_with_a_note(over):
    foreign(over, 3, seconds_ago=10 * 86_400)
    settled(over)
    reconcile(over)
    with pytest.raises(Conflict, match="1 open finding"):
        closed(over)
    row = closes.close(
        tenant_id=over.acme.pk, period=NOVEMBER, actor="ada", now=over.now, note="known", force=True
    )
    assert row.board["blockers"] == ["1 open finding"]
    over.move(minutes=1)
    reconcile(over)
    with pytest.raises(Conflict, match="1 findings are open"):
        closes.seal(tenant_id=over.acme.pk, period=NOVEMBER, actor="ada", now=over.now)


def test_a_certificate_holds_until_any_layer_moves_by_one_unit(over):
    seals.seal_ledger(now=over.now)
    row = sealed(over)
    assert row.certificate["cursors"] == 1
    assert row.certificate["ledgerSeal"] == seals.shown_head(over.acme.pk)
    assert row.certificate["ledgerSeal"]["sequence"] == 1
    assert closes.verify(row, clock=over.clock) == []
    Counter.objects.filter(tenant_id=over.acme.pk).update(sum=6)
    assert {each["layer"] for each in closes.verify(row, clock=over.clock)} == {"counter"}
    Counter.objects.filter(tenant_id=over.acme.pk).update(sum=5)
    foreign(over, 1, seconds_ago=15 * 86_400)
    assert {each["layer"] for each in closes.verify(row, clock=over.clock)} == {"stripe"}


def test_a_changed_certificate_or_report_is_noticed(over):
    row = sealed(over)
    ReportLine.objects.filter(run_id=row.run_id).update(stripe=6)
    layers = {each["layer"] for each in closes.verify(row, clock=over.clock)}
    assert {"report", "stripe"} <= layers
    row.certificate["cursors"] = 2
    assert "certificate" in {each["layer"] for each in closes.verify(row, clock=over.clock)}


def test_closing_twice_is_closing_once(over):
    assert closed(over).pk == closed(over).pk
    assert sealed(over).pk == sealed(over).pk


def test_the_routes(over, client, monkeypatch):
    forget_cached_keys()
    monkeypatch.setattr(clock, "now", over.clock)
    ada, stranger = make_caller(over.acme), make_caller(over.globex)
    base = "/v1/reconciliation/closes"

    def post(path, body=None):
        return client.post(path, body or {}, content_type="application/json", headers=ada.headers)

    assert client.get(f"{base}/2026-11", headers=ada.headers).json()["board"]["blockers"] == []
    assert client.get(f"{base}/2026-13", headers=ada.headers).status_code == 400
    assert post(base, {"period": "2026-11"}).status_code == 201
    assert client.get(f"{base}/2026-11", headers=stranger.headers).json()["close"] is None
    over.move(minutes=1)
    reconcile(over)
    assert post(f"{base}/2026-11/certificate").json()["state"] == "sealed"
    proof = client.get(f"{base}/2026-11/certificate", headers=ada.headers).json()
    assert (proof["valid"], proof["mismatches"]) == (True, [])
    assert client.get(f"{base}/2026-11/certificate", headers=stranger.headers).status_code == 404
    assert len(client.get(base, headers=ada.headers).json()["closes"]) == 1


def test_held_adjustments_are_approved_in_bulk_by_someone_else(over, client, monkeypatch):
    forget_cached_keys()
    monkeypatch.setattr(clock, "now", over.clock)
    from counters.services.adjustments import create_adjustment

    asked = create_adjustment(
        tenant_id=over.acme.pk,
        metric="requests",
        customer_ref="c1",
        period_start=over.now,
        delta=Decimal(2),
        reason="correction",
        actor="ada",
        now=over.now,
    )
    body = {"adjustmentIds": [str(asked.pk)], "reason": "checked"}
    path = "/v1/reconciliation/adjustments"
    weak = make_caller(over.acme, scopes=["project:write"])
    strong = make_caller(over.acme, scopes=["reconciliation:write"])
    refused = client.post(path, body, content_type="application/json", headers=weak.headers)
    assert refused.status_code == 403
    done = client.post(path, body, content_type="application/json", headers=strong.headers)
    assert (done.json()["applied"], done.json()["failed"]) == (1, 0)
