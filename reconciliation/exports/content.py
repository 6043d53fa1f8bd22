"""The sheets of a period's export, read by server-side cursors from one snapshot."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, LiteralString

from django.db import connections

from billing.pricing import PricingError
from reconciliation.exports.sheets import Column, Kind, Sheet
from reconciliation.money import Prices
from reconciliation.selectors.reports import percent
from stripemeter.lib.cells import Cell
from stripemeter.lib.decimals import EXACT
from stripemeter.lib.periods import Period

FETCH_ROWS = 2_000
#: Money keeps as many decimals of a minor unit as Stripe's prices have.
_PLACES = Decimal(1).scaleb(-12)

NUMBER, INTEGER, INSTANT, DAY = Kind.NUMBER, Kind.INTEGER, Kind.INSTANT, Kind.DAY

_USAGE: LiteralString = """
SELECT c.customer_ref, m.name, m.aggregation, m.unit, c.period_start, c.period_end,
       c.event_count,
       CASE m.aggregation WHEN 'sum' THEN c.sum WHEN 'count' THEN c.event_count
            WHEN 'max' THEN coalesce(c.max, 0) WHEN 'min' THEN coalesce(c.min, 0)
            WHEN 'last' THEN coalesce(c.last, 0) WHEN 'unique' THEN c.unique_count
            ELSE c.sum / greatest(c.event_count, 1) END,
       c.adjusted
FROM counters_counter c JOIN ledger_metric m ON m.id = c.metric_id
WHERE c.tenant_id = %(tenant)s AND c.period_start >= %(start)s AND c.period_start < %(end)s
ORDER BY m.name, c.customer_ref, c.period_start
"""
_ADJUSTMENTS: LiteralString = """
SELECT a.id::text, a.customer_ref, m.name, a.period_start, a.day,
       CASE WHEN a.status IN ('approved', 'reverted') THEN a.delta ELSE 0 END, a.delta, a.reason,
       a.status, a.actor, a.created_at, a.approved_by, a.approved_at, a.reverted_by, a.note
FROM counters_adjustment a JOIN ledger_metric m ON m.id = a.metric_id
WHERE a.tenant_id = %(tenant)s AND a.period_start >= %(start)s AND a.period_start < %(end)s
ORDER BY a.created_at, a.id
"""
_FINDINGS: LiteralString = """
SELECT f.id::text, f.customer_ref, m.name, f.mode, f.period_start, f.cause, f.severity, f.state,
       f.units, f.amount_minor, f.currency, f.opened_at, f.closed_at, f.owner, f.decided_by,
       f.note, f.evidence::text
FROM reconciliation_finding f JOIN ledger_metric m ON m.id = f.metric_id
WHERE f.tenant_id = %(tenant)s AND f.period_start >= %(start)s AND f.period_start < %(end)s
ORDER BY f.opened_at, f.id
"""
_PUSHES: LiteralString = """
SELECT p.identifier, p.customer_ref, m.name, p.mode, p.stripe_customer_id, p.slice_day,
       p.stamped_at, p.value, CASE WHEN p.state = 'acknowledged' THEN p.delta ELSE 0 END,
       p.state, p.settled_at, p.stripe_request_id
FROM billing_push p
JOIN billing_pricemapping x ON x.id = p.mapping_id JOIN ledger_metric m ON m.id = x.metric_id
WHERE p.tenant_id = %(tenant)s AND p.period_start >= %(start)s AND p.period_start < %(end)s
ORDER BY p.period_start, p.mapping_id, p.customer_ref, p.mode, p.sequence
"""
_LINES: LiteralString = """
SELECT l.mapping_id, l.customer_ref, m.name, l.mode, l.period_start,
       coalesce(CASE l.mode WHEN 'live' THEN x.subscription_item_id
                ELSE x.shadow_subscription_item_id END, ''),
       l.counter, coalesce(l.stripe, l.acknowledged) * l.unit_factor, l.wanted,
       coalesce(l.invoiced, 0), l.status,
       EXISTS (SELECT FROM reconciliation_finding f
           WHERE (f.tenant_id, f.mapping_id, f.customer_ref, f.period_start, f.mode)
               = (l.tenant_id, l.mapping_id, l.customer_ref, l.period_start, l.mode)
             AND f.closed_at IS NULL AND f.state = 'open')
