"""Prometheus series of reconciliation; what only the database knows is read at scrape."""

from collections.abc import Iterable
from typing import LiteralString

from django.db import connection
from prometheus_client import Counter, Histogram

from stripemeter.lib import clock, metrics
from stripemeter.lib.metrics import Sample

runs = Counter("recon_runs_total", "Runs by how they ended.", ["result"])
run_duration = Histogram(
    "recon_duration_seconds",
    "Time of one run.",
    buckets=(0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
)
#: Differing cursors that /metrics names one by one.
SHOWN_MAX = 200

_LATEST: LiteralString = """
SELECT t.key, coalesce(m.subscription_item_id, m.price_id),
       to_char(l.period_start, 'YYYY-MM'), sum(abs(l.units)), max(l.share)
FROM (
    SELECT f.tenant_id, f.mapping_id, f.period_start, sum(f.units) AS units,
           abs(sum(f.units)) / nullif(max(greatest(abs(r.wanted), abs(r.stripe))), 0) * 100 AS share
    FROM reconciliation_finding f
    LEFT JOIN reconciliation_reportline r ON r.tenant_id = f.tenant_id
         AND r.run_id = f.last_run_id AND r.mapping_id = f.mapping_id
         AND r.customer_ref = f.customer_ref AND r.period_start = f.period_start
         AND r.mode = f.mode
    WHERE f.closed_at IS NULL AND f.state = 'open'
    GROUP BY f.tenant_id, f.mapping_id, f.customer_ref, f.period_start, f.mode
) l
JOIN billing_pricemapping m ON m.id = l.mapping_id
JOIN tenancy_tenant t ON t.id = l.tenant_id
GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 200
"""
_BY_CAUSE: LiteralString = """
SELECT cause, severity, count(*) FROM reconciliation_finding
WHERE closed_at IS NULL AND state = 'open' GROUP BY 1, 2
"""
_STATES: LiteralString = """
SELECT state, count(*) FROM billing_push WHERE state <> 'acknowledged' GROUP BY 1
"""
_UNPUSHED: LiteralString = """
SELECT t.key, sum(abs(f.units)) FROM reconciliation_finding f
JOIN tenancy_tenant t ON t.id = f.tenant_id
WHERE f.closed_at IS NULL AND f.cause = 'unpushed' GROUP BY 1 LIMIT 200
"""
_COUNTDOWN: LiteralString = """
SELECT t.key, min(p.finalizes_at) FROM counters_billingperiod p
JOIN tenancy_tenant t ON t.id = p.tenant_id
WHERE p.state IN ('open', 'closing') AND p.finalizes_at IS NOT NULL GROUP BY 1 LIMIT 200
"""
_LAST_RUN: LiteralString = """
SELECT t.key, max(r.finished_at) FROM reconciliation_run r
JOIN tenancy_tenant t ON t.id = r.tenant_id WHERE r.status = 'done' GROUP BY 1 LIMIT 200
"""


_HALTED: LiteralString = """
SELECT mode, count(*) FILTER (WHERE halted_at IS NOT NULL) FROM billing_stripeaccount GROUP BY 1
"""


def _rows(statement: LiteralString) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def _absolute() -> Iterable[Sample]:
    for tenant, item, period, units, _ in _rows(_LATEST):
        yield (str(tenant), str(item), str(period)), _float(units)


def _percent() -> Iterable[Sample]:
    for tenant, item, period, _, share in _rows(_LATEST):
        yield (str(tenant), str(item), str(period)), _float(share)


def _largest() -> Iterable[Sample]:
    yield (), max((_float(row[3]) for row in _rows(_LATEST)), default=0.0)


def _findings() -> Iterable[Sample]:
    for cause, severity, number in _rows(_BY_CAUSE):
        yield (str(cause), str(severity)), _float(number)


def _push_states() -> Iterable[Sample]:
    for state, number in _rows(_STATES):
        yield (str(state),), _float(number)


def _unpushed() -> Iterable[Sample]:
    for tenant, units in _rows(_UNPUSHED):
        yield (str(tenant),), _float(units)


def _countdown() -> Iterable[Sample]:
    now = clock.now()
    for tenant, at in _rows(_COUNTDOWN):
        yield (str(tenant),), (at - now).total_seconds()  # type: ignore[operator]


def _since_run() -> Iterable[Sample]:
    now = clock.now()
    for tenant, at in _rows(_LAST_RUN):
        yield (str(tenant),), (now - at).total_seconds()  # type: ignore[operator]


def _halted() -> Iterable[Sample]:
    for mode, number in _rows(_HALTED):
        yield (str(mode),), _float(number)


def _float(value: object) -> float:
    return float(str(value)) if value is not None else 0.0


def register() -> None:
    """Name the gauges; called when the app is ready."""
    item = ("tenant", "subscription_item", "period")
    metrics.at_scrape("reconciliation_diff_abs", "Open drift in Stripe's units.", item, _absolute)
    metrics.at_scrape(
        "reconciliation_diff_pct", "Open drift in percent of the larger total.", item, _percent
    )
    metrics.at_scrape("reconciliation_diff", "Largest open drift.", (), _largest)
    metrics.at_scrape("reconciliation_findings", "Open findings.", ("cause", "severity"), _findings)
    metrics.at_scrape("push_states", "Pushes that are not acknowledged.", ("state",), _push_states)
    metrics.at_scrape(
        "unpushed_units", "Units that no push has said, at the last run.", ("tenant",), _unpushed
    )
    metrics.at_scrape(
        "finalization_countdown_seconds",
        "Until the next invoice of the tenant is final.",
        ("tenant",),
        _countdown,
    )
    metrics.at_scrape(
        "reconciliation_age_seconds", "Since the last finished run.", ("tenant",), _since_run
    )
    metrics.at_scrape(
        "stripe_accounts_halted", "Accounts that wait for an operator.", ("mode",), _halted
    )
