"""What the latest runs said: lines by period, sums by metric, findings."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, LiteralString
from uuid import UUID

from django.db import connection
from django.db.models import Q

from counters.models import Adjustment
from ledger.models import Metric
from reconciliation.models import Finding, ReportLine, Run
from stripemeter.lib import strictjson
from stripemeter.lib.decimals import EXACT
from stripemeter.lib.instants import InvalidInstant, parse_date
from stripemeter.lib.periods import Period, utc_month

PAGE_ROWS = 1_000
ZERO = Decimal(0)


def month_of(text: str) -> Period:
    """The UTC month of ``YYYY-MM`` (or of the day ``YYYY-MM-DD``). Raises `InvalidInstant`."""
    day = parse_date(text if len(text) > 7 else f"{text}-01")
    if not 2000 <= day.year <= 9000:
        raise InvalidInstant("is out of range")
    return utc_month(datetime(day.year, day.month, day.day, tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Row:
    """The newest line of one cursor, in units of the metric."""

    id: UUID
    mapping_id: UUID
    metric: str
    customer_ref: str
    period_start: datetime
    mode: str
    subscription_item: str
    checked_at: datetime
    unit_factor: Decimal
    counter: Decimal
    ledger: Decimal
    acknowledged: Decimal
    stripe: Decimal | None
    verdict: str
    causes: list[dict[str, Any]]
    undecided: bool
    critical: bool

    @property
    def local_total(self) -> Decimal:
        """What we bill."""
        return self.counter

    @property
    def stripe_total(self) -> Decimal:
        """What Stripe has; what it acknowledged where it could not be read."""
        known = self.acknowledged if self.stripe is None else self.stripe
        return EXACT.multiply(known, self.unit_factor)

    @property
    def diff(self) -> Decimal:
        """Ours minus Stripe's."""
        return EXACT.subtract(self.local_total, self.stripe_total)

    @property
    def status(self) -> str:
        """``investigate`` while a difference waits for a person, ``resolved`` once decided."""
        if self.verdict != "drift":
            return "ok"
        return "investigate" if self.undecided else "resolved"


