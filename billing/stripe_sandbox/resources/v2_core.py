"""`/v2/core`: event destinations and thin events."""

from __future__ import annotations

from typing import Any

from billing.stripe_sandbox.answers import render
from billing.stripe_sandbox.engine import API_VERSION, Call, Sandbox, new_id
from billing.stripe_sandbox.errors import Failure
from billing.stripe_sandbox.routing import route
from billing.stripe_sandbox.store import Doc
from billing.stripe_sandbox.thin import emit_thin, rfc3339, seconds_of

LIMIT_DEFAULT = 20
LIMIT_MAX = 100


def _destination(sandbox: Sandbox, call: Call) -> Doc:
    doc = sandbox.store.get(call.world.name, "event_destination", call.args["id"])
    if doc is None:
        raise _not_found("event destination", call.args["id"])
    return doc


def _not_found(words: str, identifier: str) -> Failure:
    return Failure(f"No such {words}: {identifier}", status=404, code="not_found", version=2)


def _shown(sandbox: Sandbox, call: Call, doc: Doc) -> Doc:
    """Returns a destination; address and secret only when included."""
    included = call.params.get("include") or []
    shown = render(sandbox, call.world, "event_destination", doc)
    if doc["type"] == "webhook_endpoint":
        hook: dict[str, Any] = {}
        if "webhook_endpoint.url" in included:
            hook["url"] = doc["_url"]
        if "webhook_endpoint.signing_secret" in included:
            hook["signing_secret"] = doc["_secret"]
        shown["webhook_endpoint"] = hook
    return shown


@route("POST", "/v2/core/event_destinations")
def create(sandbox: Sandbox, call: Call) -> Doc:
    """Creates a destination; only webhook endpoints are delivered to."""
    params = call.params
    if params["type"] != "webhook_endpoint":
        raise Failure(
            "The sandbox delivers to webhook endpoints only.", code="unsupported_type", version=2
        )
    url = (params.get("webhook_endpoint") or {}).get("url")
    if not url:
        raise Failure(
            "Missing required field: webhook_endpoint.url", code="missing_field", version=2
        )
    now = rfc3339(sandbox.clock.now())
    doc: Doc = {
        "id": new_id("ed_test" if not call.world.livemode else "ed"),
        "object": "v2.core.event_destination",
        "created": now,
        "description": params.get("description", ""),
        "enabled_events": params["enabled_events"],
        "event_payload": params["event_payload"],
        "events_from": params.get("events_from", ["self"]),
        "livemode": call.world.livemode,
        "metadata": params.get("metadata", {}),
        "name": params["name"],
        "snapshot_api_version": params.get("snapshot_api_version", API_VERSION),
        "status": "enabled",
        "type": "webhook_endpoint",
        "updated": now,
        "_url": url,
        "_secret": new_id("whsec", 32),
    }
    if doc["event_payload"] == "thin":
        del doc["snapshot_api_version"]
    sandbox.store.put(call.world.name, "event_destination", doc)
    return _shown(sandbox, call, doc)


@route("GET", "/v2/core/event_destinations")
def index(sandbox: Sandbox, call: Call) -> Doc:
    """Lists destinations, newest first."""
    docs = sandbox.store.all(call.world.name, "event_destination")[::-1]
    chosen, following = _page(call, docs)
    return following | {"data": [_shown(sandbox, call, doc) for doc in chosen]}


@route("GET", "/v2/core/event_destinations/{id}")
def show(sandbox: Sandbox, call: Call) -> Doc:
    """Returns a destination."""
    return _shown(sandbox, call, _destination(sandbox, call))


@route("POST", "/v2/core/event_destinations/{id}")
def update(sandbox: Sandbox, call: Call) -> Doc:
    """Changes name, description, events or address."""
    names = ("name", "description", "enabled_events", "metadata")
    changes: Doc = {name: call.params[name] for name in names if name in call.params}
    url = (call.params.get("webhook_endpoint") or {}).get("url")
    if url:
        changes["_url"] = url
    return _changed(sandbox, call, changes)


