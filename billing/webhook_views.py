"""``/webhooks/stripe`` and ``/webhooks/stripe/thin``: check, store, answer. Nothing else.

The signature decides, whatever the content type says. Nothing is parsed and no database is
touched before it holds. 200 means stored; processing happens later, from the inbox.
"""

import re
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from billing import metrics
from billing.services import inbox
from billing.webhook_signature import refusal
from stripemeter.lib import clock, rowsecurity, strictjson
from stripemeter.lib.drf import read_body
from stripemeter.lib.errors import InvalidRequest, ProblemError
from stripemeter.lib.http import json_response
from stripemeter.lib.instants import InvalidInstant, parse_instant

_EVENT_ID = re.compile(r"evt_[A-Za-z0-9_]{1,240}", re.ASCII)
_TYPE = re.compile(r"[a-z0-9_.]{1,120}", re.ASCII)
_ACCOUNT = re.compile(r"acct_[A-Za-z0-9_]{1,64}", re.ASCII)


def stripe_webhook(request: HttpRequest) -> HttpResponse:
    """Take one event of either style. Raises `ProblemError` for what is not Stripe's."""
    if request.method != "POST":
        raise ProblemError(
            "Send POST.", code="method_not_allowed", status=405, headers={"Allow": "POST"}
        )
    body = read_body(request, limit=settings.WEBHOOK_BODY_LIMIT_BYTES)
    now = clock.now()
    header = request.META.get("HTTP_STRIPE_SIGNATURE", "")
    problem = refusal(header, body, secrets=settings.STRIPE_WEBHOOK_SECRETS, now=now)
    if problem is not None:
        metrics.webhooks.labels("refused").inc()
        raise InvalidRequest(problem, code="invalid_signature")
    rowsecurity.widen()
    stored = inbox.store(received=_read(body), now=now)
    metrics.webhooks.labels(stored).inc()
    return json_response({"received": True})


# The edge leaves the database session alone; this view widens it once the signature holds.
stripe_webhook.narrows_to_tenant = True  # type: ignore[attr-defined]


def _read(body: bytes) -> inbox.Received:
    try:
        event = strictjson.loads(body)
    except strictjson.InvalidJSON as error:
        raise InvalidRequest(str(error), code="invalid_json") from error
    if not isinstance(event, dict):
        raise InvalidRequest("The event must be a JSON object.", code="invalid_event")
    style = event.get("object")
    if style == "v2.core.event":
        kind, created = "thin", _created_text(event.get("created"))
    elif style == "event":
        data = event.get("data")
        if not (isinstance(data, dict) and isinstance(data.get("object"), dict)):
            raise InvalidRequest("data.object must be an object.", code="invalid_event")
        kind, created = "snapshot", _created_seconds(event.get("created"))
    else:
        raise InvalidRequest("Not an event of Stripe.", code="invalid_event")
    livemode = event.get("livemode")
    return inbox.Received(
        event_id=_text(event, "id", _EVENT_ID),
        kind=kind,
        type=_text(event, "type", _TYPE),
        account=_text(event, "account", _ACCOUNT) if event.get("account") else "",
        livemode=livemode if isinstance(livemode, bool) else None,
        created_at=created,
        body=body,
    )


def _text(event: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = event.get(name)
    if not (isinstance(value, str) and pattern.fullmatch(value)):
        raise InvalidRequest(f"{name} is not one of Stripe's.", code="invalid_event")
    return value


def _created_seconds(value: Any) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**11:
        return None
    return datetime.fromtimestamp(value, UTC)


def _created_text(value: Any) -> datetime | None:
    try:
        return parse_instant(value)
    except InvalidInstant:
        return None