_LATEST: LiteralString = """
SELECT l.id, l.mapping_id, t.name, l.customer_ref, l.period_start, l.mode,
       coalesce(CASE l.mode WHEN 'live' THEN m.subscription_item_id
                ELSE m.shadow_subscription_item_id END, ''),
       l.checked_at, l.unit_factor, l.counter, l.ledger, l.acknowledged, l.stripe, l.status,
       l.causes,
       EXISTS (SELECT FROM reconciliation_finding f
           WHERE (f.tenant_id, f.mapping_id, f.customer_ref, f.period_start, f.mode)
               = (l.tenant_id, l.mapping_id, l.customer_ref, l.period_start, l.mode)
             AND f.closed_at IS NULL AND f.state = 'open'),
       EXISTS (SELECT FROM reconciliation_finding f
           WHERE (f.tenant_id, f.mapping_id, f.customer_ref, f.period_start, f.mode)
               = (l.tenant_id, l.mapping_id, l.customer_ref, l.period_start, l.mode)
             AND f.closed_at IS NULL AND f.severity = 'critical')
FROM ({newest}) l
JOIN billing_pricemapping m ON m.id = l.mapping_id
JOIN ledger_metric t ON t.id = l.metric_id
ORDER BY l.period_start, l.mapping_id, l.customer_ref, l.mode
"""
_WANTED: LiteralString = """
    l.tenant_id = %(tenant)s AND l.period_start >= %(start)s AND l.period_start < %(end)s
      AND (%(mode)s::text IS NULL OR l.mode = %(mode)s)
      AND (%(metric)s::int IS NULL OR l.metric_id = %(metric)s)
      AND (%(customer)s::text IS NULL OR l.customer_ref = %(customer)s)
      AND (%(after_mapping)s::uuid IS NULL
           OR (l.period_start, l.mapping_id, l.customer_ref, l.mode)
              > (%(after_period)s, %(after_mapping)s, %(after_customer)s::text COLLATE "C",
                 %(after_mode)s::text))
"""
#: The conditions lie within, where the index stops after a page.
NEWEST: LiteralString = f"""
    SELECT DISTINCT ON (l.tenant_id, l.period_start, l.mapping_id, l.customer_ref, l.mode) l.*
    FROM reconciliation_reportline l WHERE {_WANTED}
    ORDER BY l.tenant_id, l.period_start, l.mapping_id, l.customer_ref, l.mode,
             l.checked_at DESC, l.run_id DESC
    LIMIT %(limit)s
"""
#: Few lines differ: these are looked up, and each is asked whether it is still the newest.
_DIFFERING: LiteralString = f"""
    SELECT l.* FROM reconciliation_reportline l
    WHERE l.status <> 'parity' AND {_WANTED} AND NOT EXISTS (
        SELECT FROM reconciliation_reportline n
        WHERE (n.tenant_id, n.period_start, n.mapping_id, n.customer_ref, n.mode)
            = (l.tenant_id, l.period_start, l.mapping_id, l.customer_ref, l.mode)
          AND (n.checked_at, n.run_id) > (l.checked_at, l.run_id))
    ORDER BY l.period_start, l.mapping_id, l.customer_ref, l.mode
    LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which lines."""

    tenant_id: int
    period: Period
    mode: str | None = "live"
    metric_id: int | None = None
    customer_ref: str | None = None
    #: Only lines that are not in parity.
    differing: bool = False


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ends."""

    period_start: datetime
    mapping_id: UUID
    customer_ref: str
    mode: str

    @classmethod
    def of(cls, row: Row) -> "Position":
        """The position of a row."""
        return cls(row.period_start, row.mapping_id, row.customer_ref, row.mode)

    def written(self) -> list[str]:
        """The position as a cursor holds it."""
        period = self.period_start.isoformat()
        return [period, str(self.mapping_id), self.customer_ref, self.mode]

    @classmethod
    def read(cls, values: list[str]) -> "Position":
        """The position that `written` wrote."""
        period, mapping, customer, mode = values
        return cls(datetime.fromisoformat(period), UUID(mapping), customer, mode)


def wanted(
    filters: Filter, after: Position | None = None, limit: int | None = None
) -> dict[str, Any]:
    """The parameters of `NEWEST`; without a limit it is all newest lines."""
    return {
        "tenant": filters.tenant_id,
        "start": filters.period.start,
        "end": filters.period.end,
        "mode": filters.mode,
        "metric": filters.metric_id,
        "customer": filters.customer_ref,
        "after_period": after.period_start if after else None,
        "after_mapping": after.mapping_id if after else None,
        "after_customer": after.customer_ref if after else None,
        "after_mode": after.mode if after else None,
        "limit": limit,
    }


def rows(filters: Filter, *, after: Position | None = None, limit: int = PAGE_ROWS) -> list[Row]:
    """A page of newest lines in a fixed order."""
    newest = _DIFFERING if filters.differing else NEWEST
    with connection.cursor() as cursor:
        cursor.execute(_LATEST.replace("{newest}", newest), wanted(filters, after, limit))
        found = cursor.fetchall()
    return [_row(list(values)) for values in found]


def _row(values: list[Any]) -> Row:
    values[14] = _json(values[14])
    return Row(*values)


def _json(value: Any) -> list[dict[str, Any]]:
    known: list[dict[str, Any]] = strictjson.loads(value) if isinstance(value, str) else value
    return known


def all_rows(filters: Filter) -> Iterator[Row]:
    """Every newest line, page by page."""
    after: Position | None = None
    while True:
        page = rows(filters, after=after)
        yield from page
        if len(page) < PAGE_ROWS:
            return
        after = Position.of(page[-1])


def percent(drift: Decimal, local: Decimal, stripe: Decimal) -> Decimal:
    """``drift`` in percent of the larger of both, six decimals; zero if there is no drift."""
    drift, larger = drift.copy_abs(), max(local.copy_abs(), stripe.copy_abs())
    if not drift or not larger:
        return ZERO if not drift else Decimal(100)
    share = EXACT.divide(EXACT.multiply(drift, Decimal(100)), larger)
    return share.quantize(Decimal("0.000001"), context=EXACT)


def pending_adjustments(tenant_id: int, period: Period) -> list[Adjustment]:
    """Adjustments of the period that wait for a person, at most a page."""
    return list(
        Adjustment.objects.filter(
            tenant_id=tenant_id,
            status="pending",
            period_start__gte=period.start,
            period_start__lt=period.end,
        )
        .select_related("metric")
        .order_by("created_at", "pk")[:PAGE_ROWS]
    )


_EVENTS: LiteralString = """
SELECT coalesce(sum(c.event_count), 0), max(c.watermark),
       (SELECT count(*) FROM counters_lateevent l JOIN counters_adjustment j
            ON j.id = l.adjustment_id
        WHERE j.tenant_id = %(tenant)s AND j.metric_id = %(metric)s
          AND j.period_start >= %(start)s AND j.period_start < %(end)s
          AND (%(customer)s::text IS NULL OR j.customer_ref = %(customer)s))
