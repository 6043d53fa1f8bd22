"""Adjustments: four eyes, one effect, one counter-entry."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test import Client

from counters.models import Adjustment, Counter
from counters.services import set_period_state
from counters.services.adjustments import Approver, approve_adjustment, approve_adjustments
from counters.services.recompute import Scope, differences
from ledger.models import Metric
from stripemeter.lib import clock
from stripemeter.lib.periods import utc_month
from stripemeter.tenancy.models import AuditEntry
from tests.builders.ledger import fold, make_event, make_metric, store
from tests.builders.tenancy import Caller, make_caller

URL = "/v1/adjustments"


@pytest.fixture
def second(acme: Caller) -> Caller:
    return make_caller(acme.tenant)


def body(**more: Any) -> dict[str, Any]:
    return {
        "metric": "api_calls",
        "customerRef": "cus_1",
        "periodStart": utc_month(clock.now()).start.date().isoformat(),
        "delta": 5,
        "reason": "correction",
        **more,
    }


def post(caller: Caller, path: str = "", payload: Any = None, **headers: str) -> Any:
    return Client().post(
        URL + path, payload or {}, "application/json", headers={**caller.headers, **headers}
    )


def make(caller: Caller, **more: Any) -> str:
    answer = post(caller, "", body(**more))
    assert answer.status_code == 201, answer.content
    made: str = answer.json()["id"]
    return made


def use(caller: Caller, quantity: int = 10) -> None:
    now = clock.now()
    store(caller.tenant, make_event(quantity, ts=now, idempotencyKey=str(uuid4())), now=now)
    fold(now)


def usage(caller: Caller) -> dict[str, Any]:
    query = {"tenantId": caller.tenant.key, "customerRef": "cus_1"}
    answer = Client().get("/v1/usage/current", query, headers=caller.headers).json()
    found: dict[str, Any] = answer["metrics"][0]
    return found


def consistent(caller: Caller) -> bool:
    ids = tuple(Metric.objects.filter(tenant=caller.tenant).values_list("pk", flat=True))
    month = utc_month(clock.now())
    return differences(Scope(caller.tenant.pk, ids, month.start, month.end)) == []


def test_an_adjustment_counts_from_its_approval_on(acme: Caller, second: Caller) -> None:
    use(acme)
    made = make(acme, delta="2.5", note="goodwill")
    assert usage(acme)["current"] == 10
    before = Counter.objects.get().revision
    assert post(second, f"/{made}/approve").json() == {"ok": True}
    shown = usage(acme)
    assert (shown["current"], shown["folded"], shown["adjustments"]) == (12.5, 10, 2.5)
    assert Counter.objects.get().revision > before
    assert post(second, f"/{made}/approve").json() == {"ok": True, "already": True}
    assert usage(acme)["current"] == 12.5
    assert consistent(acme)


def test_nobody_approves_what_they_asked_for(acme: Caller, second: Caller) -> None:
    use(acme)
    made = make(acme)
    refused = post(acme, f"/{made}/approve")
    assert (refused.status_code, refused.json()["code"]) == (403, "four_eyes")
    acme.tenant.single_operator = True
    acme.tenant.save()
    assert post(acme, f"/{made}/approve").json() == {"ok": True}


def test_above_the_cap_an_owner_must_approve(acme: Caller, second: Caller) -> None:
    use(acme)
    acme.tenant.adjustment_cap = Decimal(100)
    acme.tenant.save()
    made = make(acme, delta=-101)
    assert post(second, f"/{made}/approve").json()["code"] == "owner_required"
    owner = Approver("user:olga", is_owner=True)
    assert approve_adjustment(
        tenant_id=acme.tenant.pk, adjustment_id=UUID(made), approver=owner, now=clock.now()
    )
    assert usage(acme)["current"] == -91


def test_a_revert_takes_the_effect_away_exactly_once(acme: Caller, second: Caller) -> None:
    use(acme)
    made = make(acme, delta=7)
    post(second, f"/{made}/approve")
    answer = post(second, f"/{made}/revert", {"note": "mistake"})
    assert answer.json()["ok"] is True
    assert usage(acme)["current"] == 10
    entry = Adjustment.objects.get(id=answer.json()["id"])
    assert (entry.delta, entry.reason, entry.status) == (-7, "reversal", "approved")
    assert str(entry.parent_id) == made
    again = post(second, f"/{made}/revert")
    assert (again.status_code, again.json()["error"]) == (
        400, "Only approved adjustments can be reverted",
    )  # fmt: skip
    assert post(second, f"/{made}/approve").json()["error"] == "Already reverted"
    assert usage(acme)["current"] == 10
    assert consistent(acme)


def test_a_pending_one_cannot_be_reverted_and_a_rejected_one_cannot_be_approved(
    acme: Caller, second: Caller
) -> None:
    use(acme)
    made = make(acme)
    assert post(second, f"/{made}/revert").status_code == 400
    assert post(second, f"/{made}/reject", {"note": "no"}).json() == {"ok": True}
    assert post(second, f"/{made}/reject").json()["already"] is True
    assert post(second, f"/{made}/approve").json()["error"] == "Already rejected"
    assert usage(acme)["current"] == 10


def test_a_request_is_made_once(acme: Caller) -> None:
    use(acme)
    one = make(acme, requestId="r-1")
    assert make(acme, requestId="r-1") == one
    other = post(acme, "", body(requestId="r-1", delta=6))
    assert (other.status_code, other.json()["code"]) == (409, "request_id_reused")
    first = post(acme, "", body(), **{"Idempotency-Key": "h"}).json()["id"]
    assert post(acme, "", body(), **{"Idempotency-Key": "h"}).json()["id"] == first
    assert Adjustment.objects.count() == 2


def test_a_counter_without_events_can_be_adjusted(acme: Caller, second: Caller) -> None:
    make_metric(acme.tenant)
    made = make(acme, delta=3)
    post(second, f"/{made}/approve")
    assert usage(acme)["current"] == 3
    assert consistent(acme)
    use(acme)
    assert usage(acme)["current"] == 13


@pytest.mark.parametrize("aggregation", ["max", "min", "last", "unique", "average"])
def test_metrics_that_do_not_add_up_are_refused_with_the_reason(
    acme: Caller, aggregation: str
) -> None:
    make_metric(acme.tenant, aggregation=aggregation)
    answer = post(acme, "", body())
    assert (answer.status_code, answer.json()["code"]) == (409, "adjustment_meaningless")


@pytest.mark.parametrize(
    "change",
    [
        {"metric": "unknown"},
        {"delta": 0},
        {"delta": "NaN"},
        {"delta": 1e30},
        {"delta": "0.0000000000001"},
        {"reason": "late_event"},
        {"reason": "reversal"},
        {"periodStart": "2026-13-01"},
        {"customerRef": ""},
        {"note": "x" * 1001},
        {"status": "approved"},
    ],
)
def test_a_malformed_request_is_refused(acme: Caller, change: dict[str, Any]) -> None:
    make_metric(acme.tenant)
    assert post(acme, "", body(**change)).status_code == 400
    assert not Adjustment.objects.exists()


def test_a_frozen_period_takes_none_and_a_held_one_is_carried_forward(
    acme: Caller, second: Caller
) -> None:
    use(acme)
    now = clock.now()
    last = utc_month(utc_month(now).start - timedelta(days=1))
    held = make(acme, periodStart=last.start.date().isoformat(), delta=4)
    set_period_state(
        tenant_id=acme.tenant.pk, customer_ref="cus_1", period_start=last.start, state="frozen",
        now=now,
    )  # fmt: skip
    refused = post(acme, "", body(periodStart=last.start.date().isoformat()))
    assert (refused.status_code, refused.json()["code"]) == (409, "period_frozen")
    assert post(second, f"/{held}/approve").json()["code"] == "period_frozen"
    answer = post(second, f"/{held}/approve", {"resolution": "carryForward"})
    assert answer.status_code == 200
    again = post(second, f"/{held}/approve", {"resolution": "carryForward"})
    assert again.json() == answer.json()
    assert usage(acme)["current"] == 14
    assert not Counter.objects.filter(period_start=last.start).exists()
    assert consistent(acme)


def test_foreign_adjustments_are_as_unknown_as_none(acme: Caller, globex: Caller) -> None:
    use(acme)
    made = make(acme)
    for path in (f"/{made}", f"/{uuid4()}"):
        assert Client().get(URL + path, headers=globex.headers).status_code == 404
        for verb in ("approve", "reject", "revert"):
            assert post(globex, f"{path}/{verb}").status_code == 404
    assert Client().get(URL, headers=globex.headers).json()["adjustments"] == []
    assert Client().get(f"{URL}/nonsense", headers=acme.headers).status_code == 400


def test_the_list_is_filtered_and_paged(acme: Caller) -> None:
    use(acme)
    made = [make(acme, delta=n) for n in (1, 2, 3)]
    make_metric(acme.tenant, "other")
    make(acme, metric="other")
    get = lambda **query: Client().get(URL, query, headers=acme.headers).json()  # noqa: E731
    assert len(get()["adjustments"]) == 4
    first = get(metric="api_calls", limit=2)
    rest = get(metric="api_calls", limit=2, cursor=first["nextCursor"])
    ids = [row["id"] for row in first["adjustments"] + rest["adjustments"]]
    assert ids == made[::-1]
    assert rest["nextCursor"] is None
    assert get(status="approved")["adjustments"] == []
    assert get(periodStart="2030-01-01")["adjustments"] == []
    assert Client().get(URL, {"status": "x"}, headers=acme.headers).status_code == 400
    row = Client().get(f"{URL}/{made[0]}", headers=acme.headers).json()
    assert (row["delta"], row["status"], row["metric"]) == ("1", "pending", "api_calls")


def test_each_step_leaves_one_audit_row(acme: Caller, second: Caller) -> None:
    use(acme)
    made = make(acme)
    post(second, f"/{made}/approve")
    post(second, f"/{made}/approve")
    post(second, f"/{made}/revert")
    rows = AuditEntry.objects.filter(object_type="adjustment").order_by("sequence")
    assert [row.action for row in rows] == [
        "adjustment.created", "adjustment.approved", "adjustment.reverted",
    ]  # fmt: skip


def test_bulk_approval_says_what_failed(acme: Caller, second: Caller) -> None:
    use(acme)
    good, own = make(acme), make(second)
    unknown = uuid4()
    outcome = approve_adjustments(
        tenant_id=acme.tenant.pk,
        adjustment_ids=[UUID(good), UUID(own), unknown],
        approver=Approver(f"key:{second.key.lookup}"),
        now=clock.now(),
    )
    assert outcome.applied == 1
    assert outcome.failed == {own: "four_eyes", str(unknown): "not_found"}


def test_two_approvals_at_once_count_once(transactional_db: None) -> None:
    acme = make_caller("acme")
    use(acme)
    made = UUID(make(acme, delta=5))

    def approve(number: int) -> bool:
        try:
            return approve_adjustment(
                tenant_id=acme.tenant.pk,
                adjustment_id=made,
                approver=Approver(f"key:{number}"),
                now=clock.now(),
            )
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(approve, range(8))) == 1
    assert Counter.objects.get().adjusted == 5
