"""The ASGI application: one call from its bytes to its answer.

Order of things, as on Stripe: key, rate limits and other refusals that leave the
Idempotency-Key usable, parameters, stored answers, then the work, in one SQLite
transaction with the memory of its answer. Scripted faults strike between these.
"""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import billing.stripe_sandbox.resources  # noqa: F401  (fills the routing table)
from billing.stripe_sandbox import control, gate, page, routing
from billing.stripe_sandbox.connection import close_connection
from billing.stripe_sandbox.delivery import Deliverer
from billing.stripe_sandbox.engine import API_VERSION, Call, Sandbox, new_id
from billing.stripe_sandbox.errors import (
    Failure,
    lock_timeout,
    rate_limited,
    server_error,
    too_many_concurrent,
)
from billing.stripe_sandbox.faults import ANSWER_KINDS, EFFECT_KINDS, GATE_KINDS, Fault
from billing.stripe_sandbox.lifecycle import tick
from billing.stripe_sandbox.parameters import check, parse_form

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

TICK_SECONDS = 1.0

FLUSH_SECONDS = 0.05
"""Time for the first half of a truncated answer to leave the server."""


@dataclass(slots=True)
class Request:
    """A request as it came in."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    peer: tuple[str, int | str] | None


@dataclass(slots=True)
class Reply:
    """An answer on its way out."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    dropped: bool = False
    """True when the connection is to be closed without any answer."""
    truncated: bool = False
    """True when only the first half of the body is to be sent."""


