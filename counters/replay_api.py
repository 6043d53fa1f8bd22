"""``POST /v1/replay``: recompute a window of counters from the ledger, dry run or apply."""

from datetime import datetime, timedelta
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from counters import tasks
from counters.services import replay
from stripemeter.lib import clock
from stripemeter.lib.drf import FlagField, MetricField, ReferenceField, StrictSerializer, TextField
from stripemeter.lib.errors import invalid
from stripemeter.lib.instants import InvalidInstant, parse_duration, parse_instant, rfc3339
from stripemeter.lib.wakeup import wake
from stripemeter.tenancy.api_base import TenantView

METRICS_MAX, CUSTOMERS_MAX = 100, 1_000


class ReplayOutput(serializers.Serializer[Any]):
    """What differs, per metric; ``applied`` only after an apply."""

    mode = serializers.CharField()
    tenantId = serializers.CharField()
    metrics = serializers.ListField(child=serializers.CharField())
    timeRange = serializers.DictField()
    changes = serializers.DictField()
    cursor = serializers.CharField(allow_null=True)
    watermark = serializers.CharField(allow_null=True)
    applied = serializers.BooleanField(required=False)
    summary = serializers.CharField()


class ReplayStartedOutput(serializers.Serializer[Any]):
    """A replay too long for one request: poll the operation."""

    operationId = serializers.UUIDField()
    status = serializers.CharField()
    mode = serializers.CharField()


class ReplayView(TenantView):
    """``POST /v1/replay``."""

    scope_area = "usage"

    class Input(StrictSerializer):
        """The contract's form, or the short one: ``{"tenantId": …, "dryRun": true}``."""

        tenantId = TextField()
        metrics = serializers.ListField(
            child=MetricField(), allow_empty=False, max_length=METRICS_MAX, required=False
        )
        customers = serializers.ListField(
            child=ReferenceField(), allow_empty=False, max_length=CUSTOMERS_MAX, required=False
        )
        since = TextField(required=False)
        until = TextField(required=False)
        mode = serializers.ChoiceField(choices=["dry-run", "apply"], required=False)
        dryRun = FlagField(required=False)
        cursor = TextField(required=False, allow_null=True)
        watermark = TextField(required=False, allow_null=True)

    @extend_schema(
        operation_id="replay",
        request=Input,
        responses={200: ReplayOutput, 202: ReplayStartedOutput},
        tags=["Replay"],
    )
    def post(self, request: Request) -> Response:
        """Compare a window with the ledger (``dry-run``), or set it right too (``apply``)."""
        self.check_tenant(request.data, required=True)
        values = self.Input(data=request.data)
        values.is_valid(raise_exception=True)
        given, now = values.validated_data, clock.now()
        applied = _applied(given)
        window = self._window(given, now)
        if given.get("watermark") is not None:
            try:
                watermark = parse_instant(given["watermark"])
            except InvalidInstant as error:
                raise invalid("watermark", str(error), code="invalid_instant") from error
            replay.check_watermark(watermark, window, now=now)
        mode = "apply" if applied else "dry-run"
        if replay.is_long(window):
            operation = replay.start_operation(
                window, applied=applied, actor=self.principal.actor, now=now
            )
            wake(tasks.replay)
            answer = {"operationId": str(operation.id), "status": "pending", "mode": mode}
            return Response(answer, status=202)
        if applied:
            report = replay.apply_replay(window, actor=self.principal.actor, now=now)
        else:
            report = replay.preview(window)
        return Response(self._shown(window, report, mode))

    def _window(self, given: dict[str, Any], now: datetime) -> replay.Window:
        if given.get("cursor"):
            # An answer always covers the whole window, so no cursor was ever handed out.
            raise invalid("cursor", "is not a cursor of a replay", code="invalid_cursor")
        full = "mode" in given
        for name in ("metrics", "since", "until"):
            if full and name not in given:
                raise invalid(name, "is required with mode", code="required")
        since = _moment("since", given.get("since"), now) or replay.EPOCH
        until = _moment("until", given.get("until"), now) or now + replay_ahead()
        if since > until:
            raise invalid("until", "must not lie before since")
        if until > now + replay_ahead():
            raise invalid("until", "must not lie in the future")
        return replay.Window(
            self.principal.tenant_id,
            tuple(dict.fromkeys(given.get("metrics", ()))),
            since,
            until,
            tuple(dict.fromkeys(given["customers"])) if "customers" in given else None,
        )

    def _shown(self, window: replay.Window, report: replay.Report, mode: str) -> dict[str, Any]:
        newest = replay.newest_watermark(window)
        answer: dict[str, Any] = {
            "mode": mode,
            "tenantId": self.principal.tenant_key,
            "metrics": list(window.metrics) or sorted(report.changes),
            "timeRange": {"since": rfc3339(window.since), "until": rfc3339(window.until)},
            "changes": {name: found.as_wire() for name, found in report.changes.items()},
            "counters": report.counters,
            "frozenSkipped": report.frozen,
            "cursor": None,
            "watermark": newest and rfc3339(newest),
            "summary": report.summary,
        }
        if report.applied:
            answer["applied"] = True
        return answer


def replay_ahead() -> timedelta:
    """How far a window may reach ahead of the clock: as far as events may."""
    return timedelta(hours=1)


def _applied(given: dict[str, Any]) -> bool:
    """Whether to apply; never by default, never if the two ways to say it disagree."""
    if "mode" not in given and "dryRun" not in given:
        raise invalid("mode", "is required: dry-run or apply", code="required")
    said = set()
    if "mode" in given:
        said.add(given["mode"] == "apply")
    if "dryRun" in given:
        said.add(not given["dryRun"])
    if len(said) > 1:
        raise invalid("dryRun", "contradicts mode")
    return bool(said.pop())


def _moment(name: str, raw: str | None, now: datetime) -> datetime | None:
    if raw is None:
        return None
    if raw == "now":
        return now
    try:
        if raw.startswith("-P"):
            return now + parse_duration(raw)
        return parse_instant(raw)
    except InvalidInstant as error:
        raise invalid(name, str(error), code="invalid_instant") from error
