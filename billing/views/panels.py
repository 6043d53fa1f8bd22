"""Panels of the home page: pushes, money, Stripe accounts."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.http import Http404, HttpResponse
from django.views.decorators.http import require_GET

from billing import dashboard, selectors
from billing.models import PriceMapping
from billing.services import grace
from billing.services.accounts import may_send, rate_of
from ledger.models import Event
from stripemeter.lib import clock
from stripemeter.lib.panels import SUMS_SECONDS, remembered, render_panel
from stripemeter.tenancy.operators import operator_page

#: Work older than this is worth a look: pushes run every few seconds.
SLOW = timedelta(minutes=10)
EVENT_PUSHES = 10
NEEDS_A_PERSON = ("needs_review", "parked")


@require_GET
@operator_page()
def push_panel(request: Any) -> HttpResponse:
    """Pushes by state, what is not pushed, and the oldest that is still open."""
    now = clock.now()
    tenant_id = request.operator.tenant.pk
    states, states_at = remembered(
        f"panel-pushes:{tenant_id}",
        SUMS_SECONDS,
        lambda: dashboard.push_states(tenant_id=tenant_id, since=now - timedelta(days=1)),
    )
    sums, at = _sums(tenant_id, now)
    # The next invoices only: the pushes page lists the others.
    ended = grace.in_grace(now=now, tenant_id=tenant_id, limit=5)
    context = {
        "grace": ended,
        "half_over": sum(1 for each in ended if each.half_time <= now),
        "states": states,
        "held": sum(states.counts.get(state, 0) for state in NEEDS_A_PERSON),
        "slow": states.oldest_open is not None and now - states.oldest_open > SLOW,
        "unpushed": sums.units[:6],
    }
    return render_panel(request, "billing/_push_panel.html", context, as_of=min(at, states_at))


def _sums(tenant_id: int, now: datetime) -> tuple[dashboard.UnpushedSums, datetime]:
    """What is not pushed, read once for both panels, and as of when."""
    return remembered(
        f"panel-unpushed:{tenant_id}",
        SUMS_SECONDS,
        lambda: dashboard.unpushed_sums(tenant_id=tenant_id, now=now),
    )


@require_GET
@operator_page()
def money_panel(request: Any) -> HttpResponse:
    """What the usage that Stripe does not have yet is worth."""
    tenant_id = request.operator.tenant.pk
    sums, at = _sums(tenant_id, clock.now())
    worth = sums.money
    context = {"worth": worth, "amounts": sorted(worth.amounts.items())}
    return render_panel(request, "billing/_money_panel.html", context, refresh=30, as_of=at)


@require_GET
@operator_page()
def accounts_panel(request: Any) -> HttpResponse:
    """Stripe accounts that the tenant's mappings use."""
    now = clock.now()
    accounts = [
        {"account": account, "rate": rate_of(account), "sends": may_send(account, now=now)}
        for account in selectors.accounts_of(request.operator.tenant.pk)
    ]
    context = {"accounts": accounts, "stopped": not all(each["sends"] for each in accounts)}
    return render_panel(request, "billing/_accounts_panel.html", context)


@require_GET
@operator_page()
def event_pushes(request: Any, key: UUID) -> HttpResponse:
    """The part of an event's story that billing knows: the pushes of its day."""
    tenant_id = request.operator.tenant.pk
    event = Event.objects.filter(tenant_id=tenant_id, key=key).first()
    if event is None:
        raise Http404
    mappings = list(
        PriceMapping.objects.filter(tenant_id=tenant_id, metric_id=event.metric_id).values_list(
            "pk", flat=True
        )
    )
    context = {
        "event": event,
        "mappings": mappings,
        "pushes": selectors.pushes_of_day(
            tenant_id=tenant_id,
            mappings=mappings,
            customer_ref=event.customer_ref,
            day=event.ts.date(),
            limit=EVENT_PUSHES,
        ),
    }
    return render_panel(request, "billing/_event_pushes.html", context)
