"""Closing periods: the months, one month's board, its certificate."""

from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_GET, require_POST

from reconciliation.models import PeriodClose
from reconciliation.selectors import board, reports
from reconciliation.services import closes as services
from stripemeter.lib import clock, posted, strictjson
from stripemeter.lib.instants import InvalidInstant
from stripemeter.lib.panels import remembered
from stripemeter.lib.periods import Period, utc_month
from stripemeter.tenancy.operators import operator_page

MONTHS = 13
#: The boards' sums over every cursor are read this often at most.
BOARDS_SECONDS = 30


def _month(name: str) -> Period:
    try:
        return reports.month_of(name)
    except InvalidInstant as error:
        raise Http404 from error


def _months(now: datetime) -> list[Period]:
    """This month and those before it."""
    found = [utc_month(now)]
    while len(found) < MONTHS:
        found.append(utc_month(found[-1].start - timedelta(days=1)))
    return found


@require_GET
@operator_page()
def closes(request: Any) -> HttpResponse:
    """The last months with what became of each, and the board of those not closed yet."""
    tenant_id = request.operator.tenant.pk
    known = {row.period_start: row for row in board.closes(tenant_id=tenant_id, limit=200)}
    boards, boards_at = remembered(
        # One more close reads them anew: who closed a month sees it closed at once.
        f"panel-closes:{tenant_id}:{len(known)}",
        BOARDS_SECONDS,
        lambda: _boards(tenant_id, set(known), clock.now()),
    )
    rows = []
    for month, found in boards:
        row = known.get(month.start)
        state = row.state if row else found["state"]
        rows.append({"month": month, "close": row, "state": state, "board": found})
        rows[-1].update(_moments(found))
    context = {"title": "Period close", "rows": rows, "boards_at": boards_at}
    return render(request, "reconciliation/closes.html", context)


def _boards(
    tenant_id: int, closed: set[datetime], now: datetime
) -> list[tuple[Period, dict[str, Any]]]:
    """This month, and those of the last ones that were used or closed, each with its board."""
    months = _months(now)
    shown = closed | board.months_with_usage(tenant_id=tenant_id, since=months[-1].start)
    return [
        (month, board.board(tenant_id=tenant_id, period=month, now=now))
        for month in months
        if month == months[0] or month.start in shown
    ]


def _moments(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "finalizes": parse_datetime(found["finalizesAt"]),
        "last_run": parse_datetime(found["lastRun"]) if found["lastRun"] else None,
        "finding_count": sum(each["count"] for each in found["findings"]),
    }


@require_GET
@operator_page()
def close(request: Any, month: str) -> HttpResponse:
    """One month: what still stands between it and its certificate."""
    return _board(request, _month(month), mismatches=None)


def _board(request: Any, period: Period, *, mismatches: list[Any] | None) -> HttpResponse:
    tenant_id = request.operator.tenant.pk
    now = clock.now()
    found = board.board(tenant_id=tenant_id, period=period, now=now)
    context = {
        "title": f"Close of {period.start:%B %Y}",
        "period": period,
        "month": f"{period.start:%Y-%m}",
        "board": found,
        "close": board.close_of(tenant_id=tenant_id, period=period),
        "is_over": now >= period.end,
        "mismatches": mismatches,
        **_moments(found),
    }
    return render(request, "reconciliation/close.html", context)


@require_POST
@operator_page("maintainer")
def close_period(request: Any, month: str) -> HttpResponse:
    """Freeze the month; forced only with a note."""
    note = posted.plain(request, "note", chars_max=1_000)
    services.close(
        tenant_id=request.operator.tenant.pk,
        period=_month(month),
        actor=request.operator.actor,
        now=clock.now(),
        note=note,
        force=request.POST.get("force") == "yes",
    )
    messages.success(request, "Closed. Late usage is held from now on; run once more to certify.")
    return HttpResponseRedirect(reverse("ops:close", args=[month]))


@require_POST
@operator_page("maintainer")
def certify(request: Any, month: str) -> HttpResponse:
    """Certify the closed month by the last run since."""
    services.seal(
        tenant_id=request.operator.tenant.pk,
        period=_month(month),
        actor=request.operator.actor,
        now=clock.now(),
    )
    messages.success(request, "Certified.")
    return HttpResponseRedirect(reverse("ops:close", args=[month]))


def _certified(request: Any, period: Period) -> PeriodClose:
    row = board.close_of(tenant_id=request.operator.tenant.pk, period=period)
    if row is None or row.certificate is None:
        raise Http404
    return row


@require_POST
@operator_page("maintainer")
def certificate_check(request: Any, month: str) -> HttpResponse:
    """Compute every number of the certificate again, Stripe's included."""
    period = _month(month)
    return _board(
        request, period, mismatches=services.verify(_certified(request, period), clock=clock.now)
    )


@require_GET
@operator_page()
def certificate(request: Any, month: str) -> HttpResponse:
    """The certificate with its digest and signature, as a file."""
    row = _certified(request, _month(month))
    document = {
        "certificate": row.certificate,
        "sha256": row.certificate_sha256,
        "signature": row.signature,
    }
    response = HttpResponse(strictjson.dumps(document), content_type="application/json")
    response["Content-Disposition"] = f'attachment; filename="certificate-{month}.json"'
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "private, no-store"
    return response
