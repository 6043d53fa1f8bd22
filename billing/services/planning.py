"""Plans pushes: reads what counters hold, writes intents for what Stripe lacks.

Work is found by revision (`Counter.revision` above `PushCursor.seen_revision`), never by
a timestamp, which would lose rows that commit late. A cursor is locked before its counter
is read, so two planners cannot intend the same delta. Intents are committed before any
call; nothing in here speaks to Stripe.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import uuid_utils
from django.db import connection, transaction

from billing import formulas, slicing
from billing.services import columns, plan_sql
from billing.services.columns import columns_of
from billing.slicing import Delta, Deltas, Step
from stripemeter.lib.decimals import exact_sum
from stripemeter.lib.faults import point
from stripemeter.lib.logs import get_logger
from stripemeter.lib.periods import Period

log = get_logger(__name__)

PAGE_CURSORS = 500
#: Periods that ended longer ago have no instant left that Stripe takes.
PERIOD_AGE_MAX = timedelta(days=40)
#: Count meters get one event per unit; more than this wait for the next planning.
EVENTS_PER_PLAN_MAX = 200

Key = tuple[int, UUID, str, datetime, str]
Position = tuple[UUID, str, datetime, str]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cursor with work, and everything its mapping says about it."""

    tenant_id: int
    mapping_id: UUID
    customer_ref: str
    period_start: datetime
    mode: str
    period_end: datetime
    metric_id: int
    aggregation: str
    semantics: str
    unit_factor: Decimal
    value_decimals: int
    effective_from: datetime | None
    effective_to: datetime | None
    account_id: int
    target: str
    stripe_customer_id: str
    #: Of the account: how often it was found restored.
    generation: int

    @property
    def key(self) -> Key:
        """Primary key of the cursor."""
        return (
            self.tenant_id, self.mapping_id, self.customer_ref, self.period_start, self.mode
        )  # fmt: skip

    @property
    def position(self) -> Position:
        """Where it stands in the order that pages are read in."""
        return self.mapping_id, self.customer_ref, self.period_start, self.mode

    @property
    def bounds(self) -> Period:
        """The period, cut to the mapping's segment."""
        return Period(
            max(self.period_start, self.effective_from or self.period_start),
            min(self.period_end, self.effective_to or self.period_end),
        )


@dataclass(slots=True)
class Known:
    """What is known of one locked cursor at planning."""

    revision: int = 0
    next_sequence: int = 1
    level: Decimal = Decimal(0)
    days: dict[date, Decimal] = field(default_factory=dict)
    intended: dict[date, Decimal] = field(default_factory=dict)
    open_days: set[date] = field(default_factory=set)
    open_decrease: bool = False


@dataclass(slots=True)
class Planned:
    """What one page of planning did."""

    cursors: int = 0
    pushes: int = 0
    held: int = 0
    #: Where the next page starts; None after the last one.
    after: Position | None = None


def plan_page(
    *,
    now: datetime,
    account_ids: list[int],
    after: Position | None = None,
    tenant_id: int | None = None,
) -> Planned:
    """Write the intents of up to one page of cursors; commits.

    ``account_ids`` are the accounts that may be sent to now: planning for the others
    would only cut their backlog into more pushes than one per slice.
    """
    with transaction.atomic():
        taken_back = Planned()
        if after is None:
            orphans = _orphans(now, account_ids, tenant_id)
            taken_back = _plan(orphans, now) if orphans else taken_back
        candidates = _candidates(now, account_ids, after, tenant_id)
        if not candidates:
            return taken_back
        found = _plan(candidates, now)
    found.cursors += taken_back.cursors
    found.pushes += taken_back.pushes
    found.after = candidates[-1].position if len(candidates) == PAGE_CURSORS else None
    return found


def _scope(now: datetime, account_ids: list[int], tenant_id: int | None) -> dict[str, Any]:
    return {
        "now": now,
        "horizon": now - PERIOD_AGE_MAX,
        "accounts": account_ids,
        "tenant": tenant_id,
        "limit": PAGE_CURSORS,
    }


def _orphans(now: datetime, account_ids: list[int], tenant_id: int | None) -> list[Candidate]:
    """Cursors whose counter is gone while their pushes stand: everything is taken back."""
    with connection.cursor() as cursor:
        cursor.execute(plan_sql.ORPHANS, _scope(now, account_ids, tenant_id))
        return [Candidate(*row) for row in cursor.fetchall()]


def _candidates(
    now: datetime, account_ids: list[int], after: Position | None, tenant_id: int | None
) -> list[Candidate]:
    parameters = _scope(now, account_ids, tenant_id)
    query = plan_sql.CANDIDATES
    if after is not None:
        query = plan_sql.CANDIDATES_AFTER
        parameters |= dict(zip(("a1", "a2", "a3", "a4"), after, strict=True))
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return [Candidate(*row) for row in cursor.fetchall()]


