"""The close board: what still stands between a period and its certificate."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

from django.db import connection
from django.db.models.functions import TruncMonth

from counters.models import BillingPeriod, Counter
from reconciliation.models import PeriodClose, Run
from stripemeter.lib.instants import rfc3339
from stripemeter.lib.periods import Period

#: Stripe finalises an invoice one hour after its period by default (72 hours at most).
GRACE_DEFAULT = timedelta(hours=1)

_COUNTS: LiteralString = """
SELECT
  (SELECT count(*) FROM counters_adjustment WHERE tenant_id = %(tenant)s AND status = 'pending'
     AND period_start >= %(start)s AND period_start < %(end)s),
  (SELECT count(*) FROM billing_push WHERE tenant_id = %(tenant)s
     AND state IN ('pending', 'sending', 'retry')
     AND period_start >= %(start)s AND period_start < %(end)s),
  (SELECT count(*) FROM billing_push WHERE tenant_id = %(tenant)s
     AND state IN ('unknown', 'needs_review', 'parked')
     AND period_start >= %(start)s AND period_start < %(end)s)
"""
_LINES: LiteralString = """
SELECT count(*), count(*) FILTER (WHERE l.status = 'parity'),
       count(*) FILTER (WHERE l.status = 'settling'), count(*) FILTER (WHERE l.status = 'drift'),
       count(*) FILTER (WHERE l.status = 'unread'), count(l.invoiced),
       coalesce(sum(abs(l.wanted - l.acknowledged)), 0)
FROM (
    SELECT DISTINCT ON (tenant_id, period_start, mapping_id, customer_ref, mode) *
    FROM reconciliation_reportline
    WHERE tenant_id = %(tenant)s AND period_start >= %(start)s AND period_start < %(end)s
    ORDER BY tenant_id, period_start, mapping_id, customer_ref, mode, checked_at DESC, run_id DESC
) l
"""
_FINDINGS: LiteralString = """
SELECT cause, severity, count(*) FROM reconciliation_finding
WHERE tenant_id = %(tenant)s AND closed_at IS NULL AND state = 'open'
  AND period_start >= %(start)s AND period_start < %(end)s GROUP BY 1, 2 ORDER BY 1, 2
"""
_PERIODS: LiteralString = """
SELECT state, count(*), min(finalizes_at) FROM counters_billingperiod
WHERE tenant_id = %(tenant)s AND lower(span) >= %(start)s AND lower(span) < %(end)s
GROUP BY 1
"""


def board(*, tenant_id: int, period: Period, now: datetime) -> dict[str, Any]:
    """Late inbox, pushes, findings, invoices, countdown, and what blocks closing."""
    scope: dict[str, Any] = {"tenant": tenant_id, "start": period.start, "end": period.end}
    with connection.cursor() as cursor:
        cursor.execute(_COUNTS, scope)
        held, under_way, unknown = cursor.fetchone()
        cursor.execute(_LINES, scope)
        lines = cursor.fetchone()
        cursor.execute(_FINDINGS, scope)
        findings = [
            {"cause": cause, "severity": severity, "count": number}
            for cause, severity, number in cursor.fetchall()
        ]
        cursor.execute(_PERIODS, scope)
        states = cursor.fetchall()
    finalizes = min((row[2] for row in states if row[2]), default=period.end + GRACE_DEFAULT)
    last = _last_run(tenant_id)
    close = PeriodClose.objects.filter(
        tenant_id=tenant_id, period_start=period.start, period_end=period.end
    ).first()
    found: dict[str, Any] = {
        "period": {"start": rfc3339(period.start), "end": rfc3339(period.end)},
        "state": close.state if close else "open" if now < period.end else "over",
        "lateInbox": held,
        "pushesUnderWay": under_way,
        "pushesUnknown": unknown,
        "unpushedUnits": lines[6],
        "cursors": {
            "total": lines[0],
            "parity": lines[1],
            "settling": lines[2],
            "drift": lines[3],
            "unread": lines[4],
            "invoiced": lines[5],
        },
        "periodStates": {row[0]: row[1] for row in states},
        "findings": findings,
        "finalizesAt": rfc3339(finalizes),
        "secondsToFinalization": int((finalizes - now).total_seconds()),
        "lastRun": rfc3339(last.finished_at) if last and last.finished_at else None,
    }
    found["blockers"] = _blockers(found, period, last, now)
    return found


def _last_run(tenant_id: int) -> Run | None:
    done = Run.objects.filter(tenant_id=tenant_id, status=Run.Status.DONE)
    return done.order_by("-finished_at").first()


def _blockers(found: dict[str, Any], period: Period, last: Run | None, now: datetime) -> list[str]:
    blockers = []
    if now < period.end:
        blockers.append("the period is not over")
    if last is None or last.finished_at is None or last.finished_at < period.end:
        blockers.append("no run since the period ended")
    for number, one, many in (
        (found["lateInbox"], "adjustment waits for approval", "adjustments wait for approval"),
        (found["pushesUnderWay"], "push is under way", "pushes are under way"),
        (found["pushesUnknown"], "push needs a decision", "pushes need a decision"),
        (sum(each["count"] for each in found["findings"]), "open finding", "open findings"),
        (found["cursors"]["unread"], "cursor was not read", "cursors were not read"),
    ):
        if number:
            blockers.append(f"{number} {one if number == 1 else many}")
    return blockers


def customers_of(*, tenant_id: int, period: Period) -> Iterator[tuple[str, datetime]]:
    """Customers with usage in the period, and where their own period starts."""
    rows = (
        Counter.objects.filter(
            tenant_id=tenant_id, period_start__gte=period.start, period_start__lt=period.end
        )
        .values_list("customer_ref", "period_start")
        .distinct()
        .order_by("customer_ref", "period_start")
    )
    yield from rows.iterator(chunk_size=1_000)


def months_with_usage(*, tenant_id: int, since: datetime) -> set[datetime]:
    """Starts of the UTC months in which periods with usage start."""
    found = (
        Counter.objects.filter(tenant_id=tenant_id, period_start__gte=since)
        .annotate(month=TruncMonth("period_start", tzinfo=UTC))
        .values_list("month", flat=True)
        .distinct()
    )
    return set(found)


def closes(*, tenant_id: int, limit: int) -> list[PeriodClose]:
    """The newest closes of the tenant."""
    found = PeriodClose.objects.filter(tenant_id=tenant_id)
    return list(found.order_by("-period_start")[:limit])


def close_of(*, tenant_id: int, period: Period) -> PeriodClose | None:
    """The close of a period."""
    return PeriodClose.objects.filter(
        tenant_id=tenant_id, period_start=period.start, period_end=period.end
    ).first()


def period_states(*, tenant_id: int, period: Period) -> set[str]:
    """States of the customers' periods that start within ``period``."""
    return set(
        BillingPeriod.objects.filter(
            tenant_id=tenant_id,
            span__startswith__gte=period.start,
            span__startswith__lt=period.end,
        ).values_list("state", flat=True)
    )
