"""Puts the facts of a page of cursors together and has them classified.

Our side is read first, then Stripe. What agrees then is in parity. What does not is read
again on our side, since pushes may have gone out in between, and is looked at push by push.
"""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection

from billing.services.corrections import ADOPTED
from billing.stripe.readback import Invoices, Rejection
from counters.services.recompute import Difference, differences
from counters.services.recompute import Scope as CounterScope
from reconciliation import drift, items
from reconciliation.facts import (
    ACKNOWLEDGED,
    REJECTED,
    Cause,
    Edge,
    Facts,
    Found,
    InvoiceFact,
    Policy,
    PushFact,
)
from reconciliation.reading import Lane, Reading, StripeReader, lane_of, wanted_of
from reconciliation.selectors import pushes, targets
from reconciliation.selectors.pushes import Told
from reconciliation.selectors.snapshot import snapshot
from reconciliation.selectors.targets import Ours, Scope, Target
from stripemeter.lib.decimals import plain
from stripemeter.lib.periods import Period, utc_month

DAY = timedelta(days=1)
ZERO = Decimal(0)
PARITY, SETTLING, DRIFT, UNREAD = "parity", "settling", "drift", "unread"


@dataclass(slots=True)
class Assessment:
    """One cursor's verdict, as it will be written."""

    target: Target
    ledger: Decimal
    counter: Decimal
    wanted: Decimal
    carry: Decimal
    acknowledged: Decimal
    open: Decimal
    stripe: Decimal | None
    invoiced: Decimal | None
    found: list[Found] = field(default_factory=list)
    problem: str = ""
    basis: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """The verdict in one word."""
        if any(each.alarms for each in self.found):
            return DRIFT
        if any(each.cause is not Cause.ROUNDING_CARRY for each in self.found):
            return SETTLING
        return UNREAD if self.problem and (self.wanted or self.acknowledged) else PARITY


@dataclass(frozen=True, slots=True)
class Begun:
    """A page whose reads are under way."""

    page: list[Target]
    mine: dict[Any, Ours]
    told: dict[Any, Told]
    readings: dict[Lane, Future[Reading]]
    invoices: dict[Lane, Future[Invoices | None]]


class LedgerCheck:
    """Which counters of a scope disagree with the ledger: one statement for all of them."""

    def __init__(self, scope: Scope) -> None:
        first = scope.period_from or utc_month(scope.now - targets.HORIZON).start
        last = scope.period_to or utc_month(scope.now + 2 * DAY).end
        metric_ids = (scope.metric_id,) if scope.metric_id else _mapped_metrics(scope.tenant_id)
        customers = (scope.customer_ref,) if scope.customer_ref is not None else None
        self._found: dict[tuple[int, str, datetime], Difference] = {}
        if metric_ids:
            wide = CounterScope(scope.tenant_id, metric_ids, first, last, customers)
            for each in differences(wide):
                self._found[each.metric_id, each.customer_ref, each.period_start] = each

    def fold_of(self, target: Target) -> Decimal:
        """What the ledger adds up to, without adjustments."""
        found = self._found.get((target.metric_id, target.customer_ref, target.period_start))
        if found is None:
            return target.folded
        change = found.ledger.of(target.aggregation) - found.counter.of(target.aggregation)
        return target.folded + change


def _mapped_metrics(tenant_id: int) -> tuple[int, ...]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT metric_id FROM billing_pricemapping WHERE tenant_id = %s", [tenant_id]
        )
        return tuple(row[0] for row in cursor.fetchall())