@route("POST", "/v2/core/event_destinations/{id}/disable")
def disable(sandbox: Sandbox, call: Call) -> Doc:
    """Stops deliveries."""
    return _changed(sandbox, call, {"status": "disabled"})


@route("POST", "/v2/core/event_destinations/{id}/enable")
def enable(sandbox: Sandbox, call: Call) -> Doc:
    """Takes deliveries up again."""
    return _changed(sandbox, call, {"status": "enabled"})


def _changed(sandbox: Sandbox, call: Call, changes: Doc) -> Doc:
    doc = _destination(sandbox, call) | changes | {"updated": rfc3339(sandbox.clock.now())}
    sandbox.store.put(call.world.name, "event_destination", doc)
    return _shown(sandbox, call, doc)


@route("POST", "/v2/core/event_destinations/{id}/ping")
def ping(sandbox: Sandbox, call: Call) -> Doc:
    """Delivers a ping to one destination."""
    doc = _destination(sandbox, call)
    related = {
        "id": doc["id"],
        "type": "v2.core.event_destination",
        "url": f"/v2/core/event_destinations/{doc['id']}",
    }
    event = emit_thin(
        sandbox, call.world, "v2.core.event_destination.ping", related=related, only_to=doc["id"]
    )
    return render(sandbox, call.world, "v2_event", event)


@route("DELETE", "/v2/core/event_destinations/{id}")
def delete(sandbox: Sandbox, call: Call) -> Doc:
    """Deletes a destination."""
    doc = _destination(sandbox, call)
    sandbox.store.delete(call.world.name, "event_destination", doc["id"])
    return {"id": doc["id"], "object": "v2.core.event_destination"}


@route("GET", "/v2/core/events")
def events(sandbox: Sandbox, call: Call) -> Doc:
    """Lists thin events, newest first, by type, object and time."""
    params = call.params
    docs = sandbox.store.all(call.world.name, "v2_event")[::-1]
    if params.get("object_id"):
        docs = [
            doc
            for doc in docs
            if (doc.get("related_object") or {}).get("id") == params["object_id"]
        ]
    if params.get("types"):
        docs = [doc for doc in docs if doc["type"] in params["types"]]
    for name, bound in (params.get("created") or {}).items():
        docs = [doc for doc in docs if _compare(name, doc["_seconds"], bound)]
    chosen, following = _page(call, docs)
    return following | {"data": [render(sandbox, call.world, "v2_event", doc) for doc in chosen]}


def _compare(name: str, seconds: float, bound: str) -> bool:
    """Applies one bound of `created`: gt, gte, lt or lte."""
    try:
        limit = seconds_of(bound)
    except ValueError:
        raise Failure(f"Invalid timestamp: {bound}", code="invalid_fields", version=2) from None
    if name.startswith("g"):
        return seconds >= limit if name == "gte" else seconds > limit
    return seconds <= limit if name == "lte" else seconds < limit


def _page(call: Call, docs: list[Doc]) -> tuple[list[Doc], Doc]:
    """Returns (the docs of the page, its links); the token is an offset."""
    limit = int(call.params.get("limit", LIMIT_DEFAULT))
    if not 1 <= limit <= LIMIT_MAX:
        raise Failure(f"limit must be between 1 and {LIMIT_MAX}", code="invalid_fields", version=2)
    token = str(call.params.get("page", "page_0")).removeprefix("page_")
    start = int(token) if token.isdigit() else 0

    def link(offset: int) -> str:
        return f"{call.path}?limit={limit}&page=page_{offset}"

    return docs[start : start + limit], {
        "next_page_url": link(start + limit) if start + limit < len(docs) else None,
        "previous_page_url": link(max(start - limit, 0)) if start else None,
    }


@route("GET", "/v2/core/events/{id}")
def event(sandbox: Sandbox, call: Call) -> Doc:
    """Returns a thin event with its data."""
    doc = sandbox.store.get(call.world.name, "v2_event", call.args["id"])
    if doc is None:
        raise _not_found("event", call.args["id"])
    return render(sandbox, call.world, "v2_event", doc)