FROM counters_counter c
WHERE c.tenant_id = %(tenant)s AND c.metric_id = %(metric)s
  AND c.period_start >= %(start)s AND c.period_start < %(end)s
  AND (%(customer)s::text IS NULL OR c.customer_ref = %(customer)s)
"""


def events_of(filters: Filter) -> tuple[int, datetime | None, int]:
    """Events in the counters, the newest event time, and how many were late."""
    with connection.cursor() as cursor:
        cursor.execute(
            _EVENTS,
            {
                "tenant": filters.tenant_id,
                "metric": filters.metric_id,
                "customer": filters.customer_ref,
                "start": filters.period.start,
                "end": filters.period.end,
            },
        )
        total, newest, late = cursor.fetchone()
    return int(total), newest, int(late)


def run_of(*, tenant_id: int, run_id: UUID) -> Run | None:
    """A run of the tenant."""
    return Run.objects.filter(tenant_id=tenant_id, pk=run_id).first()


def latest_runs(*, tenant_id: int, limit: int) -> list[Run]:
    """The newest runs of the tenant."""
    return list(Run.objects.filter(tenant_id=tenant_id).order_by("-requested_at", "-pk")[:limit])


def run(*, tenant_id: int, run_id: UUID) -> Run | None:
    """One run of the tenant."""
    return Run.objects.filter(tenant_id=tenant_id, pk=run_id).first()


def lines_of(
    run: Run, *, limit: int, status: str = "", after: tuple[str, str] | None = None
) -> list[ReportLine]:
    """Lines of a run by customer; those in parity only when asked for by their status.

    ``after`` is the (customer, id) of the last line of the page before.
    """
    found = ReportLine.objects.filter(tenant_id=run.tenant_id, run_id=run.pk)
    found = found.filter(status=status) if status else found.exclude(status="parity")
    if after is not None:
        found = found.filter(
            Q(customer_ref__gt=after[0]) | Q(customer_ref=after[0], id__gt=after[1])
        )
    return list(found.order_by("customer_ref", "id")[:limit])


def findings(
    *,
    tenant_id: int,
    limit: int,
    before: UUID | None = None,
    states: tuple[str, ...] = (),
    cause: str | None = None,
    severity: str | None = None,
    customer_ref: str | None = None,
    period: Period | None = None,
    active: bool | None = None,
) -> list[Finding]:
    """A page of findings, newest first."""
    found = Finding.objects.filter(tenant_id=tenant_id)
    if states:
        found = found.filter(state__in=states)
    for name, value in (("cause", cause), ("severity", severity), ("customer_ref", customer_ref)):
        if value:
            found = found.filter(**{name: value})
    if period is not None:
        found = found.filter(period_start__gte=period.start, period_start__lt=period.end)
    if active is not None:
        found = found.filter(closed_at__isnull=active)
    if before is not None:
        found = found.filter(pk__lt=before)
    return list(found.order_by("-pk")[:limit])


def finding(*, tenant_id: int, finding_id: UUID) -> Finding | None:
    """One finding of the tenant."""
    return Finding.objects.filter(tenant_id=tenant_id, pk=finding_id).first()


def metric_names(tenant_id: int) -> dict[int, str]:
    """Names of the tenant's metrics by id."""
    return dict(Metric.objects.filter(tenant_id=tenant_id).values_list("pk", "name"))
