"""Replays the ledger over the counters: shows what differs, and sets it right on request.

A counter is recomputed whole: the periods that touch ``[since, until)`` are compared with the
ledger, and those that differ are rebuilt. So an apply after an apply finds nothing, and a dry run,
which only compares, predicts it exactly. Live ingest goes on: candidates are found without a
lock; under the fold lock, some hundred at a time, those that nobody touched meanwhile are written
from what was read (`snapshot`), the others compared again and rebuilt.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, LiteralString

from django.db import connection, transaction
from django.db.models import Sum

from counters import locks
from counters.calendars import LONGEST_PERIOD
from counters.models import BillingCalendar, BillingPeriod, Counter
from counters.selectors.periods import calendar_of, has_calendars
from counters.services.fold import special_metrics
from counters.services.recompute import Difference, Scope, differences, rebuild
from counters.services.snapshot import kept, key_of, write_unmoved
from ledger.models import Metric, Operation
from ledger.services import operations
from stripemeter.lib.decimals import plain
from stripemeter.lib.errors import Conflict, invalid
from stripemeter.lib.faults import point
from stripemeter.lib.instants import rfc3339
from stripemeter.lib.periods import utc_month
from stripemeter.tenancy import audit

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
#: Counters with more events than this together are replayed by a worker, month by month.
SYNC_EVENTS_MAX = 1_000_000
REBUILD_COUNTERS = 200
CHANGES_SHOWN_MAX = 100
CUSTOMERS_SHOWN_MAX = 1_000
_WINDOW: LiteralString = """
e.tenant_id = %(tenant)s AND e.metric_id = ANY(%(metrics)s)
AND (%(customers)s::text[] IS NULL OR e.customer_ref = ANY(%(customers)s))
AND e.ts >= %(since)s AND e.ts < %(until)s
"""
_FOUND: LiteralString = (
    "SELECT e.metric_id, count(*) FROM ledger_event e WHERE " + _WINDOW + " GROUP BY 1"
)
_LATE: LiteralString = (
    """
SELECT e.metric_id, count(*) FROM counters_lateevent l
JOIN ledger_event e ON e.tenant_id = l.tenant_id AND e.key = l.key
WHERE l.tenant_id = %(tenant)s AND """
    + _WINDOW
    + " GROUP BY 1"
)


@dataclass(frozen=True, slots=True)
class Window:
    """What to replay: metrics (none named: all), customers (None: all), a stretch of time."""

    tenant_id: int
    metrics: tuple[str, ...]
    since: datetime
    until: datetime
    customers: tuple[str, ...] | None = None


@dataclass(slots=True)
class MetricChanges:
    """What a replay finds for one metric."""

    events_found: int = 0
    late_events: int = 0
    counter_delta: Decimal = Decimal(0)
    customers: set[str] = field(default_factory=set)

    def as_wire(self) -> dict[str, Any]:
        """The member of ``changes``."""
        return {
            "eventsFound": self.events_found,
            "lateEvents": self.late_events,
            "counterDelta": self.counter_delta,
            "affectedCustomers": sorted(self.customers)[:CUSTOMERS_SHOWN_MAX],
        }


@dataclass(slots=True)
class Report:
    """What a replay found (and, applied, changed), per metric and counter."""

    applied: bool
    changes: dict[str, MetricChanges] = field(default_factory=dict)
    counters: list[dict[str, Any]] = field(default_factory=list)
    counters_changed: int = 0
    frozen: int = 0

    @property
    def summary(self) -> str:
        """One sentence for people."""
        delta = sum((changes.counter_delta for changes in self.changes.values()), Decimal(0))
        verb = "Updated" if self.applied else "Would update"
        sign = "" if delta < 0 else "+"
        return f"{verb} {self.counters_changed} counters with {sign}{plain(delta)} total delta"

    def add(self, found: Sequence[Difference], metrics: dict[int, Metric]) -> None:
        """Count differing counters."""
        for difference in found:
            if difference.frozen:
                self.frozen += 1
                continue
            metric = metrics[difference.metric_id]
            before = difference.counter.of(metric.aggregation) + difference.counter_adjusted
            after = difference.ledger.of(metric.aggregation) + difference.adjustments
            changes = self.changes[metric.name]
            changes.counter_delta += after - before
            changes.customers.add(difference.customer_ref)
            self.counters_changed += 1
            if len(self.counters) < CHANGES_SHOWN_MAX:
                self.counters.append(
                    {
                        "metric": metric.name,
                        "customerRef": difference.customer_ref,
                        "periodStart": rfc3339(difference.period_start),
                        "before": before,
                        "after": after,
                    }
                )


def _metrics(window: Window) -> dict[int, Metric]:
    rows = Metric.objects.filter(tenant_id=window.tenant_id)
    if window.metrics:
        rows = rows.filter(name__in=window.metrics)
    return {metric.pk: metric for metric in rows}


def _first_start(window: Window) -> datetime:
    """The earliest start of any period that touches the window."""
    starts = [utc_month(window.since).start]
    if has_calendars(window.tenant_id):
        calendars = BillingCalendar.objects.filter(tenant_id=window.tenant_id)
        starts += [calendar_of(row).period_of(window.since).start for row in calendars]
        spans = BillingPeriod.objects.filter(
            tenant_id=window.tenant_id, span__contains=window.since
        ).values_list("span", flat=True)
        starts += [span.lower for span in spans]
    return min(starts)


def _scope(window: Window, metric_ids: Sequence[int]) -> Scope | None:
    """The window's counters; None if it is empty."""
    start = _first_start(window)
    if window.since == window.until or start >= window.until:
        return None
    return Scope(
        window.tenant_id, tuple(metric_ids), start, window.until, customers=window.customers
    )