class Gatherer:
    """Assesses pages of targets for one run."""

    def __init__(
        self,
        *,
        scope: Scope,
        reader: StripeReader,
        clock: Callable[[], datetime],
        policy: Policy,
    ) -> None:
        self.scope = scope
        self.reader = reader
        self.clock = clock
        self.policy = policy
        self.ledger = LedgerCheck(scope)

    def assess(self, page: list[Target], mine: dict[Any, Ours]) -> list[Assessment]:
        """The verdicts on ``page``; ``mine`` was read in the page's own snapshot."""
        return self.finish(self.begin(page, mine))

    def begin(self, page: list[Target], mine: dict[Any, Ours]) -> "Begun":
        """Our side of a page is known, and Stripe is being read in threads."""
        told = pushes.told(page)
        return Begun(
            page=page,
            mine=mine,
            told=told,
            readings=self.reader.start(wanted_of(page, self.clock())),
            invoices=self.reader.start_invoices(self._ended(page)),
        )

    def finish(self, begun: "Begun") -> list[Assessment]:
        """The verdicts on a page that was begun."""
        readings = {lane: future.result() for lane, future in begun.readings.items()}
        invoices = self._invoices(begun)
        found = []
        for target in begun.page:
            lane = lane_of(target)
            reading = readings.get(lane) if lane else None
            invoice = invoices.get(target.key)
            mine, told = begun.mine[target.key], begun.told[target.key]
            one = self._quick(target, mine, told, reading, invoice)
            found.append(one or self._closely(target, lane, reading, invoice))
        return found

    # --- the common case ----------------------------------------------------------------

    def _quick(
        self,
        target: Target,
        mine: Ours,
        told: Told,
        reading: Reading | None,
        invoice: InvoiceFact | None,
    ) -> Assessment | None:
        """Parity, seen from sums alone; None if it takes a closer look."""
        made = self._frame(target, mine, told, reading)
        if (
            made.ledger != made.counter
            or made.wanted != made.acknowledged
            or told.open_count
            or target.semantics == "level"
            or (target.frozen_at is not None and mine.held)
            or told.customers - {target.stripe_customer}
            or (target.additive and _sum(mine.days) != made.counter)
        ):
            return None
        if reading is None or reading.problem:
            made.problem = reading.problem if reading else _why_unread(target)
            return made if not told.acknowledged else self._unread(made)
        if target.semantics == "usage_record":
            made.stripe, made.problem = items.total_of(target, reading, told.days)
            if made.stripe is None:
                return self._unread(made)
            stripe = items.spread(made.stripe, told.days)
        else:
            stripe = stripe_days(target, reading)
        days = {*told.days, *stripe}
        if not all(drift.agree(told.days.get(d, ZERO), stripe.get(d, ZERO)) for d in days):
            return None
        made.stripe = _sum(stripe)
        if invoice is not None:
            made.invoiced = invoice.quantity
            if not drift.agree(max(made.stripe, ZERO), invoice.quantity):
                return None
        made.found = _carry(made)
        return made

    def _unread(self, made: Assessment) -> Assessment:
        made.found = _carry(made)
        return made

    def _frame(self, target: Target, mine: Ours, told: Told, reading: Reading | None) -> Assessment:
        wanted, carry = targets.wanted_of(target, mine)
        return Assessment(
            target=target,
            ledger=self.ledger.fold_of(target) + mine.approved,
            counter=targets.counter_total(target),
            wanted=wanted,
            carry=carry,
            acknowledged=told.acknowledged,
            open=told.open,
            stripe=None,
            invoiced=None,
            basis=_basis(target, mine, told, reading, self.clock()),
        )

    # --- the closer look ----------------------------------------------------------------

    def _closely(
        self,
        target: Target,
        lane: Lane | None,
        reading: Reading | None,
        invoice: InvoiceFact | None,
    ) -> Assessment:
        now = self.clock()
        with snapshot():
            target = self._again(target)
            mine = targets.ours([target])[target.key]
            told = pushes.told([target])[target.key]
            facts_of_pushes = pushes.facts_of(target)
            others = pushes.siblings(target) if lane else {}
        made = self._frame(target, mine, told, reading)
        problem = "" if reading and not reading.problem else _why_unread(target)
        made.problem = reading.problem if reading and reading.problem else problem
        facts = Facts(
            now=now,
            period=target.bounds,
            semantics=target.semantics,
            ledger=made.ledger,
            counter=made.counter,
            wanted=made.wanted,
            carry=made.carry,
            counter_moved_at=_moved_at(target, facts_of_pushes),
            pushes=facts_of_pushes,
            held_reason=target.held_reason,
            customer=target.stripe_customer,
            stripe=None,
            frozen_at=target.frozen_at,
            held=mine.held / target.unit_factor,
            invoice=invoice,
            policy=self.policy,
        )
        if reading is not None and lane is not None and not reading.problem:
            facts = self._with_stripe(facts, target, lane, reading, others)
            made.stripe = facts.stripe_total
        made.invoiced = invoice.quantity if invoice else None
        made.found = drift.classify(facts)
        if target.additive and _sum(mine.days) != made.counter and made.ledger == made.counter:
            evidence = {"days": _sum(mine.days), "counter": made.counter}
            made.found.append(
                Found(Cause.COUNTER_MISMATCH, _sum(mine.days) - made.counter, evidence)
            )
        return made

    def _again(self, target: Target) -> Target:
        """The target as it stands now."""
        scope = replace(
            self.scope,
            metric_id=target.metric_id,
            customer_ref=target.customer_ref,
            period_from=target.period_start,
            period_to=target.period_start + timedelta(microseconds=1),
        )
        found, _ = targets.page(scope, after=None)
        return next((each for each in found if each.key == target.key), target)

    def _with_stripe(
        self,
        facts: Facts,
        target: Target,
        lane: Lane,
        reading: Reading,
        others: dict[date, Decimal],
    ) -> Facts:
        first, last = min_max_days(target.bounds)
        if target.semantics == "usage_record":
            return replace(facts, stripe=items.days_of(facts, target, reading))
        stripe = stripe_days(target, reading)
        if target.semantics != "level":
            for day in list(stripe):
                stripe[day] -= others.get(day, ZERO)
        facts = replace(
            facts,
            stripe=stripe,
            before=_edge(reading, first - DAY, others, target.bounds, at_start=True),
            after=_edge(reading, last + DAY, others, target.bounds, at_start=False),
        )
        if target.semantics == "level":
            return facts
        differing = drift.differing_days(facts)
        if not differing:
            return facts
        hours = {} if others else self.reader.hours(lane, reading.meter_id, differing)
        elsewhere = self.reader.in_meters(lane, reading.former, facts.period)
        reports = self.reader.rejections(lane, reading.meter_id)
        told = tuple(_reported(push, reports) for push in facts.pushes)
        return replace(facts, hours=hours, other_meters=elsewhere, pushes=told)

    # --- invoices -----------------------------------------------------------------------

    def _ended(self, page: list[Target]) -> dict[Lane, datetime]:
        """One lane for each customer with periods that are over, and since when to look."""
        now = self.clock()
        since: dict[tuple[str, str, str], tuple[Lane, datetime]] = {}
        for target in page:
            lane = lane_of(target)
            if lane is None or target.bounds.end > now:
                continue
            place = (lane.mode, lane.account, lane.customer)
            first, at = since.get(place, (lane, target.bounds.end))
            since[place] = first, min(at, target.bounds.end)
        return {lane: at - DAY for lane, at in since.values()}

    def _invoices(self, begun: "Begun") -> dict[Any, InvoiceFact]:
        """Final invoice lines of periods that are over."""
        now = self.clock()
        read = {
            (lane.mode, lane.account, lane.customer): future.result()
            for lane, future in begun.invoices.items()
        }
        found = {}
        for target in begun.page:
            lane = lane_of(target)
            if lane is None or target.bounds.end > now:
                continue
            fact = _invoice_fact(target, read.get((lane.mode, lane.account, lane.customer)))
            if fact is not None:
                found[target.key] = fact
        return found


