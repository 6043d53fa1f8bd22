"""Replay: a dry run predicts an apply, a second apply finds nothing."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.test import Client

from counters import locks, tasks
from counters.models import Counter, DailyRollup, Verification
from counters.services import replay, set_calendar, set_period_state
from counters.services.verify import verify_counters
from ledger.models import Operation
from stripemeter.lib import clock
from stripemeter.lib.errors import Conflict
from stripemeter.lib.periods import utc_month
from stripemeter.tenancy.models import AuditEntry
from tests.builders.catalogue import Catalogue
from tests.builders.ledger import counter_rows, fold, make_event, make_metric, store
from tests.builders.shared import bad_inputs
from tests.builders.tenancy import Caller, make_caller

URL = "/v1/replay"
AGGREGATIONS = ("sum", "count", "max", "min", "last", "unique")


def use(caller: Caller, quantity: int = 10, **more: Any) -> None:
    now = clock.now()
    more = {"ts": now - timedelta(minutes=5), "idempotencyKey": str(uuid4()), **more}
    store(caller.tenant, make_event(quantity, **more), now=now)


def corrupt(caller: Caller, **values: Any) -> None:
    Counter.objects.filter(tenant_id=caller.tenant.pk).update(**values)


def post(caller: Caller, **body: Any) -> Any:
    return Client().post(
        URL, {"tenantId": caller.tenant.key, **body}, "application/json", headers=caller.headers
    )


def full(mode: str, **more: Any) -> dict[str, Any]:
    return {"metrics": ["api_calls"], "since": "-PT24H", "until": "now", "mode": mode, **more}


def checksum() -> list[Any]:
    return [list(model.objects.order_by("pk").values()) for model in (Counter, DailyRollup)]


def test_a_dry_run_says_what_an_apply_then_does(acme: Caller, globex: Caller) -> None:
    for caller in (acme, globex):
        use(caller)
        fold(clock.now())
    right = counter_rows(acme.tenant)
    corrupt(acme, sum=4, max=99)
    corrupt(globex, sum=4)
    before = checksum()
    dry = post(acme, **full("dry-run")).json()
    assert checksum() == before
    assert dry["changes"] == {
        "api_calls": {
            "eventsFound": 1, "lateEvents": 0, "counterDelta": 6, "affectedCustomers": ["cus_1"],
        }
    }  # fmt: skip
    assert dry["summary"] == "Would update 1 counters with +6 total delta"
    assert "applied" not in dry
    applied = post(acme, **full("apply")).json()
    assert applied["applied"] is True
    assert (applied["changes"], applied["counters"]) == (dry["changes"], dry["counters"])
    assert applied["summary"] == "Updated 1 counters with +6 total delta"
    assert counter_rows(acme.tenant) == right
    assert Counter.objects.get(tenant_id=globex.tenant.pk).sum == 4
    assert AuditEntry.objects.filter(action="replay.applied").count() == 1


def test_a_second_apply_changes_not_a_byte(acme: Caller) -> None:
    use(acme)
    fold(clock.now())
    corrupt(acme, sum=4)
    assert post(acme, **full("apply")).status_code == 200
    before = checksum()
    again = post(acme, **full("apply")).json()
    assert again["summary"] == "Updated 0 counters with +0 total delta"
    assert checksum() == before


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("damage", ["counter", "rollup", "lost"])
def test_any_damage_of_any_aggregation_is_found_and_repaired(
    acme: Caller, aggregation: str, damage: str
) -> None:
    make_metric(acme.tenant, aggregation=aggregation)
    use(acme, 10, resourceId="a")
    use(acme, 7, resourceId="b")
    fold(clock.now())
    right, rolled = counter_rows(acme.tenant), list(DailyRollup.objects.values())
    if damage == "counter":
        column = {"count": "event_count", "unique": "unique_count"}.get(aggregation, aggregation)
        corrupt(acme, **{column: 1_000})
    elif damage == "rollup":
        DailyRollup.objects.update(sum=1_000)
    else:
        Counter.objects.all().delete()
        DailyRollup.objects.all().delete()
    report = post(acme, **full("apply")).json()
    assert report["summary"].startswith("Updated 1 counters")
    assert counter_rows(acme.tenant) == right
    assert list(DailyRollup.objects.values()) == rolled


def test_an_adjusted_total_that_drifted_is_set_right(acme: Caller) -> None:
    use(acme)
    fold(clock.now())
    corrupt(acme, adjusted=5)
    assert post(acme, **full("dry-run")).json()["changes"]["api_calls"]["counterDelta"] == -5
    post(acme, **full("apply"))
    assert Counter.objects.get().adjusted == 0


def test_pending_events_are_no_difference_and_late_ones_stay_late(acme: Caller) -> None:
    use(acme)
    fold(clock.now())
    use(acme, 3, ts=clock.now() - timedelta(hours=60))
    now = clock.now()
    if utc_month(now - timedelta(hours=60)) != utc_month(now):
        pytest.skip("the late event would lie in another month")
    body = {"metrics": ["api_calls"], "since": "-P4D", "until": "now", "mode": "apply"}
    assert post(acme, **body).json()["changes"]["api_calls"]["counterDelta"] == 0
    fold(now)
    answer = post(acme, **body).json()["changes"]["api_calls"]
    assert (answer["eventsFound"], answer["lateEvents"], answer["counterDelta"]) == (2, 1, 0)
    assert Counter.objects.get().adjusted == 3


def test_the_short_form_covers_everything(acme: Caller) -> None:
    use(acme)
    use(acme, ts=clock.now() - timedelta(days=400), metric="other")
    fold(clock.now())
    corrupt(acme, sum=1)
    dry = post(acme, dryRun=True).json()
    assert (dry["mode"], sorted(dry["changes"])) == ("dry-run", ["api_calls", "other"])
    assert dry["summary"] == "Would update 2 counters with +18 total delta"
    assert post(acme, dryRun=False).json()["applied"] is True
    assert post(acme).json()["code"] == "invalid_request"
    assert post(acme, dryRun=True, **full("apply")).status_code == 400


def test_frozen_counters_are_shown_and_left_alone(acme: Caller) -> None:
    use(acme)
    set_period_state(
        tenant_id=acme.tenant.pk, customer_ref="cus_1", period_start=clock.now(), state="frozen",
        now=clock.now(),
    )  # fmt: skip
    corrupt(acme, sum=4)
    answer = post(acme, **full("apply")).json()
    assert (answer["frozenSkipped"], answer["summary"][:17]) == (1, "Updated 0 counter")
    assert Counter.objects.get().sum == 4


def test_customers_and_windows_narrow_a_replay(acme: Caller) -> None:
    for customer in ("cus_1", "cus_2"):
        use(acme, customer=customer)
        use(acme, customer=customer, ts=clock.now() - timedelta(days=100))
    fold(clock.now())
    corrupt(acme, sum=1)
    answer = post(acme, **full("apply", customers=["cus_2"])).json()
    assert answer["changes"]["api_calls"]["affectedCustomers"] == ["cus_2"]
    assert sorted(Counter.objects.values_list("sum", flat=True)) == [1, 1, 1, 10]


def test_parallel_applies_run_one_at_a_time(
    acme: Caller, second_connection: Callable[..., Any]
) -> None:
    use(acme)
    other = second_connection()
    other.execute("SELECT pg_advisory_lock(%s, %s)", [locks._REPLAY_CLASS, acme.tenant.pk])
    answer = post(acme, **full("apply"))
    assert (answer.status_code, answer.json()["code"]) == (409, "replay_running")
    assert post(acme, **full("dry-run")).status_code == 200


def test_an_apply_beside_live_ingest_and_folds_loses_nothing(transactional_db: None) -> None:
    acme = make_caller("acme")
    use(acme)
    fold(clock.now())

    def feed() -> None:
        try:
            for _ in range(40):
                use(acme, 1)
                fold(clock.now())
        finally:
            connection.close()

    def apply() -> None:
        try:
            now = clock.now()
            for _ in range(15):
                with transaction.atomic():
                    locks.fold_lock(acme.tenant.pk)
                    Counter.objects.update(sum=0)
                window = replay.Window(acme.tenant.pk, (), now - timedelta(days=1), now)
                replay.apply_replay(window, actor="t", now=now)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(feed), pool.submit(apply)]:
            future.result(timeout=120)
    fold(clock.now())
    assert Counter.objects.get().sum == 50
    assert verify_counters(now=clock.now()).count == 0


def test_a_long_replay_is_an_operation_with_progress(acme: Caller, monkeypatch: Any) -> None:
    for days in (0, 40, 80):
        use(acme, ts=clock.now() - timedelta(days=days, minutes=5))
    fold(clock.now())
    corrupt(acme, sum=1)
    monkeypatch.setattr(replay, "SYNC_EVENTS_MAX", 0)
    answer = post(acme, dryRun=False)
    assert answer.status_code == 202
    busy = post(acme, dryRun=False)
    assert (busy.status_code, busy.json()["code"]) == (409, "replay_running")
    now = clock.now()
    window = replay.Window(acme.tenant.pk, (), now - timedelta(days=1), now)
    with pytest.raises(Conflict):
        replay.apply_replay(window, actor="t", now=now)
    tasks.replay()
    path = f"/v1/operations/{answer.json()['operationId']}"
    shown = Client().get(path, headers=acme.headers).json()
    assert shown["status"] == "completed"
    assert shown["progress"]["done"] == shown["progress"]["total"] >= 3
    assert shown["result"]["summary"] == "Updated 3 counters with +27 total delta"
    assert set(Counter.objects.values_list("sum", flat=True)) == {10}


def test_a_failed_operation_keeps_what_it_did_and_goes_on(acme: Caller, monkeypatch: Any) -> None:
    for days in (0, 40, 80):
        use(acme, ts=clock.now() - timedelta(days=days, minutes=5))
    fold(clock.now())
    corrupt(acme, sum=1)
    monkeypatch.setattr(replay, "SYNC_EVENTS_MAX", 0)
    answer = post(acme, dryRun=False).json()
    monkeypatch.setenv("STRIPEMETER_FAULT_POINTS", "replay.rebuilt=raise@2")
    tasks.replay()
    monkeypatch.delenv("STRIPEMETER_FAULT_POINTS")
    operation = Operation.objects.get()
    assert operation.status == "failed"
    path = f"/v1/operations/{answer['operationId']}/resume"
    resumed = Client().post(path, {}, "application/json", headers=acme.headers)
    assert resumed.json()["status"] == "pending"
    tasks.replay()
    operation.refresh_from_db()
    assert operation.status == "completed"
    assert operation.result["summary"] == "Updated 3 counters with +27 total delta"


def test_verify_counters_reports_keeps_and_repairs(acme: Caller, globex: Caller) -> None:
    for caller in (acme, globex):
        use(caller)
    fold(clock.now())
    assert verify_counters(now=clock.now()).count == 0
    corrupt(globex, sum=4)
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("verify_counters", stdout=out)
    assert "globex api_calls cus_1" in out.getvalue()
    assert "counter 4, ledger 10" in out.getvalue()
    assert Verification.objects.order_by("-pk").first().differences == 1  # type: ignore[union-attr]
    assert verify_counters(now=clock.now(), sample=1, tenant_key="acme").count == 0
    call_command("verify_counters", "--repair", stdout=StringIO())
    call_command("verify_counters", "--sample", "5", stdout=out)
    assert tasks.verify() == 0


@pytest.mark.parametrize("case", bad_inputs("replay"), ids=lambda case: case["id"])
def test_published_bad_replays(acme: Caller, globex: Caller, case: dict[str, Any]) -> None:
    use(acme)
    use(globex)
    fold(clock.now())
    before = checksum()
    for answer in Catalogue(acme, globex).send(case):
        assert answer.status_code in case["expect_status"], answer.content
        if answer.status_code >= 400:
            assert {"code", "message", "requestId"} <= answer.json().keys()
    # Nothing was wrong with the counters, so that no case may have changed one.
    assert checksum() == before
    assert not Operation.objects.exists()


def test_a_replay_reports_rightly_where_a_calendar_cuts_and_the_first_event_comes_late(
    acme: Caller,
) -> None:
    """Found by the state machine: the comparison under the lock missed such a period."""
    now = clock.now()
    anchor = now - timedelta(days=20)
    set_calendar(
        tenant_id=acme.tenant.pk, customer_ref="cus_1", anchor=anchor, interval="week",
        actor="t", now=now,
    )  # fmt: skip
    for days in (15, 3):
        use(acme, ts=now - timedelta(days=days))
    fold(now)
    Counter.objects.filter(period_start=anchor).update(sum=4)
    dry = post(acme, **full("dry-run", since="-P30D")).json()
    assert dry["changes"]["api_calls"]["counterDelta"] == 6
    assert post(acme, **full("apply", since="-P30D")).json()["changes"] == dry["changes"]
