"""How the time of the tenant's customers is cut into periods, and how to cut it anew."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_GET, require_POST

from counters.calendars import INTERVAL_COUNT_MAX, Calendar
from counters.models import BillingCalendar
from counters.selectors.periods import calendars_of, periods_between
from counters.selectors.recut import preview_recut
from counters.services import clear_calendar, set_calendar
from stripemeter.lib import clock, text
from stripemeter.lib.errors import ProblemError, invalid
from stripemeter.lib.instants import InvalidInstant, parse_field
from stripemeter.tenancy.operators import operator_page

SHOWN_BEFORE, SHOWN_AFTER = timedelta(days=200), timedelta(days=100)
#: Periods shown at most: a daily calendar has many.
PERIODS_SHOWN_MAX = 60
CALENDARS_SHOWN_MAX = 200
#: Of a change, the periods around now.
PREVIEW = timedelta(days=70)


@require_GET
@operator_page()
def periods(request: Any) -> HttpResponse:
    """The calendars; the periods of one customer; with ``look``, what a change would do."""
    tenant_id, now = request.operator.tenant.pk, clock.now()
    recut = problem = None
    customer = ""
    try:
        customer = _customer(request.GET)
        if request.GET.get("look"):
            recut = preview_recut(
                tenant_id=tenant_id,
                customer_ref=customer or None,
                calendar=None if request.GET["look"] == "clear" else _calendar(request.GET),
                since=now - PREVIEW,
                until=now + PREVIEW,
            )
    except ProblemError as refused:
        problem = refused
    calendars = calendars_of(tenant_id=tenant_id)
    own = next((row for row in calendars if (row.customer_ref or "") == customer), None)
    default = next((row for row in calendars if row.customer_ref is None), None)
    context = {
        "title": f"Periods of {customer}" if customer else "Periods",
        "customer": customer,
        "own": own,
        "in_force": own or default,
        "calendars": calendars[:CALENDARS_SHOWN_MAX],
        "rows": _shown(tenant_id, customer, now, own or default),
        "given": _given(request.GET, own or default),
        "intervals": BillingCalendar.Interval.choices,
        "limits": INTERVAL_COUNT_MAX,
        "look": request.GET.get("look", ""),
        "recut": recut,
        "pairs": _side_by_side(recut.before, recut.after) if recut else [],
        "problem": problem,
    }
    status = problem.status if problem else 200
    return render(request, "counters/periods.html", context, status=status)


def _customer(given: Any) -> str:
    ref = str(given.get("ref", "")).strip()
    problem = text.reference_problem(ref) if ref else None
    if problem:
        raise invalid("customer", problem)
    return ref


def _shown(
    tenant_id: int, customer: str, now: datetime, calendar: BillingCalendar | None
) -> list[dict[str, Any]]:
    """Periods around now, newest first, with their bounds in the calendar's zone too."""
    zone = ZoneInfo(calendar.zone if calendar else "UTC")
    found = periods_between(
        tenant_id=tenant_id,
        customer_ref=customer,
        since=now - SHOWN_BEFORE,
        until=now + SHOWN_AFTER,
    )
    current = next(number for number, each in enumerate(found) if now in each.period)
    first = max(0, current - PERIODS_SHOWN_MAX // 2)
    return [
        {
            "start": each.period.start,
            "end": each.period.end,
            # Strings: the template engine would turn instants back into UTC.
            "local_start": f"{each.period.start.astimezone(zone):%Y-%m-%d %H:%M}",
            "local_end": f"{each.period.end.astimezone(zone):%Y-%m-%d %H:%M}",
            "state": each.state,
            "finalizes_at": each.finalizes_at,
            "frozen_at": each.frozen_at,
            "current": now in each.period,
        }
        for each in reversed(found[first : first + PERIODS_SHOWN_MAX])
    ]


def _given(given: Any, calendar: BillingCalendar | None) -> dict[str, str]:
    """What the form shows: what was given, else what is in force."""
    first = datetime(2026, 1, 1, tzinfo=UTC)
    stored = {
        "anchor": f"{(calendar.anchor if calendar else first).astimezone(UTC):%Y-%m-%dT%H:%M}",
        "interval": calendar.interval if calendar else "month",
        "count": str(calendar.interval_count if calendar else 1),
        "zone": calendar.zone if calendar else "UTC",
    }
    return {name: str(given.get(name) or value) for name, value in stored.items()}


def _side_by_side(before: list[Any], after: list[Any]) -> list[tuple[Any, Any]]:
    longest = max(len(before), len(after))
    pad = [None] * longest
    return list(zip((before + pad)[:longest], (after + pad)[:longest], strict=True))


def _calendar(given: Any) -> Calendar:
    """The calendar of the form. Raises `InvalidRequest`."""
    try:
        anchor = parse_field(str(given.get("anchor", "")))
    except InvalidInstant as error:
        raise invalid("anchor", str(error)) from error
    interval, count = str(given.get("interval", "")), str(given.get("count", ""))
    if interval not in INTERVAL_COUNT_MAX:
        raise invalid("interval", f"must be one of {', '.join(INTERVAL_COUNT_MAX)}")
    longest = INTERVAL_COUNT_MAX[interval]
    if not (count.isascii() and count.isdigit() and 1 <= int(count) <= longest):
        raise invalid("count", f"must be 1 to {longest} for {interval}")
    zone = str(given.get("zone", ""))
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise invalid("zone", "must be an IANA time zone such as Europe/Berlin") from error
    return Calendar(anchor, interval, int(count), zone)


@require_POST
@operator_page("maintainer")
def set_periods(request: Any) -> HttpResponse:
    """Cut by the given calendar from now on."""
    customer, calendar = _customer(request.POST), _calendar(request.POST)
    set_calendar(
        tenant_id=request.operator.tenant.pk,
        customer_ref=customer or None,
        anchor=calendar.anchor,
        interval=calendar.interval,
        interval_count=calendar.interval_count,
        zone=calendar.zone,
        actor=request.operator.actor,
        now=clock.now(),
    )
    messages.success(request, "The calendar is set and the counters are cut by it.")
    return _to(customer)


@require_POST
@operator_page("maintainer")
def clear_periods(request: Any) -> HttpResponse:
    """Take a calendar away."""
    customer = _customer(request.POST)
    clear_calendar(
        tenant_id=request.operator.tenant.pk,
        customer_ref=customer or None,
        actor=request.operator.actor,
        now=clock.now(),
    )
    messages.success(request, "The calendar is gone and the counters are cut without it.")
    return _to(customer)


def _to(customer: str) -> HttpResponseRedirect:
    query = f"?{urlencode({'ref': customer})}" if customer else ""
    return HttpResponseRedirect(reverse("ops:periods") + query)