def _plan(candidates: list[Candidate], now: datetime) -> Planned:
    known = _lock_and_read(candidates)
    pushes: list[tuple[Any, ...]] = []
    moved: list[tuple[Any, ...]] = []
    seen: list[tuple[Any, ...]] = []
    held = 0
    for candidate in candidates:
        facts = known.get(candidate.key)
        if facts is None:
            continue  # another planner holds it
        deltas = sendable(deltas_of(candidate, facts, now), facts, candidate.semantics)
        rows, complete = _rows(candidate, facts, deltas, now)
        pushes += rows
        moved += _slices(candidate, rows)
        held += deltas.refusal is not None
        revision = facts.revision if complete else -1
        sequence = facts.next_sequence + len(rows)
        seen.append((*candidate.key, candidate.period_end, revision, sequence, deltas.refusal, now))
    point("push.planned")
    _write(pushes, moved, seen)
    return Planned(cursors=len(seen), pushes=len(pushes), held=held)


def deltas_of(candidate: Candidate, known: Known, now: datetime) -> Deltas:
    """What the cursor has to say, before looking at what is still open."""
    step = Step(candidate.unit_factor, candidate.value_decimals)
    if not formulas.is_additive(candidate.aggregation) or candidate.semantics == "level":
        sent = exact_sum(list(known.intended.values()))
        day = slicing.moment_day(candidate.bounds, now)
        if candidate.semantics == "level":
            return slicing.level(known.level, sent, step, day)
        if candidate.semantics == "event_count":
            return slicing.single_events(
                {day: known.level}, {day: sent}, at_most=EVENTS_PER_PLAN_MAX
            )
        return slicing.level_increment(known.level, sent, step, day)
    days = _within(known.days, candidate.bounds)
    if candidate.semantics == "event_count":
        return slicing.single_events(days, known.intended, at_most=EVENTS_PER_PLAN_MAX)
    if candidate.semantics == "increment":
        return slicing.increments(days, known.intended, step)
    period = Period(candidate.period_start, candidate.period_end)
    refusal = slicing.window_refusal(candidate.semantics, period)
    if refusal is not None:
        return Deltas(refusal=refusal)
    negative_allowed = candidate.semantics != "usage_record"
    return slicing.window_totals(days, known.intended, step, negative_allowed=negative_allowed)


def _within(days: dict[date, Decimal], bounds: Period) -> dict[date, Decimal]:
    """The days that overlap ``bounds``; segments are cut at midnights, so none is split."""
    first, last = bounds.start.date(), (bounds.end - timedelta(microseconds=1)).date()
    return {day: total for day, total in days.items() if first <= day <= last}


def sendable(deltas: Deltas, known: Known, semantics: str) -> Deltas:
    """The part of ``deltas`` that may be written now, given what is still open.

    A slice with an open push waits for it, so that a backlog merges into one delta. While
    a decrease is open or about to be, increases wait: Stripe's sum must at no moment
    exceed what the ledger justifies. Levels wait for all open ones: order decides.
    """
    if deltas.refusal or not deltas.members:
        return deltas
    members = deltas.members
    if semantics == "level" and known.open_days:
        members = []
    if semantics != "event_count":
        members = [each for each in members if each.day not in known.open_days]
    decreases = [each for each in members if each.delta < 0]
    blocked = known.open_decrease or any(
        each.delta < 0 and each.day in known.open_days for each in deltas.members
    )
    if blocked or decreases:
        members = decreases
    complete = deltas.complete and len(members) == len(deltas.members)
    return Deltas(members, deltas.carry, complete)


def _rows(
    candidate: Candidate, known: Known, deltas: Deltas, now: datetime
) -> tuple[list[tuple[Any, ...]], bool]:
    rows: list[tuple[Any, ...]] = []
    complete = deltas.complete
    stamps: dict[date, slicing.Stamp | None] = {}
    for each in deltas.members:
        if each.day not in stamps:
            bounds = _bounds_of(candidate, each.day)
            stamps[each.day] = _stamp(candidate.semantics, each.day, bounds, now)
        stamp = stamps[each.day]
        if stamp is None:
            # Not begun yet: planned again later. Too old: reconciliation names it.
            complete = complete and each.day < now.date()
            continue
        sequence = known.next_sequence + len(rows)
        rows.append(_row(candidate, each, stamp, sequence, deltas.carry, now))
    return rows, complete


def _stamp(semantics: str, day: date, bounds: Period, now: datetime) -> slicing.Stamp | None:
    """When the slice says it happened.

    Totals of a window never leave their day, where they would overwrite another's; in an
    hourly window a day's total keeps to one hour, the slice's first whole one, so that each
    new total replaces the one before and no hour holds usage of two periods. A total that is
    set on a legacy item keeps to one instant for the same reason.
    """
    if semantics == "usage_record":
        return slicing.set_stamp(day, bounds=bounds, now=now)
    found = slicing.stamp(day, bounds=bounds, now=now)
    if found is None or semantics not in formulas.WINDOWED:
        return found
    if found.displaced:
        return None
    if semantics == "hour_total":
        return slicing.first_stamp(day, bounds=bounds, now=now)
    return found


