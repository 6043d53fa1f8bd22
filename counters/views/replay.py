"""The replay wizard: choose a window, look at what differs, set it right."""

from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from counters import tasks
from counters.services import replay
from ledger.models import Metric
from stripemeter.lib import clock, text
from stripemeter.lib.errors import ProblemError, invalid
from stripemeter.lib.instants import InvalidInstant, parse_field, parse_instant
from stripemeter.lib.wakeup import wake
from stripemeter.tenancy.operators import Operator, operator_page

METRICS_MAX, CUSTOMERS_MAX = 100, 1_000
DEFAULT_WINDOW = timedelta(days=31)
#: How far a window may reach ahead of the clock: as far as events may.
AHEAD = timedelta(hours=1)
_FIELDS = ("since", "until", "customers")


@require_GET
@operator_page("maintainer")
def replay_page(request: Any) -> HttpResponse:
    """The form; with a window in the query, what an apply would change now."""
    operator, now = request.operator, clock.now()
    report = problem = None
    long = False
    if request.GET.get("since"):
        try:
            window = _window(request.GET, operator, now)
            long = replay.is_long(window)
            report = None if long else replay.preview(window)
        except ProblemError as refused:
            problem = refused
    chosen = request.GET.getlist("metric")
    context = {
        "title": "Replay",
        "given": {name: request.GET.get(name, "") for name in _FIELDS},
        "chosen": chosen,
        "metrics": list(
            Metric.objects.filter(tenant=operator.tenant)
            .order_by("name")
            .values_list("name", flat=True)[:500]
        ),
        "since": request.GET.get("since") or f"{now - DEFAULT_WINDOW:%Y-%m-%dT%H:%M}",
        "problem": problem,
        "long": long,
        "report": report,
        "rows": _rows(report) if report else [],
        "shown_max": replay.CHANGES_SHOWN_MAX,
    }
    status = problem.status if problem else 200
    return render(request, "counters/replay.html", context, status=status)


def _rows(report: replay.Report) -> list[dict[str, Any]]:
    return [
        {
            "metric": row["metric"],
            "customer_ref": row["customerRef"],
            "period_start": parse_instant(row["periodStart"]),
            "before": row["before"],
            "after": row["after"],
            "change": row["after"] - row["before"],
        }
        for row in report.counters
    ]


@require_POST
@operator_page("maintainer")
def apply(request: Any) -> HttpResponse:
    """Set right what differs; a window over many events is left to a worker."""
    operator, now = request.operator, clock.now()
    window = _window(request.POST, operator, now)
    applied = request.POST.get("mode") == "apply"
    if replay.is_long(window):
        operation = replay.start_operation(window, applied=applied, actor=operator.actor, now=now)
        wake(tasks.replay)
        return redirect("ops:operation", operation_id=operation.id)
    if not applied:
        return redirect(f"{reverse('ops:replay')}?{request.POST.urlencode()}")
    report = replay.apply_replay(window, actor=operator.actor, now=now)
    messages.success(request, f"{report.summary}. Pushes follow with the difference.")
    return redirect("ops:replay")


def _window(given: Any, operator: Operator, now: datetime) -> replay.Window:
    since = _moment("from", given.get("since", "")) or replay.EPOCH
    until = _moment("to", given.get("until", "")) or now + AHEAD
    if since > until:
        raise invalid("to", "must not lie before the beginning")
    if until > now + AHEAD:
        raise invalid("to", "must not lie in the future")
    metrics = tuple(dict.fromkeys(given.getlist("metric")))
    if len(metrics) > METRICS_MAX or any(text.metric_problem(name) for name in metrics):
        raise invalid("metric", f"choose at most {METRICS_MAX} metrics of the list")
    customers = tuple(dict.fromkeys(given.get("customers", "").split()))
    if len(customers) > CUSTOMERS_MAX:
        raise invalid("customers", f"may name at most {CUSTOMERS_MAX}; leave it empty for all")
    for ref in customers:
        problem = text.reference_problem(ref)
        if problem:
            raise invalid("customers", problem)
    return replay.Window(operator.tenant.pk, metrics, since, until, customers or None)


def _moment(name: str, written: str) -> datetime | None:
    if not written:
        return None
    try:
        return parse_field(written)
    except InvalidInstant as error:
        raise invalid(name, str(error)) from error
