"""`/v1/webhook_endpoints`: where snapshot events are delivered."""

from __future__ import annotations

from billing.stripe_sandbox.answers import answer, merged_metadata, page
from billing.stripe_sandbox.engine import API_VERSION, Call, Sandbox, new_id
from billing.stripe_sandbox.errors import Failure
from billing.stripe_sandbox.routing import route
from billing.stripe_sandbox.store import Doc

ENDPOINTS_MAX = 16


@route("POST", "/v1/webhook_endpoints")
def create(sandbox: Sandbox, call: Call) -> Doc:
    """Creates an endpoint; its secret is shown in this answer only."""
    params = call.params
    if len(sandbox.store.all(call.world.name, "webhook_endpoint")) >= ENDPOINTS_MAX:
        raise Failure(f"You have reached the maximum of {ENDPOINTS_MAX} webhook endpoints.")
    doc: Doc = {
        "id": new_id("we"),
        "object": "webhook_endpoint",
        "api_version": params.get("api_version", API_VERSION),
        "application": None,
        "created": sandbox.clock.seconds(),
        "description": params.get("description") or None,
        "enabled_events": params["enabled_events"],
        "livemode": call.world.livemode,
        "metadata": merged_metadata({}, params.get("metadata")),
        "status": "enabled",
        "url": params["url"],
        "_url": params["url"],
        "_secret": new_id("whsec", 32),
    }
    sandbox.store.put(call.world.name, "webhook_endpoint", doc)
    return answer(sandbox, call, "webhook_endpoint", doc | {"secret": doc["_secret"]})


@route("GET", "/v1/webhook_endpoints")
def index(sandbox: Sandbox, call: Call) -> Doc:
    """Lists endpoints."""
    docs = sandbox.store.all(call.world.name, "webhook_endpoint")
    return page(sandbox, call, "webhook_endpoint", docs)


@route("GET", "/v1/webhook_endpoints/{webhook_endpoint}")
def show(sandbox: Sandbox, call: Call) -> Doc:
    """Returns an endpoint."""
    doc = sandbox.find(call.world, "webhook_endpoint", call.args["webhook_endpoint"])
    return answer(sandbox, call, "webhook_endpoint", doc)


@route("POST", "/v1/webhook_endpoints/{webhook_endpoint}")
def update(sandbox: Sandbox, call: Call) -> Doc:
    """Changes address, events, description, or switches the endpoint off and on."""
    old = sandbox.find(call.world, "webhook_endpoint", call.args["webhook_endpoint"])
    params = call.params
    changes: Doc = {
        name: params[name] for name in ("enabled_events", "description", "url") if name in params
    }
    if "url" in params:
        changes["_url"] = params["url"]
    if "disabled" in params:
        changes["status"] = "disabled" if params["disabled"] else "enabled"
    if "metadata" in params:
        changes["metadata"] = merged_metadata(old["metadata"], params["metadata"])
    doc = sandbox.store.put(call.world.name, "webhook_endpoint", old | changes)
    return answer(sandbox, call, "webhook_endpoint", doc)


@route("DELETE", "/v1/webhook_endpoints/{webhook_endpoint}")
def delete(sandbox: Sandbox, call: Call) -> Doc:
    """Deletes an endpoint; what waits for it is not sent."""
    doc = sandbox.find(call.world, "webhook_endpoint", call.args["webhook_endpoint"])
    sandbox.store.delete(call.world.name, "webhook_endpoint", doc["id"])
    return {"id": doc["id"], "object": "webhook_endpoint", "deleted": True}