def encode(value: Any) -> bytes:
    """Returns compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


class Application:
    """Serves `/v1`, `/v2`, the control API under `/_sandbox/` and the page at `/`."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.limits = gate.RateLimits()
        self.deliverer = Deliverer(sandbox)
        self._pairs: set[tuple[str, str, str]] = set()
        """Customer and meter of each meter-event call in flight."""
        self._keys: set[tuple[str, str]] = set()
        """Idempotency keys of the calls in flight."""

    async def run_background(self) -> None:
        """Moves billing and deliveries on until cancelled."""
        while True:
            self.advance()
            await self.deliverer.run_due()
            await self.deliverer.sleep(TICK_SECONDS)

    def advance(self) -> None:
        """Lets everything happen that is due by the sandbox's clock."""
        with self.sandbox.store.transaction():
            tick(self.sandbox)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI connection."""
        if scope["type"] != "http":
            return
        request = await _read(scope, receive)
        if request.path == "/" or request.path.startswith("/_sandbox"):
            reply = await self._serve_own(request)
        else:
            reply = await self._serve_api(request)
        await _send(request, reply, send)

    async def _serve_own(self, request: Request) -> Reply:
        """Answers the page and the control API."""
        if request.path == "/":
            html = page.render(self.sandbox, self.deliverer)
            return Reply(200, html.encode(), {}, "text/html; charset=utf-8")
        try:
            status, answer = await control.serve(
                self, request.method, request.path, request.query, request.body
            )
        except control.ControlError as error:
            status, answer = error.status, {"error": str(error)}
        return Reply(status, encode(answer))

    async def _serve_api(self, request: Request) -> Reply:
        """Answers an API call, whatever happens in it."""
        self.sandbox.stats["requests"] += 1
        request_id = new_id("req", 14)
        try:
            reply = await self._call(request, request_id)
        except Failure as failure:
            reply = _failed(request, failure, request_id)
        except Exception:
            traceback.print_exc()
            self.sandbox.stats["errors.internal"] += 1
            reply = _failed(request, server_error(), request_id)
        self.sandbox.stats[f"status.{reply.status}"] += 1
        reply.headers.setdefault("Request-Id", request_id)
        version = request.headers.get("stripe-version", API_VERSION)
        reply.headers.setdefault("Stripe-Version", version)
        return reply

    async def _call(self, request: Request, request_id: str) -> Reply:
        """Takes a call through gate, memory, work and scripted answer."""
        sandbox = self.sandbox
        world = gate.world_of(sandbox, request.headers)
        operation, handler, args = routing.find(request.method, request.path)
        self.limits.check(sandbox, world, operation)
        call = Call(
            method=request.method,
            path=request.path,
            operation=operation,
            args=args,
            params=check(operation, _params(request)),
            world=world,
            version=request.headers.get("stripe-version", API_VERSION),
            idempotency_key=(
                request.headers.get("idempotency-key", "") if request.method != "GET" else ""
            ),
            request_id=request_id,
        )
        dropped = await self._pass_gate(call)
        if dropped is not None:
            return dropped
        reply = self._replay(call)
        if reply is None:
            reply = await self._guarded(call, handler)
        return await self._script_answer(call, reply)

    def _pick(self, kinds: frozenset[str], call: Call) -> list[Fault]:
        """Returns the scripted faults that hit a call."""
        if not self.sandbox.faults.all():
            return []
        pair = gate.meter_pair(call)
        return self.sandbox.faults.pick(
            kinds,
            world=call.world.name,
            method=call.method,
            path=call.path,
            event_name=pair[1] if pair else "",
            customer=pair[2] if pair else str(call.params.get("customer", "")),
            identifier=str(call.params.get("identifier", "")),
        )

    async def _pass_gate(self, call: Call) -> Reply | None:
        """Lets scripted refusals strike; returns a reply only for a dropped connection."""
        for fault in self._pick(GATE_KINDS, call):
            if fault.kind in ("slow", "hang_before"):
                await asyncio.sleep(fault.seconds)
            if fault.kind in ("drop_before", "hang_before"):
                return Reply(0, b"", dropped=True)
            if fault.kind != "slow":
                raise _refusal(fault)
        return None

    def _replay(self, call: Call) -> Reply | None:
        """Returns the remembered answer of the call's Idempotency-Key, or None."""
        remembered = gate.recall(self.sandbox, call)
        if remembered is None:
            return None
        self.sandbox.stats["replayed"] += 1
        headers = {"Idempotent-Replayed": "true", "Original-Request": remembered.request_id}
        headers["Idempotency-Key"] = call.idempotency_key
        return Reply(remembered.status, remembered.body, headers)

    async def _guarded(self, call: Call, handler: routing.Handler) -> Reply:
        """Does the work of a call, alone on its key and on its customer and meter."""
        pair = gate.meter_pair(call)
        key = (call.world.name, call.idempotency_key)
        if call.idempotency_key and key in self._keys:
            raise _key_in_use()
        if pair in self._pairs:
            self.sandbox.stats["overlapping_calls"] += 1
            if self.sandbox.settings["one_call_per_customer_and_meter"]:
                raise too_many_concurrent() if call.path.startswith("/v2/") else lock_timeout()
            pair = None
        if pair:
            self._pairs.add(pair)
        if call.idempotency_key:
            self._keys.add(key)
        try:
            delay = self.sandbox.settings["latency_ms"]
            if delay:
                await asyncio.sleep(delay / 1000)
            return self._work(call, handler)
        finally:
            if pair:
                self._pairs.discard(pair)
            self._keys.discard(key)

    def _work(self, call: Call, handler: routing.Handler) -> Reply:
        """Runs the handler and remembers its answer, in one transaction.

        A scripted 500 is remembered too, as Stripe remembers them (DOC).
        """
        call.effects = self._pick(EFFECT_KINDS, call)
        headers = {"Idempotency-Key": call.idempotency_key} if call.idempotency_key else {}
        if call.method == "GET" and not call.effects:
            return Reply(200, encode(handler(self.sandbox, call)), headers)
        with self.sandbox.store.transaction():
            answer = None
            if not call.effect("error_500_before"):
                answer = handler(self.sandbox, call)
            if answer is None or call.effect("error_500_after"):
                failure = server_error()
                reply = Reply(failure.status, encode(failure.body(call.request_id)), headers)
            else:
                reply = Reply(200, encode(answer), headers)
            gate.remember(self.sandbox, call, reply.status, reply.body)
        self.deliverer.wake()
        return reply

    async def _script_answer(self, call: Call, reply: Reply) -> Reply:
        """Spoils an answer the way the script wants it, after the work was done."""
        for fault in self._pick(ANSWER_KINDS, call):
            if fault.kind in ("hang_after", "slow_answer"):
                await asyncio.sleep(fault.seconds)
            if fault.kind in ("hang_after", "drop_after"):
                reply.dropped = True
            elif fault.kind == "truncated":
                reply.truncated = True
            elif fault.kind == "empty":
                reply.body = b""
            elif fault.kind == "html":
                reply.content_type = "text/html"
                reply.body = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
                reply.status = int(fault.options.get("status", reply.status))
            elif fault.kind == "wrong_id":
                reply.body = _with_wrong_id(reply.body)
        return reply


