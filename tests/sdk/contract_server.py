"""A small server that keeps the ingest contract, with scripted faults.

It lets the client's tests decide what goes wrong and when, which a real server does not. The
ledger outlives restarts of the listener, as a database outlives its web processes. Faults are
consumed one per ingest request, in order:

    drop               close the connection before anything is stored
    drop_after_apply   store, then close without an answer (the client cannot know)
    500_after_apply    store, then answer 500
    500 | 503 | 401    answer so and store nothing
    429:<seconds>      answer 429 with Retry-After
    html               answer 200 with a page, as a captive portal does
    400_plain          answer 400 with JSON that names no event
    400_page           answer 400 with a page
    short              answer 200 with one result too few
"""

import contextlib
import json
import threading
import time
from collections import deque
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

BODY_BYTES_MAX = 1_048_576
EVENTS_MAX = 1_000


class ContractServer:
    """Start with `with ContractServer() as server`; the port stays the same over restarts."""

    def __init__(self) -> None:
        self.ledger: dict[tuple[str, str], dict[str, Any]] = {}
        self.faults: deque[str] = deque()
        self.refuse_metric: str | None = None
        self.name_refused = True
        self.body_bytes_max = BODY_BYTES_MAX
        self.requests: list[dict[str, Any]] = []
        self.lock = threading.Lock()
        self.arrived = threading.Condition(self.lock)
        self._port = 0
        self._httpd: _Listener | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def total(self) -> Decimal:
        with self.lock:
            return sum((Decimal(str(e["quantity"])) for e in self.ledger.values()), Decimal(0))

    def start(self) -> None:
        self._httpd = _Listener(("127.0.0.1", self._port), _Handler)
        self._httpd.contract = self
        self._port = self._httpd.server_address[1]
        self._thread = threading.Thread(target=self._httpd.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and cut every open connection, as a kill does."""
        assert self._httpd is not None
        assert self._thread is not None
        self._httpd.shutdown()
        self._httpd.cut()
        self._httpd.server_close()
        self._thread.join()

    def wait_for(self, condition: Any, timeout: float = 30.0) -> None:
        """Block until `condition()` holds; it is looked at after every request."""
        with self.arrived:
            assert self.arrived.wait_for(condition, timeout), "the server never saw it"

    def __enter__(self) -> "ContractServer":
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def ingest(self, events: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        errors = [
            {"index": i, "field": "metric", "code": "refused", "detail": "not this one"}
            for i, event in enumerate(events)
            if event["metric"] == self.refuse_metric
        ]
        if errors:
            named = errors if self.name_refused else []
            return 400, {"code": "invalid", "detail": "bad", "requestId": "r", "errors": named}
        results = [self._apply(event) for event in events]
        statuses = [row["status"] for row in results]
        return 200, {
            "accepted": statuses.count("accepted"),
            "duplicates": statuses.count("duplicate"),
            "conflicts": statuses.count("conflict"),
            "requestId": f"req-{len(self.requests)}",
            "results": results,
        }

    def _apply(self, event: dict[str, Any]) -> dict[str, Any]:
        place = (event["tenantId"], event["idempotencyKey"])
        known = self.ledger.setdefault(place, event)
        again = "duplicate" if known == event else "conflict"
        status = "accepted" if known is event else again
        return {"idempotencyKey": event["idempotencyKey"], "status": status}


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    contract: ContractServer

    def __init__(self, *args: Any) -> None:
        self.open: set[Any] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def cut(self) -> None:
        for connection in list(self.open):
            with contextlib.suppress(OSError):
                connection.shutdown(2)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Cut connections are what these tests make; they need no traceback."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        path = urlsplit(self.path).path
        if path == "/v1/usage/projection":
            self._note(path, body, None)
            asked = json.loads(body)
            self._json(200, _projection(asked))
            return
        contract = self.server.contract
        with contract.lock:
            fault = contract.faults.popleft() if contract.faults else ""
        self._ingest(path, body, fault)

    def _ingest(self, path: str, body: bytes, fault: str) -> None:
        contract = self.server.contract
        events = json.loads(body, parse_float=Decimal)["events"]
        status, answer = 0, {}
        if len(body) > contract.body_bytes_max or len(events) > EVENTS_MAX:
            status, answer = 413, {"code": "too_large", "detail": "too large"}
        elif fault in ("", "drop_after_apply", "500_after_apply", "short"):
            with contract.lock:
                status, answer = contract.ingest(events)
        self._note(path, body, events)
        if fault.startswith("drop"):
            self.close_connection = True
            self.connection.shutdown(2)
            return
        if fault == "short":
            answer["results"].pop()
        self._answer(fault, status, answer)

    def _answer(self, fault: str, status: int, answer: dict[str, Any]) -> None:
        name, _, seconds = fault.partition(":")
        if name in ("html", "400_page"):
            self._send(200 if name == "html" else 400, b"<html>hello</html>", {})
        elif name == "429":
            self._json(429, {"code": "rate_limited", "detail": "slow"}, {"retry-after": seconds})
        elif name == "400_plain":
            self._json(400, {"code": "invalid", "detail": "something is wrong"})
        elif name in ("500", "503", "401"):
            self._json(int(name), {"code": f"code_{name}", "detail": "no", "requestId": "rid"})
        elif name == "500_after_apply":
            self._json(500, {"code": "internal", "detail": "no"})
        else:
            self._json(status, answer)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self._note(self.path, b"", None)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        contract = self.server.contract
        with contract.lock:
            fault = contract.faults.popleft() if contract.faults else ""
        if fault:
            self._answer(fault, 0, {})
        elif parts.path == "/v1/usage/current":
            self._send(200, _usage(query["customerRef"]), {})
        elif "since" in query:
            self._json(
                200,
                {
                    "series": [{"ts": "2026-11-01T00:00:00Z", "value": 2}],
                    "totals": {"value": 2},
                },
            )
        else:
            self._json(200, {"usage": [{"ts": "2026-11-01T00:00:00Z", "value": 3}]})

    def _note(self, path: str, body: bytes, events: Any) -> None:
        contract = self.server.contract
        with contract.arrived:
            contract.requests.append(
                {
                    "path": path,
                    "body": body,
                    "events": events,
                    "headers": {k.lower(): v for k, v in self.headers.items()},
                    "at": time.monotonic(),
                }
            )
            contract.arrived.notify_all()

    def _json(self, status: int, data: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(data, default=float).encode(), headers or {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _usage(customer_ref: str) -> bytes:
    # The number has more digits than a float keeps, written as JSON.
    return (
        f'{{"customerRef":"{customer_ref}","period":{{"start":"2026-11-01","end":"2026-11-30"}},'
        '"metrics":[{"name":"api_calls","current":12345678901234567890.123456789012,'
        '"unit":"unit"}],"alerts":[]}'
    ).encode()


def _projection(asked: dict[str, Any]) -> dict[str, Any]:
    return {
        "customerRef": asked["customerRef"],
        "periodStart": asked.get("periodStart", "2026-11-01"),
        "periodEnd": asked.get("periodEnd", "2026-11-30"),
        "lineItems": [{"metric": "api_calls", "quantity": 5, "unitPrice": 0.5, "total": 2.5}],
        "subtotal": 2.5,
        "credits": 0,
        "total": 2.5,
        "currency": "USD",
    }
