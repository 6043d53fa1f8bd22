"""``GET /v1/events``: the tenant's events, filtered and paged."""

from datetime import datetime
from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from ledger import selectors
from ledger.models import Metric
from ledger.wire import SOURCES
from stripemeter.lib import cursors
from stripemeter.lib.drf import query_choice, query_instant, query_int, query_text
from stripemeter.lib.errors import invalid
from stripemeter.lib.instants import parse_instant, rfc3339
from stripemeter.tenancy.api_base import TenantView

LIMIT_DEFAULT, LIMIT_MAX = 25, 100
OFFSET_MAX = 10_000
_PARAMETERS = [
    OpenApiParameter("tenantId", str, required=True),
    OpenApiParameter("metric", str),
    OpenApiParameter("customerRef", str),
    OpenApiParameter("source", str, enum=sorted(SOURCES)),
    OpenApiParameter("limit", int, description=f"1 to {LIMIT_MAX}; {LIMIT_DEFAULT} if absent"),
    OpenApiParameter("offset", int, description=f"0 to {OFFSET_MAX}; use cursor to go further"),
    OpenApiParameter("cursor", str, description="nextCursor of the page before"),
    OpenApiParameter("sort", str, enum=list(selectors.SORTS)),
    OpenApiParameter("sortDir", str, enum=["asc", "desc"]),
    OpenApiParameter("startTime", str, description="RFC 3339, included"),
    OpenApiParameter("endTime", str, description="RFC 3339, included"),
]


class EventOutput(serializers.Serializer[Any]):
    """One stored event; ``meta`` is JSON text."""

    id = serializers.CharField()
    tenantId = serializers.CharField()
    metric = serializers.CharField()
    customerRef = serializers.CharField()
    resourceId = serializers.CharField(required=False)
    quantity = serializers.DecimalField(max_digits=38, decimal_places=12)
    timestamp = serializers.DateTimeField()
    recordedAt = serializers.DateTimeField()
    meta = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment]  # the wire word


class EventListOutput(serializers.Serializer[Any]):
    """A page. ``total`` counts up to 100,000; ``nextCursor`` is null on the last page."""

    total = serializers.IntegerField()
    events = EventOutput(many=True)
    nextCursor = serializers.CharField(allow_null=True)


class EventsView(TenantView):
    """The tenant's events, newest first unless asked otherwise."""

    scope_area = "events"

    @extend_schema(
        operation_id="listEvents",
        parameters=_PARAMETERS,
        responses=EventListOutput,
        tags=["Events"],
    )
    def get(self, request: Request) -> Response:
        """One page of events."""
        self.check_tenant(required=True)
        wanted = self._filter(request)
        limit = query_int(request, "limit", LIMIT_DEFAULT, low=1, high=LIMIT_MAX)
        offset = query_int(request, "offset", 0, low=0, high=OFFSET_MAX)
        sort = query_choice(request, "sort", "ts", tuple(selectors.SORTS))
        direction = query_choice(request, "sortDir", "desc", ("asc", "desc"))
        scope = {
            "metric": wanted.metric_id,
            "customerRef": wanted.customer_ref,
            "source": wanted.source,
            "start": wanted.start and rfc3339(wanted.start),
            "end": wanted.end and rfc3339(wanted.end),
            "sort": sort,
            "dir": direction,
        }
        events = selectors.list_events(
            wanted,
            limit=limit + 1,
            offset=offset,
            sort=sort,
            descending=direction == "desc",
            after=self._after(request, scope),
        )
        more = len(events) > limit and sort == "ts"
        events = events[:limit]
        return Response(
            {
                "total": selectors.count_events(wanted),
                "events": [self._shown(event) for event in events],
                "nextCursor": self._cursor(events[-1], scope) if more else None,
            }
        )

    def _filter(self, request: Request) -> selectors.EventFilter:
        start, end = query_instant(request, "startTime"), query_instant(request, "endTime")
        if start is not None and end is not None and start > end:
            raise invalid("startTime", "lies after endTime")
        source = query_text(request, "source")
        if source is not None and source not in SOURCES:
            raise invalid("source", f"must be one of {', '.join(sorted(SOURCES))}")
        tenant_id = self.principal.tenant_id
        name = query_text(request, "metric")
        metric = None
        if name:
            metric = Metric.objects.filter(tenant_id=tenant_id, name=name).first()
        return selectors.EventFilter(
            tenant_id=tenant_id,
            # No metric has id 0: an unknown name matches nothing.
            metric_id=(metric.pk if metric else 0) if name else None,
            customer_ref=query_text(request, "customerRef") or None,
            source=source,
            start=start,
            end=end,
        )

    def _after(self, request: Request, scope: dict[str, Any]) -> tuple[datetime, UUID] | None:
        cursor = query_text(request, "cursor")
        if not cursor:
            return None
        ts, key = cursors.decode(
            cursor, tenant_key=self.principal.tenant_key, listing="events", filters=scope
        )
        return parse_instant(ts), UUID(key)

    def _cursor(self, event: selectors.ListedEvent, scope: dict[str, Any]) -> str:
        return cursors.encode(
            [rfc3339(event.ts), str(event.key)],
            tenant_key=self.principal.tenant_key,
            listing="events",
            filters=scope,
        )

    def _shown(self, event: selectors.ListedEvent) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "id": event.id,
            "tenantId": self.principal.tenant_key,
            "metric": event.metric,
            "customerRef": event.customer_ref,
            "quantity": event.quantity,
            "timestamp": rfc3339(event.ts),
            "recordedAt": rfc3339(event.recorded_at),
            "meta": event.meta or "{}",
            "source": event.source,
        }
        if event.resource_id is not None:
            shown["resourceId"] = event.resource_id
        return shown