def _with_wrong_id(body: bytes) -> bytes:
    """Returns the answer with another object's name in it."""
    answer = json.loads(body)
    for name in ("identifier", "id"):
        if name in answer:
            answer[name] = f"{answer[name]}_of_another"
    return encode(answer)


def _key_in_use() -> Failure:
    return Failure(
        "There is currently another in-progress request using this Idempotent Key (that probably "
        "means you submitted twice, and the other request is still going through). Please try "
        "again later.",
        status=409,
        code="idempotency_key_in_use",
    )


def _refusal(fault: Fault) -> Failure:
    """Returns the error of a scripted refusal."""
    options = fault.options
    if fault.kind == "rate_limit":
        failure = rate_limited(options.get("reason"))
    elif fault.kind == "lock_timeout":
        failure = lock_timeout()
    elif fault.kind == "conflict":
        failure = _key_in_use()
    elif fault.kind == "unauthorized":
        failure = Failure("Invalid API Key provided: sk_****", status=401)
    elif fault.kind == "forbidden":
        failure = Failure(
            "The provided key does not have the required permissions for this endpoint.",
            status=403,
        )
    elif fault.kind == "error_503":
        failure = Failure("Service unavailable", status=503, type="api_error")
    else:
        failure = Failure(
            str(options.get("message", "The request was refused.")), code=options.get("code")
        )
    if "retry_after" in options:
        failure.headers["Retry-After"] = str(options["retry_after"])
    if "should_retry" in options:
        failure.headers["Stripe-Should-Retry"] = str(options["should_retry"]).lower()
    return failure


def _failed(request: Request, failure: Failure, request_id: str) -> Reply:
    """Returns the reply of a Failure, in the shape of the API version's error."""
    if request.path.startswith("/v2/"):
        failure.version = 2
    return Reply(failure.status, encode(failure.body(request_id)), dict(failure.headers))


def _params(request: Request) -> dict[str, Any]:
    """Returns the parameters of query and body: brackets on v1, JSON bodies on v2."""
    params = parse_form(request.query) if request.query else {}
    if not request.body:
        return params
    if not request.path.startswith("/v2/"):
        return params | parse_form(request.body.decode("utf-8", "replace"))
    try:
        body = json.loads(request.body)
    except ValueError:
        raise Failure("The request body is not valid JSON.", code="invalid_json") from None
    if not isinstance(body, dict):
        raise Failure("The request body must be a JSON object.", code="invalid_json")
    return params | body


async def _read(scope: Scope, receive: Receive) -> Request:
    """Returns the whole request."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    headers = {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
    }
    return Request(
        method=scope["method"],
        path=scope["path"],
        query=scope.get("query_string", b"").decode("latin-1"),
        headers=headers,
        body=body,
        peer=scope.get("client"),
    )


async def _send(request: Request, reply: Reply, send: Send) -> None:
    """Sends an answer, or cuts the connection when the script says so."""
    if reply.dropped and request.peer is not None and close_connection(request.peer):
        return
    headers = {"Content-Type": reply.content_type, **reply.headers}
    length = len(reply.body)
    headers["Content-Length"] = str(length)
    await send(
        {
            "type": "http.response.start",
            "status": reply.status or 500,
            "headers": [
                (name.lower().encode("latin-1"), value.encode("latin-1"))
                for name, value in headers.items()
            ],
        }
    )
    body = reply.body[: length // 2] if reply.truncated else reply.body
    await send({"type": "http.response.body", "body": body})
    if reply.truncated and request.peer is not None:
        await asyncio.sleep(FLUSH_SECONDS)
        close_connection(request.peer)
