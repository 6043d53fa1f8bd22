"""Makes one cause of drift happen in the demo, so that an operator can meet it.

Works on the local sandbox only: its control API scripts what goes wrong, and a little
usage of one demo customer is pushed through it.
"""

import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import uuid_utils
from django.conf import settings
from django.db.models import F

from billing.models import CustomerLink, PriceMapping, Push, PushCursor
from billing.services.mappings import Actor, create_mapping
from billing.services.running import run_pushes
from billing.stripe.readback import (
    change_price,
    make_customer,
    make_meter,
    make_prices,
    subscribe,
)
from counters.models import Counter
from counters.services.fold import fold_everything
from counters.services.period_states import set_period_state
from ledger.services.ingest import ingest
from ledger.wire import Columns, StrictEvent, microseconds
from reconciliation.facts import ACKNOWLEDGED, Cause
from stripemeter.lib import strictjson
from stripemeter.lib.periods import utc_month

EVENTS = "/v1/billing/meter_events"
UNITS = 7
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class NotTheDemo(Exception):
    """Stripe is not the local sandbox, or there is nothing to work on."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The cursor that something will happen to, and the sandbox's control API."""

    mapping: PriceMapping
    push: Push
    now: datetime
    clock: Callable[[], datetime]

    def control(self, method: str, name: str, body: dict[str, Any] | None = None) -> Any:
        """One call of the sandbox's control API."""
        request = urllib.request.Request(  # noqa: S310  loopback, checked in `stage_of`
            f"{settings.STRIPE_API_BASE}/_sandbox/{name}",
            method=method,
            data=strictjson.dumps(body or {}) if method != "GET" else None,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return strictjson.loads(answer.read())

    def fault(self, kind: str, **fields: Any) -> None:
        """Script a fault for the next meter event of the customer."""
        self.control(
            "POST",
            "faults",
            {"kind": kind, "path": EVENTS, "customer": self.push.stripe_customer_id, **fields},
        )

    def foreign(self, value: Decimal, at: datetime) -> None:
        """Usage that nobody of ours sent."""
        self.control(
            "POST",
            "foreign",
            {
                "event_name": self.push.target,
                "customer": self.push.stripe_customer_id,
                "value": format(value, "f"),
                "timestamp": int(at.timestamp()),
                "world": self.world(),
            },
        )

    def world(self) -> str:
        """The sandbox's name of the account's side that the push is on."""
        known = str(self.control("GET", "journal")["entries"][0]["world"])
        return f"{'live' if self.push.mode == 'live' else 'test'}:{known.partition(':')[2]}"

    def use(self, units: int = UNITS) -> None:
        """Usage of the customer that makes so many units at Stripe, a second ago."""
        self.use_exactly(units * int(max(self.mapping.unit_factor, 1)))

    def use_exactly(self, quantity: int) -> None:
        """Usage of the customer in units of the metric, a second ago."""
        self.use_at(self.now - timedelta(seconds=1), quantity, customer=self.push.customer_ref)

    def use_at(self, at: datetime, quantity: int, *, customer: str) -> None:
        """Usage of a customer in units of the metric, at an instant."""
        columns = Columns()
        columns.add(
            StrictEvent(
                metric=self.mapping.metric.name,
                customer_ref=customer,
                resource_id=None,
                quantity=str(quantity),
                ts_us=microseconds(at),
                meta=None,
                source="system",
                key=f"demo-drift-{uuid_utils.uuid7()}",
            )
        )
        ingest(
            tenant_id=self.push.tenant_id,
            columns=columns,
            now=self.now,
            future_tolerance=timedelta(hours=1),
            meta_bytes_max=4_096,
        )
        fold_everything(now=self.now)

    def send(self) -> None:
        """Push what there is."""
        run_pushes(clock=self.clock, seconds=20, tenant_id=self.push.tenant_id)

    def cursor(self) -> dict[str, Any]:
        """The cursor's key as filter arguments."""
        return {
            "tenant_id": self.push.tenant_id,
            "mapping_id": self.push.mapping_id,
            "customer_ref": self.push.customer_ref,
            "period_start": self.push.period_start,
            "mode": self.push.mode,
        }


def stage_of(tenant_id: int, clock: Callable[[], datetime]) -> Stage:
    """The newest acknowledged live push of a summed metric. Raises `NotTheDemo`."""
    if settings.PRODUCTION or urlsplit(settings.STRIPE_API_BASE).hostname not in _LOOPBACK:
        raise NotTheDemo("Stripe is not the local sandbox: nothing is injected there.")
    mappings = PriceMapping.objects.filter(
        tenant_id=tenant_id, active=True, aggregation="sum", push_semantics="increment"
    ).select_related("metric")
    known = {mapping.pk: mapping for mapping in mappings}
    push = (
        Push.objects.filter(
            tenant_id=tenant_id, mapping_id__in=known, mode="live", state=ACKNOWLEDGED, delta__gt=0
        )
        .order_by("-stamped_at")
        .first()
    )
    if push is None:
        raise NotTheDemo("No usage was pushed yet: run `manage.py push` first.")
    return Stage(known[push.mapping_id], push, clock(), clock)


def _told(stage: Stage, kind: str, **fields: Any) -> str:
    stage.fault(kind, **fields)
    stage.use()
    stage.send()
    return f"{UNITS} units of {stage.push.customer_ref} were pushed under the fault {kind}"


def _in_flight(stage: Stage) -> str:
    return _told(stage, "error_500_before", count=None)


def _settling(stage: Stage) -> str:
    return _told(stage, "summary_lag", seconds=600.0)


def _unpushed(stage: Stage) -> str:
    stage.send()
    PushCursor.objects.filter(**stage.cursor()).update(
        held_at=stage.now, held_reason="held by demo_drift"
    )
    stage.use()
    return f"the cursor of {stage.push.customer_ref} is held, and {UNITS} units came in"


def _lost(stage: Stage) -> str:
    return _told(stage, "lose")


def _duplicated(stage: Stage) -> str:
    return _told(stage, "duplicate")


def _foreign(stage: Stage) -> str:
    stage.foreign(Decimal("3.25"), stage.now - timedelta(minutes=1))
    return f"somebody else wrote 3.25 units for {stage.push.customer_ref}"


#: The sandbox reports rejected events in windows of ten seconds, as Stripe's examples do.
REPORT_SECONDS = 12


def _rejected(stage: Stage) -> str:
    said = _told(stage, "async_reject")
    time.sleep(REPORT_SECONDS)
    return said


def _wrong_customer(stage: Stage) -> str:
    other = make_customer(mode="live", name=f"{stage.push.customer_ref} (new)")
    CustomerLink.objects.update_or_create(
        tenant_id=stage.push.tenant_id,
        customer_ref=stage.push.customer_ref,
        mode="live",
        defaults={
            "stripe_customer_id": other,
            "created_at": stage.now,
            "created_by": "demo_drift",
        },
    )
    return f"{stage.push.customer_ref} is linked to {other} now"


def _counter(stage: Stage) -> str:
    Counter.objects.filter(
        tenant_id=stage.push.tenant_id,
        metric_id=stage.mapping.metric_id,
        customer_ref=stage.push.customer_ref,
        period_start=stage.push.period_start,
    ).update(sum=F("sum") + 1)
    return f"the counter of {stage.push.customer_ref} was changed by hand"


def _freeze(stage: Stage) -> str:
    stage.send()
    set_period_state(
        tenant_id=stage.push.tenant_id,
        customer_ref=stage.push.customer_ref,
        period_start=stage.push.period_start,
        state="frozen",
        now=stage.now,
        actor="demo_drift",
    )
    stage.use()
    return f"the period of {stage.push.customer_ref} is frozen, and {UNITS} units came late"


def _out_of_window(stage: Stage) -> str:
    return _told(stage, "bad_request", options={"code": "timestamp_too_far_in_past"})


def _straddle(stage: Stage) -> str:
    said = _told(stage, "lose")
    yesterday = stage.now - timedelta(days=1)
    stage.foreign(Decimal(UNITS), yesterday)
    return f"{said}, and stand on {yesterday:%Y-%m-%d} instead"


def _recreated(stage: Stage) -> str:
    stage.send()
    made = make_meter(mode="live", event_name=stage.push.target, replace=True)
    return f"the meter of {stage.push.target} was archived and made anew as {made}"


CARRY_METRIC, CARRY_FACTOR = "demo_thousands", 1_000


def _carry(stage: Stage) -> str:
    known = PriceMapping.objects.filter(
        tenant_id=stage.push.tenant_id, metric__name=CARRY_METRIC, active=True
    )
    mapping = known.select_related("metric").first()
    if mapping is None:
        make_meter(mode="live", event_name=CARRY_METRIC)
        mapping = create_mapping(
            actor=Actor(stage.push.tenant_id, "demo_drift", stage.now),
            metric=CARRY_METRIC,
            values={
                "aggregation": "sum",
                "stripe_account": stage.mapping.stripe_account,
                "price_id": stage.mapping.price_id,
                "unit_factor": CARRY_FACTOR,
                "value_decimals": 0,
            },
        )
    stage = replace(stage, mapping=mapping)
    stage.use_exactly(CARRY_FACTOR + CARRY_FACTOR // 2)
    stage.send()
    return f"1,500 {CARRY_METRIC} of {stage.push.customer_ref} came in, sold by the thousand"


REPRICED_METRIC, REPRICED_CUSTOMER = "demo_repriced", "cust_repriced"
DAY = timedelta(days=1)


def _price_change(stage: Stage) -> str:
    """Usage of last month's third day from the end, under a price that changed the day after.

    That day is young enough for Stripe's 35 days whenever the demo runs.
    """
    month = utc_month(utc_month(stage.now).start - DAY)
    used, changed = month.end - 2.5 * DAY, month.end - 2 * DAY
    if stage.now < month.end + timedelta(hours=4):
        raise NotTheDemo("Last month's invoice is not final yet: try again in four hours.")
    meter = make_meter(mode="live", event_name=REPRICED_METRIC, replace=True)
    first, second = make_prices(mode="live", meter_id=meter, cents=[5, 7])
    world = stage.world()
    past = {"world": world, "frozen_time": int(month.start.timestamp())}
    test_clock = stage.control("POST", "clocks", past)["id"]
    customer = make_customer(mode="live", name=REPRICED_CUSTOMER, test_clock=test_clock)
    item = subscribe(mode="live", customer=customer, price=first)

    def advance(moment: datetime) -> None:
        body = {"world": world, "frozen_time": int(moment.timestamp())}
        stage.control("POST", f"clocks/{test_clock}", body)

    CustomerLink.objects.update_or_create(
        tenant_id=stage.push.tenant_id, customer_ref=REPRICED_CUSTOMER, mode="live",
        defaults={
            "stripe_customer_id": customer, "created_at": stage.now, "created_by": "demo_drift"
        },
    )  # fmt: skip
    actor = Actor(stage.push.tenant_id, "demo_drift", stage.now)
    values = {"aggregation": "sum", "stripe_account": stage.mapping.stripe_account}
    before = create_mapping(
        actor=actor, metric=REPRICED_METRIC,
        values=values | {"price_id": first, "effective_to": changed},
    )  # fmt: skip
    create_mapping(
        actor=actor, metric=REPRICED_METRIC,
        values=values | {"price_id": second, "effective_from": changed},
    )  # fmt: skip
    advance(changed - timedelta(minutes=1))
    stage = replace(stage, mapping=before)
    stage.use_at(used, UNITS, customer=REPRICED_CUSTOMER)
    stage.send()
    # It is told as it would have been told that day, not after the invoice was final.
    told = changed - timedelta(minutes=1)
    Push.objects.filter(tenant_id=stage.push.tenant_id, mapping_id=before.pk).update(
        created_at=told, first_attempt_at=told, settled_at=told
    )
    advance(changed)
    change_price(mode="live", item=item, price=second)
    advance(month.end + timedelta(hours=3))
    return (
        f"{UNITS} units of {REPRICED_CUSTOMER} were pushed before its price changed on"
        f" {changed:%Y-%m-%d}, and the invoice of that month is final"
    )


INJECTIONS: dict[str, Callable[[Stage], str]] = {
    Cause.IN_FLIGHT: _in_flight,
    Cause.SETTLING: _settling,
    Cause.UNPUSHED: _unpushed,
    Cause.LOST_AT_STRIPE: _lost,
    Cause.DUPLICATED: _duplicated,
    Cause.FOREIGN_WRITER: _foreign,
    Cause.ASYNC_REJECTED: _rejected,
    Cause.WRONG_CUSTOMER: _wrong_customer,
    Cause.COUNTER_MISMATCH: _counter,
    Cause.LATE_AFTER_FREEZE: _freeze,
    Cause.OUT_OF_WINDOW: _out_of_window,
    Cause.BOUNDARY_STRADDLE: _straddle,
    Cause.METER_RECREATED: _recreated,
    Cause.ROUNDING_CARRY: _carry,
    Cause.PRICE_CHANGE_LOSS: _price_change,
}
#: Causes that no script makes happen: the edges that no other cause covers.
NOT_IN_THE_DEMO = frozenset(set(Cause) - {Cause(name) for name in INJECTIONS})