def _steps(window: Window, metric_ids: Sequence[int]) -> list[Scope]:
    """The window's counters, cut by the month in which their periods begin; ascending."""
    whole, oldest = _scope(window, metric_ids), _oldest(window.tenant_id, metric_ids)
    if whole is None or oldest is None:
        return []
    # Months without a counter and without an event cost a scan each: begin where there are any.
    start = max(whole.start, utc_month(oldest - LONGEST_PERIOD).start)
    if not has_calendars(window.tenant_id):
        start = max(start, utc_month(oldest).start)
    scopes: list[Scope] = []
    while start < whole.end:
        end = min(utc_month(start).end, whole.end)
        scopes.append(dataclasses.replace(whole, start=start, end=end))
        start = end
    return scopes


def _oldest(tenant_id: int, metric_ids: Sequence[int]) -> datetime | None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT least(
                (SELECT min(ts) FROM ledger_event
                 WHERE tenant_id = %(tenant)s AND metric_id = ANY(%(metrics)s)),
                (SELECT min(period_start) FROM counters_counter
                 WHERE tenant_id = %(tenant)s AND metric_id = ANY(%(metrics)s)))
            """,
            {"tenant": tenant_id, "metrics": list(metric_ids)},
        )
        (found,) = cursor.fetchone()
    oldest: datetime | None = found
    return oldest


def _in_window(found: list[Difference], window: Window) -> list[Difference]:
    return [row for row in found if row.period_end > window.since]


def _start_report(window: Window, metrics: dict[int, Metric], *, applied: bool) -> Report:
    report = Report(applied)
    report.changes = {name: MetricChanges() for name in window.metrics}
    for metric in metrics.values():
        report.changes.setdefault(metric.name, MetricChanges())
    parameters: dict[str, Any] = {
        "tenant": window.tenant_id,
        "metrics": list(metrics),
        "customers": None if window.customers is None else list(window.customers),
        "since": window.since,
        "until": window.until,
    }
    with connection.cursor() as cursor:
        cursor.execute(_FOUND, parameters)
        for metric_id, events in cursor.fetchall():
            report.changes[metrics[metric_id].name].events_found = events
        cursor.execute(_LATE, parameters)
        for metric_id, late in cursor.fetchall():
            report.changes[metrics[metric_id].name].late_events = late
    return report


def preview(window: Window) -> Report:
    """What an apply would change now. Writes nothing."""
    metrics = _metrics(window)
    report = _start_report(window, metrics, applied=False)
    scope = _scope(window, list(metrics))
    if scope is not None:
        report.add(_in_window(differences(scope, limit=None), window), metrics)
    return report


def apply_replay(window: Window, *, actor: str, now: datetime) -> Report:
    """Set every counter of the window right; frozen ones are counted and left alone.

    Raises `Conflict` while another replay of the tenant runs.
    """
    metrics = _metrics(window)
    with locks.replay_lock(window.tenant_id) as ours:
        if not ours or _operation_running(window.tenant_id):
            raise Conflict("Another replay of this tenant is running.", code="replay_running")
        report = _start_report(window, metrics, applied=True)
        scope = _scope(window, list(metrics))
        for changed in () if scope is None else _apply_scope(scope, window):
            report.add(changed, metrics)
        _record(window, report, actor=actor, now=now)
    return report


def _operation_running(tenant_id: int) -> bool:
    return Operation.objects.filter(
        tenant_id=tenant_id, kind=Operation.Kind.REPLAY, status__in=operations.TO_DO
    ).exists()


def _apply_scope(scope: Scope, window: Window) -> Iterator[list[Difference]]:
    with kept(scope) as found:
        candidates = _in_window(found, window)
        for at in range(0, len(candidates), REBUILD_COUNTERS):
            with transaction.atomic():
                locks.fold_lock(scope.tenant_id)
                changed = _set_right(scope, candidates[at : at + REBUILD_COUNTERS])
                point("replay.rebuilt")
            yield changed


def _set_right(scope: Scope, part: list[Difference]) -> list[Difference]:
    """Overwrite ``part`` under the fold lock; what was found to differ, frozen ones too."""
    special = special_metrics([scope.tenant_id])
    not_in_days = {*special["last_metrics"], *special["unique_metrics"]}
    plain = [row for row in part if not row.frozen and row.metric_id not in not_in_days]
    written = write_unmoved(scope.tenant_id, plain) if plain else set()
    # A fold or another hand may have changed the others meanwhile: look again.
    rest = [row for row in part if key_of(row) not in written]
    found = _again(scope, rest) if rest else []
    rebuild(scope.tenant_id, found)
    return sorted([row for row in part if key_of(row) in written] + found, key=key_of)


def _again(scope: Scope, part: list[Difference]) -> list[Difference]:
    keys = {key_of(row) for row in part}
    narrow = Scope(
        scope.tenant_id,
        tuple({row.metric_id for row in part}),
        min(row.period_start for row in part),
        max(row.period_start for row in part) + timedelta(microseconds=1),
        customers=tuple({row.customer_ref for row in part}),
    )
    return [row for row in differences(narrow, limit=None) if key_of(row) in keys]


@transaction.atomic
def _record(window: Window, report: Report, *, actor: str, now: datetime) -> None:
    audit.record(
        tenant_id=window.tenant_id,
        actor=actor,
        action="replay.applied",
        object_type="counters",
        object_id=f"{rfc3339(window.since)}/{rfc3339(window.until)}",
        now=now,
        after={"metrics": list(window.metrics), "summary": report.summary},
    )


# --- Long replays -----------------------------------------------------------------------


def is_long(window: Window) -> bool:
    """Whether the window holds too many events for one request."""
    rows = Counter.objects.filter(
        tenant_id=window.tenant_id,
        metric_id__in=list(_metrics(window)),
        period_end__gt=window.since,
        period_start__lt=window.until,
    )
    if window.customers is not None:
        rows = rows.filter(customer_ref__in=window.customers)
    return (rows.aggregate(events=Sum("event_count"))["events"] or 0) > SYNC_EVENTS_MAX


@transaction.atomic
def start_operation(window: Window, *, applied: bool, actor: str, now: datetime) -> Operation:
    """Leave the replay to a worker. Raises `Conflict` while another one runs."""
    locks.replay_create_lock(window.tenant_id)
    if _operation_running(window.tenant_id):
        raise Conflict("Another replay of this tenant is running.", code="replay_running")
    return operations.create(
        tenant_id=window.tenant_id,
        kind=Operation.Kind.REPLAY,
        request={
            "mode": "apply" if applied else "dry-run",
            "metrics": list(window.metrics),
            "customers": None if window.customers is None else list(window.customers),
            "since": rfc3339(window.since),
            "until": rfc3339(window.until),
        },
        actor=actor,
        now=now,
        steps_total=len(_steps(window, list(_metrics(window)))),
    )


def run_operation(operation: Operation, *, clock: Callable[[], datetime]) -> None:
    """Replay month by month; call it with a claimed operation."""
    request = operation.request
    window = Window(
        operation.tenant_id,
        tuple(request["metrics"]),
        datetime.fromisoformat(request["since"]),
        datetime.fromisoformat(request["until"]),
        None if request["customers"] is None else tuple(request["customers"]),
    )
    metrics = _metrics(window)
    scopes = _steps(window, list(metrics))
    applied = request["mode"] == "apply"

    def do_step(held: Operation) -> bool:
        if held.steps_done >= max(len(scopes), 1):
            return False
        if held.steps_done == 0:
            held.result = _as_result(_start_report(window, metrics, applied=applied))
        if held.steps_done < len(scopes):
            report = Report(applied, {m.name: MetricChanges() for m in metrics.values()})
            _step(scopes[held.steps_done], window, report, metrics)
            held.result = _merged(held.result, report)
        held.steps_done += 1
        held.steps_total = max(held.steps_total, len(scopes))
        held.save(update_fields=["result", "steps_done", "steps_total"])
        return held.steps_done < len(scopes)

    operations.run(operation, do_step=do_step, clock=clock)


def _step(scope: Scope, window: Window, report: Report, metrics: dict[int, Metric]) -> None:
    if not report.applied:
        report.add(_in_window(differences(scope, limit=None), window), metrics)
        return
    for changed in _apply_scope(scope, window):
        report.add(changed, metrics)


def _as_result(report: Report) -> dict[str, Any]:
    return {
        "changes": {
            name: {**changes.as_wire(), "counterDelta": plain(changes.counter_delta)}
            for name, changes in report.changes.items()
        },
        "countersChanged": report.counters_changed,
        "frozenSkipped": report.frozen,
        "summary": report.summary,
    }


def _merged(result: dict[str, Any], report: Report) -> dict[str, Any]:
    for name, changes in report.changes.items():
        found = result["changes"].setdefault(name, MetricChanges().as_wire())
        found["counterDelta"] = plain(Decimal(found["counterDelta"]) + changes.counter_delta)
        customers = {*found["affectedCustomers"], *changes.customers}
        found["affectedCustomers"] = sorted(customers)[:CUSTOMERS_SHOWN_MAX]
    whole = Report(report.applied)
    whole.counters_changed = result["countersChanged"] + report.counters_changed
    whole.changes["all"] = MetricChanges(
        counter_delta=sum(
            (Decimal(found["counterDelta"]) for found in result["changes"].values()), Decimal(0)
        )
    )
    return {
        "changes": result["changes"],
        "countersChanged": whole.counters_changed,
        "frozenSkipped": result["frozenSkipped"] + report.frozen,
        "summary": whole.summary,
    }


def newest_watermark(window: Window) -> datetime | None:
    """The newest watermark of the window's counters."""
    newest: datetime | None = (
        Counter.objects.filter(
            tenant_id=window.tenant_id,
            metric_id__in=list(_metrics(window)),
            period_end__gt=window.since,
            period_start__lt=window.until,
        )
        .order_by("-watermark")
        .exclude(watermark=None)
        .values_list("watermark", flat=True)
        .first()
    )
    return newest


def check_watermark(given: datetime, window: Window, *, now: datetime) -> None:
    """Refuse a watermark that lies ahead of the clock or behind the counters' own."""
    if given > now:
        raise invalid("watermark", "lies in the future", code="invalid_watermark")
    newest = newest_watermark(window)
    if given < (newest or EPOCH):
        raise invalid("watermark", "watermarks never move back", code="invalid_watermark")