def _invoice_fact(target: Target, invoices: Any) -> InvoiceFact | None:
    if invoices is None:
        return None
    lines = [
        line
        for line in invoices.lines
        if (
            line.subscription_item_id == target.subscription_item_id
            if target.subscription_item_id and line.subscription_item_id
            else line.price_id == target.price_id
        )
        and line.start < target.bounds.end
        and line.end > target.bounds.start
    ]
    if not lines and target.price_changed:
        # Classic billing drops the usage before a change: the old price has no line at all.
        return _dropped(target, invoices.lines)
    if not lines:
        return None
    return InvoiceFact(
        quantity=sum((line.quantity for line in lines), ZERO),
        finalized_at=min(line.finalized_at for line in lines),
        invoice_id=lines[0].invoice_id,
        line_ids=tuple(line.line_id for line in lines),
        price_changed=target.price_changed,
    )


def _dropped(target: Target, lines: list[Any]) -> InvoiceFact | None:
    covering = [
        line for line in lines if line.start < target.period_end and line.end > target.bounds.end
    ]
    if not covering:
        return None
    return InvoiceFact(
        quantity=ZERO,
        finalized_at=min(line.finalized_at for line in covering),
        invoice_id=covering[0].invoice_id,
        price_changed=True,
    )


def min_max_days(bounds: Period) -> tuple[date, date]:
    """First and last UTC day of ``bounds``."""
    return bounds.start.date(), (bounds.end - timedelta(microseconds=1)).date()


