"""What the handlers share: pages, metadata, expansion, snapshot events."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from billing.stripe_sandbox.engine import API_VERSION, Call, Sandbox, World, new_id
from billing.stripe_sandbox.errors import Failure, no_such
from billing.stripe_sandbox.outbox import queue_delivery
from billing.stripe_sandbox.store import Doc

LIMIT_DEFAULT = 10
LIMIT_MAX = 100

EXPANDABLE = {
    "customer": "customer",
    "product": "product",
    "default_price": "price",
    "latest_invoice": "invoice",
    "subscription": "subscription",
    "test_clock": "test_clock",
}
"""Fields that hold an id, and the kind of object behind it."""

ONLY_WHEN_EXPANDED = {"price": ("tiers", "currency_options")}
"""Fields that Stripe sends only with `expand[]`."""

Renderer = Callable[[Sandbox, World, Doc], Doc]
_RENDERERS: dict[str, Renderer] = {}


def renderer(kind: str) -> Callable[[Renderer], Renderer]:
    """Registers the function that turns a stored object into the one sent."""

    def register(function: Renderer) -> Renderer:
        _RENDERERS[kind] = function
        return function

    return register


def render(sandbox: Sandbox, world: World, kind: str, doc: Doc) -> Doc:
    """Returns a copy for sending: private fields (leading underscore) left out."""
    function = _RENDERERS.get(kind)
    shown = function(sandbox, world, doc) if function else doc
    return {key: copy.deepcopy(value) for key, value in shown.items() if key[0] != "_"}


def answer(sandbox: Sandbox, call: Call, kind: str, doc: Doc) -> Doc:
    """Returns an object as the answer to a call, with what it asked to expand."""
    shown = render(sandbox, call.world, kind, doc)
    return expanded(sandbox, call, shown)


def expanded(sandbox: Sandbox, call: Call, shown: Doc) -> Doc:
    """Applies `expand[]` and drops the fields that come only with it."""
    paths = [str(path).split(".") for path in call.params.get("expand") or []]
    _expand(sandbox, call.world, shown, paths)
    return shown


def _expand(sandbox: Sandbox, world: World, node: Any, paths: list[list[str]]) -> None:
    """Walks an answer: fetches expanded ids, removes fields that were not asked for."""
    if isinstance(node, list):
        for item in node:
            _expand(sandbox, world, item, paths)
        return
    if not isinstance(node, dict):
        return
    wanted = {path[0] for path in paths if path}
    for name in ONLY_WHEN_EXPANDED.get(str(node.get("object")), ()):
        if name not in wanted:
            node.pop(name, None)
    for name, value in list(node.items()):
        if name in wanted and name in EXPANDABLE and isinstance(value, str):
            target = sandbox.store.get(world.name, EXPANDABLE[name], value)
            if target is not None:
                node[name] = value = render(sandbox, world, EXPANDABLE[name], target)
        if isinstance(value, dict | list):
            below = [path[1:] for path in paths if path and path[0] == name]
            _expand(sandbox, world, value, below)


def page(
    sandbox: Sandbox, call: Call, kind: str, docs: Iterable[Doc], *, url: str | None = None
) -> Doc:
    """Returns one page of a list: newest first, cursors and limit as on Stripe."""
    newest_first = list(docs)[::-1]
    chosen, has_more = cut(call, newest_first)
    shown = [render(sandbox, call.world, kind, doc) for doc in chosen]
    answer_list = {"object": "list", "data": shown, "has_more": has_more, "url": url or call.path}
    return expanded(sandbox, call, answer_list)


def limit_of(call: Call) -> int:
    """Returns the page size, 1 to 100, or raises Stripe's refusal."""
    limit = int(call.params.get("limit", LIMIT_DEFAULT))
    if not 1 <= limit <= LIMIT_MAX:
        raise Failure(
            f"Invalid integer: {limit}; must be between 1 and {LIMIT_MAX}",
            code="parameter_invalid_integer",
            param="limit",
        )
    return limit


