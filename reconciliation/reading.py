"""Reads Stripe for a run: one GET per customer and meter, grouped by day.

Bounds that are no UTC midnight cost one more GET each, by the minute. Reads are spaced
to the account's rate and counted. Threads speak to Stripe only, never to the database.
"""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from decimal import Decimal

from django.conf import settings

from billing.stripe.client import KeyMissing, KeyOfWrongMode
from billing.stripe.errors import StripeRefused, StripeUnavailable
from billing.stripe.meters import read_days, read_total
from billing.stripe.readback import (
    Invoices,
    MetersOfName,
    Rejection,
    invoices_of,
    meters_by_name,
    read_hours,
    rejections_of,
)
from billing.stripe.usage_records import ItemPeriod, read_item_periods
from reconciliation.selectors.targets import Target
from stripemeter.lib.periods import Period

DAY = timedelta(days=1)
#: A run reads again this often what was not available.
TRIES = 3
WAIT_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Lane:
    """One customer on one meter: what a read is about."""

    mode: str
    account: str
    event_name: str
    customer: str
    #: Legacy usage records: ``event_name`` is the subscription item.
    legacy: bool = False


@dataclass(slots=True)
class Wanted:
    """The days that one lane is read for."""

    first: date
    last: date
    edges: set[Period] = field(default_factory=set)


@dataclass(slots=True)
class Reading:
    """What Stripe answered for one lane."""

    meter_id: str = ""
    former: tuple[str, ...] = ()
    days: dict[date, Decimal] = field(default_factory=dict)
    edges: dict[Period, Decimal] = field(default_factory=dict)
    #: Of a legacy item: Stripe sums its records by billing period only.
    periods: list[ItemPeriod] = field(default_factory=list)
    #: Why there is nothing to compare with.
    problem: str = ""


def lane_of(target: Target) -> Lane | None:
    """The lane of ``target``; None if no customer is linked."""
    if target.stripe_customer is None:
        return None
    legacy = target.semantics == "usage_record"
    return Lane(target.mode, target.account, target.event_name, target.stripe_customer, legacy)


def edges_of(bounds: Period) -> list[Period]:
    """The parts of days at bounds that are no UTC midnight."""
    found = []
    if bounds.start != _midnight(bounds.start.date()):
        found.append(Period(bounds.start, min(_midnight(bounds.start.date() + DAY), bounds.end)))
    if bounds.end != _midnight(bounds.end.date()) and bounds.end.date() != bounds.start.date():
        found.append(Period(_midnight(bounds.end.date()), bounds.end))
    return found


def wanted_of(targets: Iterable[Target], now: datetime) -> dict[Lane, Wanted]:
    """Which days each lane is read for: those of its targets and one on either side."""
    found: dict[Lane, Wanted] = {}
    for target in targets:
        lane = lane_of(target)
        if lane is None:
            continue
        bounds = target.bounds
        first = bounds.start.date() - DAY
        last = min((bounds.end - timedelta(microseconds=1)).date() + 2 * DAY, now.date() + 2 * DAY)
        known = found.setdefault(lane, Wanted(first, last))
        known.first, known.last = min(known.first, first), max(known.last, last)
        known.edges.update(edges_of(bounds))
    return found