FROM (
    SELECT DISTINCT ON (tenant_id, period_start, mapping_id, customer_ref, mode) *
    FROM reconciliation_reportline
    WHERE tenant_id = %(tenant)s AND period_start >= %(start)s AND period_start < %(end)s
    ORDER BY tenant_id, period_start, mapping_id, customer_ref, mode, checked_at DESC, run_id DESC
) l
JOIN billing_pricemapping x ON x.id = l.mapping_id JOIN ledger_metric m ON m.id = l.metric_id
ORDER BY m.name, l.customer_ref, l.period_start, l.mode, l.mapping_id
"""
#: How many rows the sheets will have, for progress: never fewer than are written. What is
#: compared twice is one line; a line whose price is unreadable is no accrual.
_EXPECTED: LiteralString = """
WITH lines AS (
    SELECT DISTINCT ON (tenant_id, period_start, mapping_id, customer_ref, mode)
           mode, wanted, invoiced
    FROM reconciliation_reportline
    WHERE tenant_id = %(tenant)s AND period_start >= %(start)s AND period_start < %(end)s
    ORDER BY tenant_id, period_start, mapping_id, customer_ref, mode, checked_at DESC, run_id DESC
)
SELECT (SELECT count(*) FROM counters_counter WHERE tenant_id = %(tenant)s
          AND period_start >= %(start)s AND period_start < %(end)s)
     + (SELECT count(*) FROM counters_adjustment WHERE tenant_id = %(tenant)s
          AND period_start >= %(start)s AND period_start < %(end)s)
     + (SELECT count(*) FROM reconciliation_finding WHERE tenant_id = %(tenant)s
          AND period_start >= %(start)s AND period_start < %(end)s)
     + (SELECT count(*) FROM billing_push WHERE tenant_id = %(tenant)s
          AND period_start >= %(start)s AND period_start < %(end)s)
     + (SELECT count(*) + count(*) FILTER (
            WHERE mode = 'live' AND wanted <> coalesce(invoiced, 0)) FROM lines)
