"""Prometheus series. Labels are bounded: customer-chosen text is capped or left out.

Set ``PROMETHEUS_MULTIPROC_DIR`` and every process of the web and worker tiers adds to the
same numbers. What the database knows better is asked at scrape time (`at_scrape`).
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache

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
    "counter_differences",
    "Counters that differ from the ledger at the last check.",
    multiprocess_mode="mostrecent",
)
rate_limited = Counter(
    "rate_limited_total", "Requests refused by a rate limit.", ["route_class", "reason"]
)

#: Values of a gauge's labels, and its value.
Sample = tuple[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class ScrapedGauge:
    """A gauge whose samples are read from the database when Prometheus asks."""

    name: str
    documentation: str
    labels: tuple[str, ...]
    sources: list[Callable[[], Iterable[Sample]]] = field(default_factory=list)


scraped_gauges: dict[str, ScrapedGauge] = {}


def at_scrape(
    name: str, documentation: str, labels: tuple[str, ...], source: Callable[[], Iterable[Sample]]
) -> None:
    """Add a source of samples to gauge ``name``; several apps may feed one gauge.

    Call it in ``AppConfig.ready``. A source runs one cheap query (milliseconds) and returns
    boundedly many samples. ``writer`` of ``queue_lag_seconds`` and ``reconciliation_diff``
    also show in ``/health/ready``.
    """
    gauge = scraped_gauges.setdefault(name, ScrapedGauge(name, documentation, labels))
    if gauge.labels != labels:
        raise ValueError(f"{name} has the labels {gauge.labels}")
    if source not in gauge.sources:
        gauge.sources.append(source)


adjustments_created = Counter("adjustments_created_total", "Adjustments asked for.", ["reason"])
adjustments_approved = Counter(
    "adjustments_approved_total", "Adjustments that took effect.", ["reason"]
)
adjustments_reverted = Counter(
    "adjustments_reverted_total", "Adjustments undone by a counter-entry.", ["reason"]
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


@lru_cache(maxsize=4_096)
def _request_series(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return (
        http_requests.labels(method, route, str(status)),
        http_request_duration.labels(method, route),
    )


def observe_request(method: str, route: str, status: int, seconds: float) -> None:
    """Count one answered request; ``route`` is the URL pattern, never the path."""
    method = method if method in _METHODS else "OTHER"
    count, duration = _request_series(method, route, status)
    count.inc()
    duration.observe(seconds)
