"""Newest lines added up, in one statement each: exact, whatever their number.

What each number of a line means is said by `reports.Row`; tests hold both against each other.
"""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, LiteralString

from django.db import connection

from reconciliation.selectors.reports import NEWEST, ZERO, Filter, percent, wanted
from stripemeter.lib.decimals import EXACT, exact_sum

#: The newest lines, with what Stripe has in units of the metric.
_LINES: LiteralString = f"""
WITH lines AS MATERIALIZED (
    SELECT l.mapping_id, l.customer_ref, l.period_start, l.mode, l.metric_id, l.checked_at,
           l.counter, l.ledger, l.status,
           coalesce(l.stripe, l.acknowledged) * l.unit_factor AS at_stripe
    FROM ({NEWEST}) l
)
"""
_SUMMARY: LiteralString = (
    _LINES
    + """
SELECT t.name, sum(l.counter), sum(l.at_stripe), sum(abs(l.counter - l.at_stripe)), count(*)
FROM lines l JOIN ledger_metric t ON t.id = l.metric_id
GROUP BY t.name
"""
)
_COUNTS: LiteralString = (
    _LINES
    + """
SELECT count(*), count(*) FILTER (WHERE l.status = 'drift'),
       count(*) FILTER (WHERE l.status = 'drift' AND EXISTS (
           SELECT FROM reconciliation_finding f
           WHERE (f.tenant_id, f.mapping_id, f.customer_ref, f.period_start, f.mode)
               = (%(tenant)s, l.mapping_id, l.customer_ref, l.period_start, l.mode)
             AND f.closed_at IS NULL AND f.state = 'open')),
       coalesce(max(abs(l.counter - l.at_stripe)), 0)
FROM lines l
"""
)
#: The first row is the whole; the others are customers, in the order of their first lines.
_OF_METRIC: LiteralString = (
    _LINES
    + """
(SELECT NULL, coalesce(sum(l.counter), 0), coalesce(sum(l.ledger), 0),
        coalesce(sum(l.at_stripe), 0), min(l.checked_at),
        count(*) FILTER (WHERE l.status = 'settling'), coalesce(array_agg(DISTINCT l.status), '{}'),
        EXISTS (SELECT FROM reconciliation_finding f JOIN lines o
                ON (f.mapping_id, f.customer_ref, f.period_start, f.mode)
                 = (o.mapping_id, o.customer_ref, o.period_start, o.mode)
            WHERE f.tenant_id = %(tenant)s AND f.closed_at IS NULL AND f.severity = 'critical')
 FROM lines l)
UNION ALL
(SELECT c.customer_ref, sum(c.counter), sum(c.ledger), NULL, NULL, NULL, NULL, NULL
 FROM (SELECT l.customer_ref, l.counter, l.ledger, row_number() OVER (
           ORDER BY l.period_start, l.mapping_id, l.customer_ref, l.mode) AS place
       FROM lines l) c
 GROUP BY c.customer_ref ORDER BY min(c.place) LIMIT %(customers)s)
"""
)


@dataclass(frozen=True, slots=True)
class Sums:
    """Lines added up. ``drift`` adds sizes, so that a surplus never hides a lack."""

    local: Decimal = ZERO
    stripe: Decimal = ZERO
    drift: Decimal = ZERO
    items: int = 0

    @property
    def percent(self) -> Decimal:
        """Drift in percent of the larger side, six decimals."""
        return percent(self.drift, self.local, self.stripe)


@dataclass(frozen=True, slots=True)
class Summary:
    """Sums per metric, by name, and overall."""

    per_metric: dict[str, Sums] = field(default_factory=dict)
    overall: Sums = Sums()


def summary(filters: Filter) -> Summary:
    """Every newest line, added up by metric."""
    rows = _read(_SUMMARY, wanted(filters))
    found = {name: Sums(local, stripe, drift, items) for name, local, stripe, drift, items in rows}
    parts = found.values()
    overall = Sums(
        exact_sum([each.local for each in parts]),
        exact_sum([each.stripe for each in parts]),
        exact_sum([each.drift for each in parts]),
        sum(each.items for each in parts),
    )
    return Summary(dict(sorted(found.items())), overall)


def counts(filters: Filter) -> dict[str, Any]:
    """How many cursors are in which state, and the largest difference."""
    ((total, drifting, investigating, largest),) = _read(_COUNTS, wanted(filters))
    return {
        "total": total,
        "ok": total - drifting,
        "investigating": investigating,
        "resolved": drifting - investigating,
        "maxDiff": largest,
    }


@dataclass(frozen=True, slots=True)
class MetricSums:
    """Everything that is said of one metric's newest lines."""

    local: Decimal
    ledger: Decimal
    stripe: Decimal
    #: When the line that was checked longest ago was; None without lines.
    checked_at: datetime | None
    settling: int
    verdicts: frozenset[str]
    #: Whether a finding that goes on is critical.
    critical: bool
    #: Counter and ledger of the first customers.
    customers: dict[str, tuple[Decimal, Decimal]]

    @property
    def drift(self) -> Decimal:
        """Ours minus Stripe's."""
        return EXACT.subtract(self.local, self.stripe)

    @property
    def status(self) -> str:
        """One word for all lines, as the contract has it."""
        if "drift" in self.verdicts:
            return "drift_critical" if self.critical else "drift_detected"
        if self.verdicts and "unread" not in self.verdicts:
            return "parity"
        return "reconciliation_needed"


def metric_sums(filters: Filter, *, customers_max: int) -> MetricSums:
    """The newest lines of the filter's metric, and of its first customers each."""
    parameters = {**wanted(filters), "customers": customers_max}
    (_, *whole), *customers = _read(_OF_METRIC, parameters)
    local, ledger, stripe, checked_at, settling, verdicts, critical = whole
    return MetricSums(
        local=local,
        ledger=ledger,
        stripe=stripe,
        checked_at=checked_at,
        settling=settling,
        verdicts=frozenset(verdicts),
        critical=critical,
        customers={ref: (counter, ledger) for ref, counter, ledger, *_ in customers},
    )


def _read(statement: LiteralString, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())
