"""Prometheus series. Labels are bounded: customer-chosen text is capped or left out.

Set ``PROMETHEUS_MULTIPROC_DIR`` and every process of the web and worker tiers adds to the
same numbers.
"""

import threading

from prometheus_client import Counter, Gauge, Histogram

LABEL_VALUES_MAX = 200

http_requests = Counter(
    "http_requests_total", "Requests answered.", ["method", "route", "status_code"]
)
http_request_duration = Histogram(
    "http_request_duration_seconds",
    "Time to answer a request.",
    ["method", "route"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
events_ingested = Counter("events_ingested_total", "Events newly stored.", ["meter"])
ingest_results = Counter(
    "ingest_results_total", "Answers per event: accepted, duplicate, conflict, error.", ["status"]
)
ingest_latency = Histogram(
    "ingest_latency_ms",
    "Milliseconds to store one ingest request.",
    buckets=(5, 10, 25, 50, 100, 250, 500, 1000, 2500),
)
auth_failures = Counter(
    "auth_fail_total", "Requests without a valid credential.", ["route", "method"]
)
scope_denials = Counter(
    "scope_deny_total", "Requests whose key lacks the scope.", ["route", "method"]
)
cross_tenant_blocks = Counter(
    "cross_tenant_block_total", "Requests that named a foreign tenant.", ["route", "method"]
)
batches_folded = Counter("batches_folded_total", "Ingested batches folded into counters.")
counter_differences = Gauge(
    "counter_differences", "Counters that differ from the ledger at the last check."
)

_known: dict[str, set[str]] = {}
_known_lock = threading.Lock()


def bounded(label: str, value: str) -> str:
    """``value`` while this process knows fewer than 200 values of ``label``, else ``other``."""
    known = _known.setdefault(label, set())
    if value in known:
        return value
    with _known_lock:
        if len(known) >= LABEL_VALUES_MAX:
            return "other"
        known.add(value)
    return value


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def observe_request(method: str, route: str, status: int, seconds: float) -> None:
    """Count one answered request; ``route`` is the URL pattern, never the path."""
    method = method if method in _METHODS else "OTHER"
    http_requests.labels(method, route, str(status)).inc()
    http_request_duration.labels(method, route).observe(seconds)
