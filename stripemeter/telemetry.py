"""OpenTelemetry and Sentry: both off unless switched on, neither ever sees usage or secrets.

The shell app calls `start` once a process. `STRIPEMETER_TRACES=1` exports spans over OTLP/HTTP,
to where the standard `OTEL_EXPORTER_OTLP_*` variables say. `SENTRY_DSN` reports defects.
"""

from typing import Any

from django.conf import settings

from stripemeter.lib import tracing
from stripemeter.lib.logs import redact, redact_deep

#: Parts of a Sentry event that hold customers' data or credentials: they stay here.
_DROPPED = ("data", "cookies", "headers", "query_string", "env")


def start() -> None:
    """Start what settings ask for; with neither, nothing is even imported."""
    if settings.TRACES:
        start_tracing(version=settings.VERSION)
    if settings.SENTRY_DSN:
        start_sentry(
            dsn=settings.SENTRY_DSN,
            environment=settings.ENV,
            version=settings.VERSION,
            traces_sample_rate=float(settings.SENTRY_TRACES_SAMPLE_RATE),
        )


def start_tracing(*, version: str, exporter: Any = None) -> Any:
    """Make spans of requests, tasks and our own steps; the provider.

    ``exporter`` replaces OTLP (tests).
    """
    from opentelemetry import trace
    from opentelemetry.instrumentation.celery import CeleryInstrumentor
    from opentelemetry.instrumentation.django import DjangoInstrumentor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

    resource = Resource.create({"service.name": "stripemeter", "service.version": version})
    provider = TracerProvider(resource=resource)
    if exporter is None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    else:
        provider.add_span_processor(SimpleSpanProcessor(exporter))
    DjangoInstrumentor().instrument(
        tracer_provider=provider, response_hook=_without_query, excluded_urls="health,metrics"
    )
    celery: Any = CeleryInstrumentor  # its constructor has no types
    celery().instrument(tracer_provider=provider)
    trace.set_tracer_provider(provider)
    tracing.install(provider.get_tracer("stripemeter", version))
    return provider


def stop_tracing() -> None:
    """Undo `start_tracing` (tests)."""
    from opentelemetry.instrumentation.celery import CeleryInstrumentor
    from opentelemetry.instrumentation.django import DjangoInstrumentor

    tracing.install(None)
    DjangoInstrumentor().uninstrument()
    celery: Any = CeleryInstrumentor
    celery().uninstrument()


def _without_query(span: Any, _request: Any, _response: Any) -> None:
    # Query strings name customers; a key in one is refused, but would be seen here first.
    if span and span.is_recording():
        for name in ("http.url", "http.target", "url.full", "url.query"):
            if name in (span.attributes or {}):
                span.set_attribute(name, str(span.attributes[name]).partition("?")[0])


def start_sentry(
    *, dsn: str, environment: str, version: str, traces_sample_rate: float, **options: Any
) -> None:
    """Report defects to Sentry, without request bodies, headers, variables or addresses."""
    import sentry_sdk

    sentry_sdk.init(
        dsn=dsn,
        environment=environment,
        release=f"stripemeter@{version}",
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
        traces_sample_rate=traces_sample_rate,
        before_send=scrub,
        before_send_transaction=scrub,
        before_breadcrumb=_scrub_breadcrumb,
        **options,
    )


def scrub(event: Any, _hint: Any) -> Any:
    """A Sentry event without what it has no business with, and with every secret replaced."""
    request = event.get("request")
    if isinstance(request, dict):
        for name in _DROPPED:
            request.pop(name, None)
        if "url" in request:
            request["url"] = str(request["url"]).partition("?")[0]
    event.pop("user", None)
    event.pop("extra", None)
    return redact_deep(event)


def _scrub_breadcrumb(crumb: Any, _hint: Any) -> Any:
    crumb.pop("data", None)
    if isinstance(crumb.get("message"), str):
        crumb["message"] = redact(crumb["message"])
    return crumb
