"""What counters must hold, said a second time and differently: plain Python, no SQL.

It keeps every accepted event and computes each total from scratch. It shares no code with the
product; calendars are cut with dateutil.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from dateutil.relativedelta import relativedelta

ADDITIVE = ("sum", "count")
Key = tuple[str, str, datetime]


@dataclass(frozen=True)
class Fact:
    """An accepted event."""

    key: str
    metric: str
    customer: str
    quantity: Decimal
    ts: datetime
    member: str
    batch: int


@dataclass
class Entry:
    """An adjustment."""

    metric: str
    customer: str
    start: datetime
    day: date
    delta: Decimal
    status: str
    reason: str
    label: str = ""


@dataclass
class Span:
    """A period that has left the state open."""

    start: datetime
    end: datetime
    state: str


@dataclass
class Oracle:
    """One tenant. Each metric's name begins with its aggregation."""

    window: timedelta = timedelta(hours=48)
    review: bool = False
    facts: dict[str, Fact] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)
    late: set[str] = field(default_factory=set)
    entries: list[Entry] = field(default_factory=list)
    calendars: dict[str | None, tuple[datetime, int]] = field(default_factory=dict)
    fixed: dict[str, list[Span]] = field(default_factory=dict)
    batches: int = 0

    # --- periods ---------------------------------------------------------------------------

    def _raw(self, customer: str, instant: datetime) -> tuple[datetime, datetime]:
        anchor, months = self.calendars.get(
            customer, self.calendars.get(None, (datetime(2000, 1, 1, tzinfo=UTC), 1))
        )
        steps = 0
        while anchor + relativedelta(months=(steps + 1) * months) <= instant:
            steps += 1
        while anchor + relativedelta(months=steps * months) > instant:
            steps -= 1
        return (
            anchor + relativedelta(months=steps * months),
            anchor + relativedelta(months=(steps + 1) * months),
        )

    def period(self, customer: str, instant: datetime) -> tuple[datetime, datetime]:
        """The period of the customer that holds ``instant``."""
        start, end = self._raw(customer, instant)
        for span in self.fixed.get(customer, []):
            if span.start <= instant < span.end:
                return span.start, span.end
            if span.end <= instant:
                start = max(start, span.end)
            else:
                end = min(end, span.start)
        return start, end

    def frozen(self, customer: str, instant: datetime) -> bool:
        """Whether the period that holds ``instant`` is frozen."""
        return any(
            span.state == "frozen" and span.start <= instant < span.end
            for span in self.fixed.get(customer, [])
        )

    # --- events ----------------------------------------------------------------------------

    def ingest(self, events: Iterable[Fact]) -> tuple[int, int]:
        """Accepted and duplicates; nothing is ever stored twice."""
        self.batches += 1
        accepted = duplicates = 0
        for fact in events:
            if fact.key in self.facts:
                duplicates += 1
                continue
            self.facts[fact.key] = Fact(**{**vars(fact), "batch": self.batches})
            self.pending.add(fact.key)
            accepted += 1
        return accepted, duplicates

    def _key(self, fact: Fact) -> Key:
        return fact.metric, fact.customer, self.period(fact.customer, fact.ts)[0]

    def counted(self) -> dict[Key, list[Fact]]:
        """The events of each counter."""
        found: dict[Key, list[Fact]] = {}
        for fact in self.facts.values():
            if fact.key not in self.pending and fact.key not in self.late:
                found.setdefault(self._key(fact), []).append(fact)
        return found

    def fold(self) -> None:
        """Take in what is pending; what comes too late becomes an entry."""
        before = self.counted()
        marks = {key: max(fact.ts for fact in facts) for key, facts in before.items()}
        held: dict[tuple[int, str, str, datetime, date], list[Fact]] = {}
        for name in sorted(self.pending):
            fact = self.facts[name]
            key = self._key(fact)
            additive = fact.metric.split("_")[0] in ADDITIVE
            old = key in marks and fact.ts < marks[key] - self.window
            if self.frozen(fact.customer, fact.ts) or (additive and old):
                slot = (fact.batch, *key, fact.ts.date())
                held.setdefault(slot, []).append(fact)
                self.late.add(name)
        self.pending.clear()
        for (_, metric, customer, start, day), facts in held.items():
            wait = self.review or self.frozen(customer, facts[0].ts)
            delta = sum((fact.quantity for fact in facts), Decimal(0))
            if metric.startswith("count"):
                delta = Decimal(len(facts))
            status = "pending" if wait else "approved"
            self.entries.append(Entry(metric, customer, start, day, delta, status, "late_event"))

    # --- corrections -----------------------------------------------------------------------

    def adjust(self, label: str, metric: str, customer: str, at: datetime, delta: Decimal) -> None:
        """Ask for a correction on the day of ``at``."""
        start = self.period(customer, at)[0]
        day = at.date()
        self.entries.append(Entry(metric, customer, start, day, delta, "pending", "manual", label))

    def entry(self, label: str) -> Entry:
        """The correction of that label."""
        return next(entry for entry in self.entries if entry.label == label)

    def revert(self, label: str) -> None:
        """Undo a correction once."""
        done = self.entry(label)
        done.status = "reverted"
        self.entries.append(
            Entry(done.metric, done.customer, done.start, done.day, -done.delta, "approved",
                  "reversal")
        )  # fmt: skip

    # --- time ------------------------------------------------------------------------------

    def set_calendar(self, customer: str | None, anchor: datetime, months: int) -> None:
        """Cut anew; entries go where their day now lies, unless their period is frozen."""
        self.calendars[customer] = (anchor, months)
        for entry in self.entries:
            if customer not in (None, entry.customer):
                continue
            if customer is None and entry.customer in self.calendars:
                continue
            if self.frozen(entry.customer, entry.start):
                continue
            midnight = datetime.combine(entry.day, datetime.min.time(), UTC)
            entry.start = self.period(entry.customer, max(midnight, entry.start))[0]

    def freeze(self, customer: str, instant: datetime) -> None:
        """Close the customer's period for good, with everything stored so far; once."""
        if not self.frozen(customer, instant):
            self.fold()
            start, end = self.period(customer, instant)
            self.fixed.setdefault(customer, []).append(Span(start, end, "frozen"))

    # --- totals ----------------------------------------------------------------------------

    @staticmethod
    def value(metric: str, facts: list[Fact]) -> Decimal:
        """The number that the metric's aggregation makes of its events."""
        quantities = [fact.quantity for fact in facts]
        if not facts:
            return Decimal(0)
        if metric.startswith("sum"):
            return sum(quantities, Decimal(0))
        if metric.startswith("count"):
            return Decimal(len(facts))
        if metric.startswith("max"):
            return max(quantities)
        if metric.startswith("min"):
            return min(quantities)
        if metric.startswith("unique"):
            return Decimal(len({fact.member for fact in facts}))
        newest = max(facts, key=lambda fact: (fact.ts, fact.batch))
        return newest.quantity

    def totals(self) -> dict[Key, tuple[Decimal, Decimal]]:
        """Folded value and effect of adjustments, of each counter that has either."""
        found = {
            key: (self.value(key[0], facts), Decimal(0)) for key, facts in self.counted().items()
        }
        for entry in self.entries:
            if entry.status in ("approved", "reverted"):
                key = (entry.metric, entry.customer, entry.start)
                folded, adjusted = found.get(key, (Decimal(0), Decimal(0)))
                found[key] = (folded, adjusted + entry.delta)
        return found
