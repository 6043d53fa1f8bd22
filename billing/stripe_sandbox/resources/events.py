"""`/v1/events`: the snapshot events of the account."""

from __future__ import annotations

from billing.stripe_sandbox.answers import answer, created_filter, page
from billing.stripe_sandbox.engine import Call, Sandbox
from billing.stripe_sandbox.routing import route
from billing.stripe_sandbox.store import Doc

KEPT_SECONDS = 30 * 86_400


@route("GET", "/v1/events")
def index(sandbox: Sandbox, call: Call) -> Doc:
    """Lists the events of the last 30 days, newest first."""
    oldest = sandbox.clock.seconds() - KEPT_SECONDS
    docs = created_filter(call, sandbox.store.all(call.world.name, "event"))
    docs = [doc for doc in docs if doc["created"] >= oldest]
    if "delivery_success" in call.params:
        # True: delivered to everybody; false: somebody has not taken it yet.
        success = call.params["delivery_success"]
        docs = [doc for doc in docs if (doc["pending_webhooks"] == 0) is success]
    wanted = list(call.params.get("types") or [])
    if "type" in call.params:
        wanted.append(call.params["type"])
    if wanted:
        docs = [doc for doc in docs if any(_fits(doc["type"], pattern) for pattern in wanted)]
    return page(sandbox, call, "event", docs)


def _fits(event_type: str, pattern: str) -> bool:
    """`customer.*` stands for a family of types."""
    return event_type == pattern or (pattern.endswith("*") and event_type.startswith(pattern[:-1]))


@route("GET", "/v1/events/{id}")
def show(sandbox: Sandbox, call: Call) -> Doc:
    """Returns an event."""
    return answer(sandbox, call, "event", sandbox.find(call.world, "event", call.args["id"]))