def stripe_days(target: Target, reading: Reading) -> dict[date, Decimal]:
    """Stripe's days within the bounds; a day that a bound cuts is its part inside."""
    first, last = min_max_days(target.bounds)
    days = {day: value for day, value in reading.days.items() if first <= day <= last and value}
    for edge, value in reading.edges.items():
        if edge.start >= target.bounds.start and edge.end <= target.bounds.end:
            days[edge.start.date()] = value
    return {day: drift.exact(value) for day, value in days.items() if value}


def _edge(
    reading: Reading, day: date, others: dict[date, Decimal], bounds: Period, *, at_start: bool
) -> Edge:
    """Just outside the bounds: the next day, or the rest of a day that the bound cuts."""
    cut = bounds.start if at_start else bounds.end
    for part, value in reading.edges.items():
        if cut in {part.start, part.end}:
            whole = reading.days.get(part.start.date(), ZERO)
            return Edge(others.get(part.start.date(), ZERO), drift.exact(whole - value))
    return Edge(others.get(day, ZERO), drift.exact(reading.days.get(day, ZERO)))


def _carry(made: Assessment) -> list[Found]:
    if not made.carry:
        return []
    evidence = {"carry": made.carry, "unit": "units of the metric"}
    return [Found(Cause.ROUNDING_CARRY, ZERO, evidence)]


def _reported(push: PushFact, reports: dict[str, Rejection]) -> PushFact:
    """The push, with the error report that no webhook brought."""
    report = reports.get(push.identifier)
    if report is None or push.rejected_by or push.state != ACKNOWLEDGED:
        return push
    return replace(push, rejected_by=report.event_id, error_code=report.code)


def _moved_at(target: Target, told: tuple[PushFact, ...]) -> datetime | None:
    """When the books last changed: by a fold, or by a push booked or taken back by a plan."""
    booked = [
        push.settled_at
        for push in told
        if push.settled_at is not None
        and (push.error_code == ADOPTED or (push.state == REJECTED and not push.error_code))
    ]
    return max([*booked, *([target.folded_at] if target.folded_at else [])], default=None)


def _why_unread(target: Target) -> str:
    if target.stripe_customer is None:
        return "no Stripe customer is linked"
    return "not read"


def _basis(
    target: Target, mine: Ours, told: Told, reading: Reading | None, now: datetime
) -> dict[str, Any]:
    """The ids that the numbers of a line can be recomputed from."""
    basis: dict[str, Any] = {
        "readAt": now.isoformat(),
        "counterRevision": target.revision,
        "events": target.event_count,
        "adjustments": mine.adjustment_ids,
        "pushesThrough": told.last_sequence,
        "pushesExcept": sorted(told.exceptions),
        "stripeCustomer": target.stripe_customer,
    }
    if reading is not None and not reading.problem:
        basis["meter"] = reading.meter_id or target.event_name
        if target.semantics == "usage_record":
            whole, _ = items.total_of(target, reading, told.days)
            basis["stripe"] = {"period": plain(whole)} if whole is not None else {}
        else:
            days = stripe_days(target, reading)
            basis["stripe"] = {day.isoformat(): plain(value) for day, value in days.items()}
    return basis


def _sum(days: dict[date, Decimal]) -> Decimal:
    return sum(days.values(), ZERO)
