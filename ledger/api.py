"""The ledger's routes: ingest and the event list."""

from datetime import timedelta
from typing import Any

import msgspec
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from ledger import cloudevents, description, refusals, wire
from ledger.limits import limits
from ledger.services.ingest import Outcome, Result, ingest
from stripemeter.lib import clock, requestid, strictjson, text, tracing
from stripemeter.lib.drf import read_body, require_json
from stripemeter.lib.errors import Forbidden, InvalidRequest, invalid
from stripemeter.tenancy.api_base import DirectView, tenant_mismatch


class _Answer(msgspec.Struct, omit_defaults=True):
    accepted: int
    duplicates: int
    conflicts: int
    requestId: str
    results: list[Result]
    errors: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET


_encoder = msgspec.json.Encoder()
_LIMITS = limits(batch_max=settings.MAX_INGEST_BATCH)
_FUTURE = timedelta(seconds=settings.FUTURE_TOLERANCE_SECONDS)


class IngestView(DirectView):
    """``POST /v1/events/ingest``: up to 1,000 events, native shape or CloudEvents 1.0."""

    scope_area = "events"
    body_limit_bytes = settings.INGEST_BODY_LIMIT_BYTES

    @extend_schema(
        operation_id="ingestEvents",
        parameters=description.PARAMETERS,
        request=description.REQUEST,
        responses={200: description.ANSWER},
        examples=description.EXAMPLES,
        tags=["Events"],
    )
    def post(self, request: Request) -> HttpResponse:
        """Store events; the answer says per event what became of it, in input order."""
        return self.answer(request._request)

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Read, store, and answer per event."""
        if request.META.get("QUERY_STRING"):
            self.check_tenant()
        now, tenant_id = clock.now(), self.principal.tenant_id
        try:
            columns = self._columns(request)
            self._apply_header_key(request, columns)
        except InvalidRequest:
            refusals.note(tenant_id=tenant_id, events=1, now=now)  # as one: it cannot be read
            raise
        with tracing.span("ledger.ingest", tenant_id=tenant_id, events=len(columns)):
            outcome = ingest(
                tenant_id=tenant_id,
                columns=columns,
                now=now,
                future_tolerance=_FUTURE,
                meta_bytes_max=settings.MAX_EVENT_META_BYTES,
            )
            tracing.remember(tenant_id)
        if outcome.errors:
            refusals.note(tenant_id=tenant_id, events=len(outcome.errors), now=now)
        return _answer(outcome)

    def _columns(self, request: HttpRequest) -> wire.Columns:
        # Django's own `content_type` leaves the charset out.
        whole = request.META.get("CONTENT_TYPE", "")
        media_type = require_json(whole, also=cloudevents.MEDIA_TYPES)
        body = read_body(request, limit=self.body_limit_bytes, takes_gzip=True)
        tenant_key = self.principal.tenant_key
        if media_type == "application/json":
            columns = wire.read_fast(body, tenant_key=tenant_key, limits=_LIMITS)
            if columns is not None:
                return columns
        try:
            document = strictjson.loads(body)
        except strictjson.InvalidJSON as error:
            raise InvalidRequest(str(error), code="invalid_json") from error
        if media_type != "application/json":
            document = cloudevents.to_native(document, media_type=media_type, tenant_key=tenant_key)
        try:
            return wire.read_strict(document, tenant_key=tenant_key, limits=_LIMITS)
        except Forbidden as error:
            raise tenant_mismatch(request) from error

    def _apply_header_key(self, request: HttpRequest, columns: wire.Columns) -> None:
        """A header key names the one event, or ``key:index`` the events of a batch without keys."""
        header = request.META.get("HTTP_IDEMPOTENCY_KEY")
        if not header:
            return
        if text.reference_problem(header) or len(header) > 240 or "," in header:
            raise invalid("Idempotency-Key", "must be one key of 1 to 240 plain characters")
        single = len(columns) == 1
        for index, key in enumerate(columns.keys):
            if key is None:
                columns.keys[index] = header if single else f"{header}:{index}"


def _answer(outcome: Outcome) -> HttpResponse:
    answer = _Answer(
        accepted=outcome.accepted,
        duplicates=outcome.duplicates,
        conflicts=outcome.conflicts,
        requestId=requestid.current(),
        results=outcome.results,
        errors=outcome.errors or msgspec.UNSET,
    )
    return HttpResponse(_encoder.encode(answer), content_type="application/json")
