"""Panels of the home page: how fresh the counters are, and which periods end soon."""

from typing import Any

from django.db.models import Count, Max, Min, Sum
from django.http import HttpResponse
from django.views.decorators.http import require_GET

from counters.models import BillingPeriod, Counter, PeriodState, Verification
from ledger.models import PendingBatch
from stripemeter.lib import clock
from stripemeter.lib.panels import SUMS_SECONDS, remembered, render_panel
from stripemeter.tenancy.operators import operator_page

#: A batch that waits longer than this is worth an operator's look.
SLOW_SECONDS = 10
SHOWN_PERIODS = 4


@require_GET
@operator_page()
def freshness_panel(request: Any) -> HttpResponse:
    """How far the counters are behind the ledger; reads include the rest anyway."""
    now = clock.now()
    tenant_id = request.operator.tenant.pk
    pending = PendingBatch.objects.filter(tenant_id=tenant_id).aggregate(
        oldest=Min("recorded_at"), events=Sum("event_count")
    )
    counters = Counter.objects.filter(tenant_id=tenant_id, period_end__gt=now).aggregate(
        number=Count("*"), newest=Max("folded_at")
    )
    oldest = pending["oldest"]
    waiting = (now - oldest).total_seconds() if oldest else 0
    verified = Verification.objects.filter(whole=True).order_by("-finished_at").first()
    context = {
        "waiting": round(waiting, 1),
        "slow": waiting > SLOW_SECONDS,
        "pending_events": pending["events"] or 0,
        "open_counters": counters["number"],
        "verified_at": verified.finished_at if verified else None,
        "differing": verified.left.get(str(tenant_id), 0) if verified else 0,
        "folded_at": counters["newest"],
    }
    return render_panel(request, "counters/_freshness_panel.html", context)


@require_GET
@operator_page()
def periods_panel(request: Any) -> HttpResponse:
    """Running periods by their end, and when Stripe finalises those that are closing."""
    now = clock.now()
    tenant_id = request.operator.tenant.pk
    running, at = remembered(
        f"panel-periods:{tenant_id}",
        SUMS_SECONDS,
        lambda: list(
            Counter.objects.filter(tenant_id=tenant_id, period_end__gt=now)
            .values("period_start", "period_end")
            .annotate(customers=Count("customer_ref", distinct=True))
            .order_by("period_end")[:SHOWN_PERIODS]
        ),
    )
    closing = BillingPeriod.objects.filter(tenant_id=tenant_id, state=PeriodState.CLOSING)
    context = {
        "running": running,
        "closing": list(closing.order_by("finalizes_at")[:SHOWN_PERIODS]),
        "frozen": BillingPeriod.objects.filter(
            tenant_id=tenant_id, state=PeriodState.FROZEN
        ).count(),
    }
    return render_panel(request, "counters/_periods_panel.html", context, refresh=60, as_of=at)