class StripeReader:
    """Reads lanes with a bounded number of threads; counts what it reads."""

    def __init__(self) -> None:
        self.reads: dict[tuple[str, str], int] = {}
        self._meters: dict[tuple[str, str], dict[str, MetersOfName]] = {}
        self._rejections: dict[str, dict[str, Rejection]] = {}
        self._lock = threading.Lock()
        self._next = 0.0
        self._pool = ThreadPoolExecutor(
            max_workers=settings.STRIPE_READ_THREADS, thread_name_prefix="reconcile"
        )

    def close(self) -> None:
        """End the threads; what was not begun is left out."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    @property
    def total_reads(self) -> int:
        """GETs made so far."""
        return sum(self.reads.values())

    def start(self, wanted: dict[Lane, Wanted]) -> dict[Lane, "Future[Reading]"]:
        """Begin to read every lane; what cannot be read has a problem, never a zero."""
        problems = {
            place: self._load_meters(*place)
            for place in sorted({(lane.mode, lane.account) for lane in wanted if not lane.legacy})
        }

        def one(lane: Lane, days: Wanted) -> Reading:
            if lane.legacy:
                return self._tried(lane, self._fill_item, Reading())
            problem = problems[lane.mode, lane.account]
            return Reading(problem=problem) if problem else self._read(lane, days)

        return {lane: self._pool.submit(one, lane, days) for lane, days in wanted.items()}

    def start_invoices(self, since: dict[Lane, datetime]) -> dict[Lane, "Future[Invoices | None]"]:
        """Begin to read the invoices of each lane's customer."""
        return {lane: self._pool.submit(self.invoices, lane, at) for lane, at in since.items()}

    def hours(self, lane: Lane, meter_id: str, days: Iterable[date]) -> dict[datetime, Decimal]:
        """Usage by hour on the given days; empty where it cannot be read."""
        found: dict[datetime, Decimal] = {}
        for day in days:
            try:
                self._pace(lane.mode, lane.account)
                found |= read_hours(
                    mode=lane.mode,
                    account=lane.account,
                    meter_id=meter_id,
                    customer=lane.customer,
                    start=_midnight(day),
                    end=_midnight(day + DAY),
                )
            except (StripeUnavailable, StripeRefused):
                return {}
        return found

    def in_meters(self, lane: Lane, meter_ids: Iterable[str], period: Period) -> dict[str, Decimal]:
        """Usage of the lane's customer in other meters, where there is any."""
        found = {}
        for meter_id in meter_ids:
            try:
                self._pace(lane.mode, lane.account)
                value = read_total(
                    mode=lane.mode,
                    account=lane.account,
                    meter_id=meter_id,
                    customer=lane.customer,
                    start=period.start,
                    end=period.end,
                )
            except (StripeUnavailable, StripeRefused):
                continue
            if value:
                found[meter_id] = value
        return found

    def rejections(self, lane: Lane, meter_id: str) -> dict[str, Rejection]:
        """Identifiers that error reports of the meter name, read once per run."""
        if meter_id not in self._rejections:
            try:
                self._pace(lane.mode, lane.account)
                self._rejections[meter_id] = rejections_of(
                    mode=lane.mode, account=lane.account, meter_id=meter_id
                )
            except (StripeUnavailable, StripeRefused):
                self._rejections[meter_id] = {}
        return self._rejections[meter_id]

    def invoices(self, lane: Lane, since: datetime) -> Invoices | None:
        """The customer's invoices; None if they cannot be read."""
        try:
            self._pace(lane.mode, lane.account)
            return invoices_of(
                mode=lane.mode, account=lane.account, customer=lane.customer, since=since
            )
        except (StripeUnavailable, StripeRefused):
            return None

    def _load_meters(self, mode: str, account: str) -> str:
        if (mode, account) in self._meters:
            return ""
        for attempt in range(TRIES):
            try:
                self._pace(mode, account, reads=2)
                self._meters[mode, account] = meters_by_name(mode=mode, account=account)
                return ""
            except (KeyMissing, KeyOfWrongMode, StripeRefused) as error:
                return str(error)
            except StripeUnavailable as error:
                if attempt == TRIES - 1:
                    return f"not available: {error}"
                time.sleep(WAIT_SECONDS)
        return "not available"

    def _read(self, lane: Lane, wanted: Wanted) -> Reading:
        meters = self._meters[lane.mode, lane.account].get(lane.event_name)
        if meters is None or meters.current is None:
            return Reading(problem=f"no meter has the event name {lane.event_name}")
        found = Reading(meter_id=meters.current, former=meters.former)
        if meters.active is None:
            found.former = meters.former[1:]
        return self._tried(lane, lambda reading, one: self._fill(reading, one, wanted), found)

    def _tried(self, lane: Lane, fill: Callable[[Reading, Lane], None], found: Reading) -> Reading:
        """``found`` filled, or why it could not be; what is not available is tried again."""
        for attempt in range(TRIES):
            try:
                fill(found, lane)
                return found
            except (KeyMissing, KeyOfWrongMode, StripeRefused) as error:
                return Reading(problem=str(error))
            except StripeUnavailable as error:
                found.problem = f"not available: {error}"
                time.sleep(WAIT_SECONDS * (attempt + 1))
        return Reading(problem=found.problem)

    def _fill_item(self, found: Reading, lane: Lane) -> None:
        self._pace(lane.mode, lane.account)
        found.periods = read_item_periods(
            mode=lane.mode, account=lane.account, item=lane.event_name
        )
        found.problem = ""

    def _fill(self, found: Reading, lane: Lane, wanted: Wanted) -> None:
        self._pace(lane.mode, lane.account)
        found.days = read_days(
            mode=lane.mode,
            account=lane.account,
            meter_id=found.meter_id,
            customer=lane.customer,
            start=wanted.first,
            end=wanted.last,
        )
        for edge in sorted(wanted.edges):
            self._pace(lane.mode, lane.account)
            found.edges[edge] = read_total(
                mode=lane.mode,
                account=lane.account,
                meter_id=found.meter_id,
                customer=lane.customer,
                start=edge.start,
                end=edge.end,
            )
        found.problem = ""

    def _pace(self, mode: str, account: str, *, reads: int = 1) -> None:
        """Count the read and wait for its turn."""
        rate = settings.STRIPE_READS_PER_SECOND
        with self._lock:
            self.reads[mode, account] = self.reads.get((mode, account), 0) + reads
            if not rate:
                return
            turn = max(self._next, time.monotonic())
            self._next = turn + reads / rate
        delay = turn - time.monotonic()
        if delay > 0:
            time.sleep(delay)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, clock_time(), tzinfo=UTC)
