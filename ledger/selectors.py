"""Every read of the ledger that spans rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Count, F, Q, QuerySet, TextField
from django.db.models.expressions import OrderBy
from django.db.models.functions import Cast, TruncMinute

from ledger.models import Event, EventConflict, Metric, Operation, PendingBatch
from stripemeter.lib import clock

#: Counting stops here: the exact number of a longer list is worth no full scan.
COUNT_MAX = 100_000
#: Lists by time look at the nearest hours first: the newest 50 of ten million events lie there.
WINDOWS = (timedelta(minutes=5), timedelta(hours=4), timedelta(days=8))
SORTS = {"ts": "ts", "metric": "metric_id", "customerRef": "customer_ref", "source": "source"}


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events: all given conditions hold; both time bounds are included."""

    tenant_id: int
    metric_id: int | None = None
    customer_ref: str | None = None
    source: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    batch_id: int | None = None


@dataclass(frozen=True, slots=True)
class ListedEvent:
    """An event as lists show it. ``meta`` is JSON text, digit for digit as stored."""

    key: UUID
    key_text: str | None
    metric: str
    customer_ref: str
    resource_id: str | None
    quantity: Decimal
    ts: datetime
    recorded_at: datetime
    source: str
    meta: str | None

    @property
    def id(self) -> str:
        """The idempotency key: as given, or ``evt_`` and the derived one."""
        return shown_key(self.key, self.key_text)


def shown_key(key: UUID, key_text: str | None) -> str:
    """How an event's key is written for people and callers."""
    return f"evt_{key.hex}" if key_text is None else key_text


def metric_names(tenant_id: int) -> dict[int, str]:
    """Names of the tenant's metrics by id."""
    return dict(Metric.objects.filter(tenant_id=tenant_id).values_list("id", "name"))


def _matching(wanted: EventFilter, metric_ids: list[int]) -> QuerySet[Event]:
    events = Event.objects.filter(tenant_id=wanted.tenant_id)
    if wanted.metric_id is not None:
        events = events.filter(metric_id=wanted.metric_id)
    elif wanted.customer_ref is not None:
        # Naming every metric lets the series index serve a search by customer alone.
        events = events.filter(metric_id__in=metric_ids)
    if wanted.batch_id is not None:
        events = events.filter(batch_id=wanted.batch_id)
    if wanted.customer_ref is not None:
        events = events.filter(customer_ref=wanted.customer_ref)
    if wanted.source is not None:
        events = events.filter(source=wanted.source)
    if wanted.start is not None:
        events = events.filter(ts__gte=wanted.start)
    if wanted.end is not None:
        events = events.filter(ts__lte=wanted.end)
    return events


def count_events(wanted: EventFilter) -> int:
    """How many events match, counted up to 100,000."""
    matching = _matching(wanted, list(metric_names(wanted.tenant_id)))
    return matching[:COUNT_MAX].count()


def list_events(
    wanted: EventFilter,
    *,
    limit: int,
    offset: int = 0,
    sort: str = "ts",
    descending: bool = True,
    after: tuple[datetime, UUID] | None = None,
) -> list[ListedEvent]:
    """One page of matching events in a total order: the sort column, then ts, then key.

    ``after`` is the (ts, key) of the last event of the page before; it needs ``sort="ts"``.
    """
    names = metric_names(wanted.tenant_id)
    events = _matching(wanted, list(names))
    if after is not None:
        ts, key = after
        # The first condition says nothing new, but an index can use it.
        later = Q(ts__lte=ts) & (Q(ts__lt=ts) | Q(ts=ts, key__lt=key))
        earlier = Q(ts__gte=ts) & (Q(ts__gt=ts) | Q(ts=ts, key__gt=key))
        events = events.filter(later if descending else earlier)
    columns = dict.fromkeys([SORTS[sort], "ts", "key"])
    events = events.order_by(*(OrderBy(F(column), descending=descending) for column in columns))
    for near in _windows(wanted, after, descending) if sort == "ts" else []:
        rows = _listed(events.filter(near), names, offset, limit)
        if len(rows) == limit:
            return rows
    return _listed(events, names, offset, limit)