def _bounds_of(candidate: Candidate, day: date) -> Period:
    """Where a slice's stamp must lie: in period and segment, or in the day itself.

    A day outside both was pushed before a calendar moved the period; it is taken back
    from where it was said.
    """
    start = datetime.combine(day, time(), tzinfo=UTC)
    whole = Period(start, start + slicing.DAY)
    bounds = candidate.bounds
    overlap = whole.start < bounds.end and bounds.start < whole.end
    return bounds if overlap else whole


def _row(
    candidate: Candidate,
    delta: Delta,
    stamp: slicing.Stamp,
    sequence: int,
    carry: Decimal,
    now: datetime,
) -> tuple[Any, ...]:
    name = slicing.identifier(
        mode=candidate.mode,
        mapping_id=candidate.mapping_id,
        customer_ref=candidate.customer_ref,
        period_start=candidate.period_start,
        day=delta.day,
        sequence=sequence,
    )
    return (
        candidate.tenant_id, UUID(bytes=uuid_utils.uuid7().bytes), candidate.mapping_id,
        candidate.customer_ref, candidate.period_start, candidate.mode, delta.day, sequence,
        candidate.account_id, candidate.semantics, candidate.target,
        candidate.stripe_customer_id, name, delta.value, delta.delta, carry, stamp.at,
        stamp.displaced, now,
    )  # fmt: skip


def _slices(candidate: Candidate, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    moved: dict[date, Decimal] = defaultdict(Decimal)
    for row in rows:
        moved[row[6]] = exact_sum([moved[row[6]], row[14]])
    return [(*candidate.key, day, delta) for day, delta in moved.items()]


# --- reading -----------------------------------------------------------------------------


def _lock_and_read(candidates: list[Candidate]) -> dict[Key, Known]:
    """Lock the candidates' cursors (made if missing) and read what planning needs."""
    make_cursors(candidates)
    keys = columns_of(each.key for each in candidates)
    locked = columns.execute(plan_sql.LOCK_CURSORS, keys)
    known = {_key(row[:5]): Known(next_sequence=row[5]) for row in locked}
    chosen = [each for each in candidates if each.key in known]
    if not chosen:
        return known
    _read_counters(chosen, known)
    keys = columns_of(each.key for each in chosen)
    for *key, day, intended in columns.execute(plan_sql.SLICES, keys):
        known[_key(key)].intended[day] = intended
    for *key, day in columns.execute(plan_sql.OPEN_SLICES, keys):
        known[_key(key)].open_days.add(day)
    for row in columns.execute(plan_sql.OPEN_DECREASES, keys):
        known[_key(row)].open_decrease = True
    return known


def make_cursors(candidates: list[Candidate]) -> None:
    """Make the rows of cursors that are new, inside the caller's transaction."""
    rows = ((*each.key, each.period_end, each.generation) for each in candidates)
    columns.execute(plan_sql.MAKE_CURSORS, columns_of(rows))


def known_of(candidate: Candidate) -> Known:
    """What is known of one cursor, locked by the caller's transaction; empty while held."""
    return _lock_and_read([candidate]).get(candidate.key) or Known()


def total_of(candidate: Candidate, known: Known) -> Decimal:
    """What the counter justifies within the mapping's segment, in units of the metric."""
    if not formulas.is_additive(candidate.aggregation) or candidate.semantics == "level":
        return known.level
    return exact_sum(list(_within(known.days, candidate.bounds).values()))


def _read_counters(chosen: list[Candidate], known: dict[Key, Known]) -> None:
    """One statement, hence one snapshot, for revisions and totals together."""
    wanted = columns_of((*each.key, each.metric_id, each.aggregation) for each in chosen)
    for *key, day, total, revision in columns.execute(plan_sql.TOTALS, wanted):
        facts = known[_key(key)]
        if day is None:
            facts.level, facts.revision = total, revision
        else:
            facts.days[day] = total


def _key(values: Sequence[Any]) -> Key:
    tenant_id, mapping_id, customer_ref, period_start, mode = values
    return tenant_id, mapping_id, customer_ref, period_start, mode


# --- writing -----------------------------------------------------------------------------


def _write(
    pushes: list[tuple[Any, ...]], moved: list[tuple[Any, ...]], seen: list[tuple[Any, ...]]
) -> None:
    if pushes:
        columns.execute(plan_sql.INSERT_PUSHES, columns_of(pushes))
        columns.execute(plan_sql.MOVE_SLICES, columns_of(moved))
    if seen:
        columns.execute(plan_sql.MARK_SEEN, columns_of(seen))
