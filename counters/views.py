"""Operator panels of the counters: how fresh they are."""

from typing import Any

from django.db.models import Max, Min, Sum
from django.http import HttpResponse
from django.views.decorators.http import require_GET

from counters.models import Counter
from ledger.models import PendingBatch
from stripemeter.lib import clock
from stripemeter.lib.panels import render_panel
from stripemeter.tenancy.operators import operator_page

#: A batch that waits longer than this is worth an operator's look.
SLOW_SECONDS = 10


@require_GET
@operator_page()
def freshness_panel(request: Any) -> HttpResponse:
    """How far the counters are behind the ledger; reads include the rest anyway."""
    now = clock.now()
    tenant_id = request.operator.tenant.pk
    pending = PendingBatch.objects.filter(tenant_id=tenant_id).aggregate(
        oldest=Min("recorded_at"), events=Sum("event_count")
    )
    counters = Counter.objects.filter(tenant_id=tenant_id, period_end__gt=now)
    oldest = pending["oldest"]
    waiting = (now - oldest).total_seconds() if oldest else 0
    context = {
        "waiting": round(waiting, 1),
        "slow": waiting > SLOW_SECONDS,
        "pending_events": pending["events"] or 0,
        "open_counters": counters.count(),
        "folded_at": counters.aggregate(newest=Max("folded_at"))["newest"],
    }
    return render_panel(request, "counters/_freshness_panel.html", context)