def _windows(
    wanted: EventFilter, after: tuple[datetime, UUID] | None, descending: bool
) -> Iterator[Q]:
    """Ever longer stretches of time from where the list begins: a full page of one is the page."""
    first = wanted.end if descending else wanted.start
    begin = after[0] if after is not None else first
    if descending:
        begin = min(begin or clock.now(), clock.now())
    if begin is None:
        return  # oldest first: nobody knows where the list begins
    for window in WINDOWS:
        yield Q(ts__gte=begin - window) if descending else Q(ts__lte=begin + window)


def _listed(
    events: QuerySet[Event], names: dict[int, str], offset: int, limit: int
) -> list[ListedEvent]:
    rows: Any = events.annotate(meta_text=Cast("meta", TextField())).values_list(
        "key",
        "key_text",
        "metric_id",
        "customer_ref",
        "resource_id",
        "quantity",
        "ts",
        "recorded_at",
        "source",
        "meta_text",
    )
    return [
        ListedEvent(row[0], row[1], names[row[2]], *row[3:])
        for row in rows[offset : offset + limit]
    ]


def arrivals_per_minute(*, tenant_id: int, since: datetime) -> dict[datetime, int]:
    """Events stored since then, by the minute they were stored in."""
    rows = (
        Event.objects.filter(tenant_id=tenant_id, recorded_at__gte=since)
        .values_list(TruncMinute("recorded_at"))
        .annotate(events=Count("key"))
    )
    return dict(rows)


def open_conflicts(tenant_id: int) -> int:
    """Conflicts that no operator has settled."""
    return EventConflict.objects.filter(tenant_id=tenant_id, resolved_at__isnull=True).count()


def conflicts_of(*, tenant_id: int, key: UUID) -> list[EventConflict]:
    """What was refused under the key, newest first, at most 100."""
    found = EventConflict.objects.filter(tenant_id=tenant_id, key=key)
    return list(found.order_by("-recorded_at")[:100])


def events_in_batch(*, tenant_id: int, batch_id: int) -> int:
    """How many events of the tenant the batch holds."""
    return Event.objects.filter(tenant_id=tenant_id, batch_id=batch_id).count()


@dataclass(frozen=True, slots=True)
class EventStory:
    """One event with everything the ledger knows of it."""

    event: ListedEvent
    batch_id: int
    fingerprint: UUID
    pending: bool


def find_event(*, tenant_id: int, key: UUID) -> EventStory | None:
    """The event of that key, or None."""
    names = metric_names(tenant_id)
    row: Any = (
        Event.objects.filter(tenant_id=tenant_id, key=key)
        .annotate(meta_text=Cast("meta", TextField()))
        .first()
    )
    if row is None:
        return None
    listed = ListedEvent(
        row.key, row.key_text, names[row.metric_id], row.customer_ref, row.resource_id,
        row.quantity, row.ts, row.recorded_at, row.source, row.meta_text,
    )  # fmt: skip
    pending = PendingBatch.objects.filter(batch_id=row.batch_id).exists()
    return EventStory(listed, row.batch_id, row.fingerprint, pending)


def list_operations(
    *, tenant_id: int, kind: str, status: str, limit: int, before: tuple[datetime, UUID] | None
) -> list[Operation]:
    """The tenant's long operations, newest first, after the position ``before``."""
    rows = Operation.objects.filter(tenant_id=tenant_id)
    if kind:
        rows = rows.filter(kind=kind)
    if status:
        rows = rows.filter(status=status)
    if before:
        rows = rows.filter(Q(created_at__lt=before[0]) | Q(created_at=before[0], id__lt=before[1]))
    return list(rows.order_by("-created_at", "-id")[:limit])
