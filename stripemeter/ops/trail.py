"""The audit trail, whether its chain holds, and what the running service says of itself."""

import platform
from typing import Any

import django
import redis
from django.conf import settings
from django.db import connection
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from ledger.models import Operation, PendingBatch
from ledger.services import seals
from stripemeter import health
from stripemeter.celery import app
from stripemeter.lib import clock, redisclient
from stripemeter.lib.pages import PAGE_ROWS, Pager, filters_of
from stripemeter.models import Heartbeat
from stripemeter.tenancy import audit
from stripemeter.tenancy.models import AuditEntry
from stripemeter.tenancy.operators import operator_page

QUEUE = "celery"


@require_GET
@operator_page()
def audit_trail(request: Any) -> HttpResponse:
    """Who changed what, newest first; on demand the whole chain is verified."""
    tenant = request.operator.tenant
    form = filters_of(request, "actor", "action", "objectId")
    pager = Pager(request, tenant.key, "ops-audit", form)
    rows = AuditEntry.objects.filter(tenant=tenant)
    if form["actor"]:
        rows = rows.filter(actor=form["actor"])
    if form["action"]:
        rows = rows.filter(action__startswith=form["action"])
    if form["objectId"]:
        rows = rows.filter(object_id=form["objectId"])
    if pager.after:
        rows = rows.filter(sequence__lt=pager.after)
    verified = request.GET.get("verify") == "1"
    context = {
        "title": "Audit trail",
        "form": form,
        "pager": pager,
        "verified": verified,
        "broken_at": audit.verify_chain(tenant.pk) if verified else None,
        "rows": pager.cut(
            list(rows.order_by("-sequence")[: PAGE_ROWS + 1]), lambda row: row.sequence
        ),
    }
    return render(request, "ops/audit.html", context)


@require_GET
@operator_page()
def system(request: Any) -> HttpResponse:
    """Versions, checks, heartbeats, what waits in queues, and the beat schedule."""
    now = clock.now()
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        row = cursor.fetchone()
    tenant_id = request.operator.tenant.pk
    context = {
        "title": "System",
        "versions": [
            ("StripeMeter", settings.VERSION),
            ("Python", platform.python_version()),
            ("Django", django.get_version()),
            ("PostgreSQL", row[0] if row else "unknown"),
        ],
        "checks": sorted(health.readiness(now).items()),
        "beats": [
            (beat.component, beat.beaten_at, now - beat.beaten_at <= health.HEARTBEAT_AGE_MAX)
            for beat in Heartbeat.objects.order_by("component")
        ],
        "queues": [
            ("Messages for workers", _queue_length()),
            ("Batches not folded yet", PendingBatch.objects.filter(tenant_id=tenant_id).count()),
            ("Events not sealed yet", seals.unsealed_events(tenant_id)),
            (
                "Backfills and replays under way",
                Operation.objects.filter(
                    tenant_id=tenant_id, status__in=("pending", "processing")
                ).count(),
            ),
        ],
        "schedule": sorted(
            (name, entry["task"], _every(entry["schedule"]))
            for name, entry in app.conf.beat_schedule.items()
        ),
    }
    return render(request, "ops/system.html", context)


def _queue_length() -> int | None:
    """Messages that wait in Redis; None while it does not answer."""
    try:
        return int(redisclient.client().llen(QUEUE))
    except redis.RedisError:
        return None


def _every(schedule: Any) -> str:
    if isinstance(schedule, int | float):
        minutes, seconds = divmod(int(schedule), 60)
        return f"every {minutes} min" if minutes and not seconds else f"every {schedule:g} s"
    return f"at {schedule._orig_hour}:{int(schedule._orig_minute):02} UTC"