"""


@dataclass(slots=True)
class Source:
    """One snapshot of the database, and the scope that is read from it."""

    raw: Any
    parameters: dict[str, Any]
    snapshot_id: str
    opened: int = 0

    def rows(self, statement: LiteralString) -> Iterator[tuple[Any, ...]]:
        """Rows as they come, a few thousand in memory at a time."""
        self.opened += 1
        with self.raw.cursor(name=f"export_{self.opened}") as cursor:
            cursor.itersize = FETCH_ROWS
            cursor.execute(statement, self.parameters)
            yield from cursor

    def expected(self) -> int:
        """How many rows there will be at most, all sheets together."""
        return int(self.raw.execute(_EXPECTED, self.parameters).fetchone()[0])


@contextmanager
def open_source(tenant_id: int, period: Period) -> Iterator[Source]:
    """A snapshot on a connection of its own: progress is written beside it.

    REPEATABLE READ: whatever is read through it, once or twice, is the same.
    """
    wrapper = connections.create_connection("default")
    try:
        wrapper.ensure_connection()
        raw = wrapper.connection
        with raw.transaction():
            raw.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            raw.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            [name] = raw.execute("SELECT pg_current_snapshot()::text").fetchone()
            scope = {"tenant": tenant_id, "start": period.start, "end": period.end}
            yield Source(raw, scope, name)
    finally:
        wrapper.close()


def sheets_of(source: Source) -> list[Sheet]:
    """Every sheet of the period, in a fixed order."""
    return [
        Sheet("reconciliation", _RECONCILIATION_COLUMNS, _reconciliation(source)),
        Sheet("usage", _USAGE_COLUMNS, _usage(source)),
        Sheet("adjustments", _ADJUSTMENT_COLUMNS, source.rows(_ADJUSTMENTS)),
        Sheet("findings", _FINDING_COLUMNS, _findings(source)),
        Sheet("pushes", _PUSH_COLUMNS, source.rows(_PUSHES)),
        Sheet("unbilled", _UNBILLED_COLUMNS, _unbilled(source)),
    ]


_RECONCILIATION_COLUMNS = (
    Column("subscription_item_id"),
    Column("period"),
    Column("local", NUMBER, summed=True),
    Column("stripe", NUMBER, summed=True),
    Column("drift_abs", NUMBER, summed=True),
    Column("drift_pct", NUMBER),
    Column("status"),
    Column("metric"),
    Column("customer_ref"),
    Column("mode"),
)
_USAGE_COLUMNS = (
    Column("customer_ref"),
    Column("metric"),
    Column("aggregation"),
    Column("unit"),
    Column("period_start", INSTANT),
    Column("period_end", INSTANT),
    Column("events", INTEGER, summed=True),
    Column("folded", NUMBER, summed=True),
    Column("adjustments", NUMBER, summed=True),
    Column("total", NUMBER, summed=True),
)
_ADJUSTMENT_COLUMNS = (
    Column("id"),
    Column("customer_ref"),
    Column("metric"),
    Column("period_start", INSTANT),
    Column("day", DAY),
    Column("counted", NUMBER, summed=True),
    Column("delta", NUMBER, summed=True),
    Column("reason"),
    Column("status"),
    Column("requested_by"),
    Column("requested_at", INSTANT),
    Column("approved_by"),
    Column("approved_at", INSTANT),
    Column("reverted_by"),
    Column("note"),
)
_FINDING_COLUMNS = (
    Column("id"),
    Column("customer_ref"),
    Column("metric"),
    Column("mode"),
    Column("period_start", INSTANT),
    Column("cause"),
    Column("severity"),
    Column("state"),
    Column("units", NUMBER, summed=True),
    Column("amount_minor", NUMBER, summed=True),
    Column("currency"),
    Column("opened_at", INSTANT),
    Column("closed_at", INSTANT),
    Column("owner"),
    Column("decided_by"),
    Column("note"),
    Column("evidence"),
)
_PUSH_COLUMNS = (
    Column("identifier"),
    Column("customer_ref"),
    Column("metric"),
    Column("mode"),
    Column("stripe_customer_id"),
    Column("day", DAY),
    Column("stamped_at", INSTANT),
    Column("value", NUMBER, summed=True),
    Column("acknowledged", NUMBER, summed=True),
    Column("state"),
    Column("settled_at", INSTANT),
    Column("stripe_request_id"),
)
_UNBILLED_COLUMNS = (
    Column("customer_ref"),
    Column("metric"),
    Column("mode"),
    Column("period_start", INSTANT),
    Column("billable_units", NUMBER, summed=True),
    Column("invoiced_units", NUMBER, summed=True),
    Column("unbilled_units", NUMBER, summed=True),
    Column("unbilled_minor", NUMBER, summed=True),
    Column("currency"),
)


def _usage(source: Source) -> Iterator[tuple[Cell, ...]]:
    for row in source.rows(_USAGE):
        folded, adjusted = _bounded(row[7]), row[8]
        yield (*row[:7], folded, adjusted, folded + adjusted)


def _findings(source: Source) -> Iterator[tuple[Cell, ...]]:
    for row in source.rows(_FINDINGS):
        minor = None if row[9] is None else _bounded(row[9])
        yield (*row[:9], minor, *row[10:])


def _reconciliation(source: Source) -> Iterator[tuple[Cell, ...]]:
    for _, customer, metric, mode, start, item, local, stripe, _, _, status, open_ in source.rows(
        _LINES
    ):
        drift = EXACT.subtract(local, stripe).copy_abs()
        word = "ok" if status != "drift" else "investigate" if open_ else "resolved"
        share = percent(drift, local, stripe)
        yield item, f"{start:%Y-%m}", local, stripe, drift, share, word, metric, customer, mode


def _unbilled(source: Source) -> Iterator[tuple[Cell, ...]]:
    """What is owed and on no invoice yet, priced as an accrual: live lines only."""
    prices = Prices()
    for mapping, customer, metric, mode, start, _, _, _, wanted, invoiced, _, _ in source.rows(
        _LINES
    ):
        units = wanted - invoiced
        if mode != "live" or not units:
            continue
        try:
            worth = prices.worth(mapping, ours=wanted, drift=units)
        except PricingError:
            continue
        minor = None if worth.minor is None else _bounded(worth.minor)
        yield customer, metric, mode, start, wanted, invoiced, units, minor, worth.currency


def _bounded(value: Decimal) -> Decimal:
    """At most 12 decimals: an average or a price may have more."""
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -12:
        return value.quantize(_PLACES, rounding=ROUND_HALF_EVEN)
    return value
