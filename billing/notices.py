"""What tenants can be told: event types, and the signature of a message. Pure but for the key.

Signatures follow Standard Webhooks (standardwebhooks.com): ``webhook-id``,
``webhook-timestamp`` and ``webhook-signature``, an HMAC-SHA256 over the three parts.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from django.conf import settings
from standardwebhooks import Webhook

#: Every event type, and when it is sent.
EVENT_TYPES: Final[dict[str, str]] = {
    "usage.threshold": "usage of a customer's metric reached a threshold",
    "alert.triggered": "an alert rule was met",
    "alert.revised": "a correction moved the value back across the threshold",
    "alert.acknowledged": "somebody has seen an alert",
    "alert.snoozed": "an alert is put off",
    "alert.resolved": "an alert is over",
    "push.acknowledged": "Stripe took a push",
    "push.parked": "Stripe refused a push; its cursor waits for an operator",
    "push.needs_review": "the outcome of a push is for a person to settle",
    "push.account_halted": "nothing is sent to a Stripe account until an operator resumes it",
    "reconciliation.finding.opened": "a difference with Stripe was found",
    "reconciliation.finding.closed": "no run sees the difference any more",
    "reconciliation.finding.decided": "somebody explained or accepted a finding",
    "period.closing": "a customer's billing period is over, its invoice a draft",
    "period.frozen": "a customer's billing period takes no more usage",
    "period.sealed": "a customer's billing period is certified",
    "webhook.disabled": "an endpoint was switched off after failing for days",
    "webhook.test": "sent on request, to try an endpoint",
}
FAMILIES: Final = (
    "*",
    *sorted({name.rpartition(".")[0] + ".*" for name in EVENT_TYPES}),
    "reconciliation.*",
)


def is_wanted(event_type: str, wanted: Sequence[str]) -> bool:
    """Whether a list of types and families (``alert.*``) takes in ``event_type``."""
    return any(
        name in {"*", event_type} or (name.endswith(".*") and event_type.startswith(name[:-1]))
        for name in wanted
    )


def secret_of(endpoint_id: UUID, version: int) -> str:
    """The signing secret: derived, so that no copy of the database holds it.

    It changes when `SECRET_KEY` does; receivers are then told by rotating.
    """
    key = hashlib.sha256(b"stripemeter.webhook.v1:" + settings.SECRET_KEY.encode()).digest()
    digest = hmac.new(key, f"{endpoint_id}:{version}".encode(), hashlib.sha256).digest()
    return "whsec_" + base64.b64encode(digest).decode("ascii")


def signed_headers(
    *, message_id: str, body: str, secrets: Sequence[str], now: datetime
) -> dict[str, str]:
    """The three headers; one signature per secret, so that a rotation loses no message."""
    signatures = [Webhook(secret).sign(message_id, now, body) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