def cut(call: Call, docs: list[Doc]) -> tuple[list[Doc], bool]:
    """Returns (the docs of the page asked for, whether more follow in that direction)."""
    limit = limit_of(call)
    after, before = call.params.get("starting_after"), call.params.get("ending_before")
    if after:
        position = _position_of(docs, after, "starting_after")
        rest = docs[position + 1 :]
        return rest[:limit], len(rest) > limit
    if before:
        rest = docs[: _position_of(docs, before, "ending_before")]
        return rest[-limit:], len(rest) > limit
    return docs[:limit], len(docs) > limit


def _position_of(docs: list[Doc], identifier: str, param: str) -> int:
    for position, doc in enumerate(docs):
        if doc["id"] == identifier:
            return position
    raise no_such("object", identifier, param=param, status=400)


def created_filter(call: Call, docs: Iterable[Doc], *, field: str = "created") -> list[Doc]:
    """Applies the `created` parameter: a moment, or gt/gte/lt/lte bounds."""
    bounds = call.params.get("created")
    if bounds is None:
        return list(docs)
    if not isinstance(bounds, dict):
        return [doc for doc in docs if doc[field] == int(bounds)]
    tests: dict[str, Callable[[int, int], bool]] = {
        "gt": lambda value, bound: value > bound,
        "gte": lambda value, bound: value >= bound,
        "lt": lambda value, bound: value < bound,
        "lte": lambda value, bound: value <= bound,
    }
    return [
        doc
        for doc in docs
        if all(tests[name](doc[field], int(bound)) for name, bound in bounds.items())
    ]


def equal_filter(call: Call, docs: Iterable[Doc], *names: str) -> list[Doc]:
    """Keeps the objects whose fields equal the parameters of the same names."""
    asked = {name: call.params[name] for name in names if name in call.params}
    return [doc for doc in docs if all(doc.get(name) == asked[name] for name in asked)]


def merged_metadata(old: dict[str, str], change: Any) -> dict[str, str]:
    """Returns metadata after an update: empty values delete, an empty string clears all."""
    if change is None:
        return dict(old)
    if change == "":
        return {}
    kept = old | change
    return {key: value for key, value in kept.items() if value != ""}


def emit(
    sandbox: Sandbox,
    world: World,
    event_type: str,
    kind: str,
    doc: Doc,
    *,
    previous: Doc | None = None,
    call: Call | None = None,
) -> Doc:
    """Stores a snapshot event and queues its deliveries. Call inside a transaction."""
    snapshot = render(sandbox, world, kind, doc)
    _expand(sandbox, world, snapshot, [])
    data: Doc = {"object": snapshot}
    if previous is not None:
        data["previous_attributes"] = previous
    event: Doc = {
        "id": new_id("evt"),
        "object": "event",
        "api_version": API_VERSION,
        # Events carry wall time even under a test clock (OBS): the sandbox's clock here.
        "created": sandbox.clock.seconds(),
        "data": data,
        "livemode": world.livemode,
        "pending_webhooks": 0,
        "request": {
            "id": call.request_id if call else None,
            "idempotency_key": (call.idempotency_key or None) if call else None,
        },
        "type": event_type,
    }
    for endpoint in sandbox.store.all(world.name, "webhook_endpoint"):
        if endpoint["status"] == "enabled" and _takes(endpoint["enabled_events"], event_type):
            event["pending_webhooks"] += 1
            queue_delivery(sandbox, world, "webhook_endpoint", endpoint["id"], "event", event)
    for destination in sandbox.store.all(world.name, "event_destination"):
        wanted = destination["event_payload"] == "snapshot" and destination["status"] == "enabled"
        if wanted and _takes(destination["enabled_events"], event_type):
            event["pending_webhooks"] += 1
            queue_delivery(sandbox, world, "event_destination", destination["id"], "event", event)
    return sandbox.store.put(world.name, "event", event)


def _takes(patterns: list[str], event_type: str) -> bool:
    return any(pattern in ("*", event_type) for pattern in patterns)
