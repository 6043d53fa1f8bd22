"""Spans, for whoever switched tracing on; otherwise nothing at all.

`stripemeter.telemetry` installs a tracer at start-up. Until then `span` hands out one
shared object that does nothing, so a call costs a tenth of a microsecond.

Work between ingest and Stripe stands in PostgreSQL, not in messages, so no message can
carry the trace along. While tracing is on, ingest leaves the context of each tenant's newest
request in Redis (throwaway, ten minutes); the spans of fold and push link to it.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import redis

from stripemeter.lib import redisclient

KEPT_SECONDS = 600
_KEY = "trace:tenant:{}"

_state: dict[str, Any] = {"tracer": None}
_nothing: AbstractContextManager[None] = nullcontext()


def install(tracer: Any) -> None:
    """Make spans with ``tracer`` (of OpenTelemetry) from now on; None stops it."""
    _state["tracer"] = tracer


def is_on() -> bool:
    """Whether spans are made."""
    return _state["tracer"] is not None


def span(name: str, /, *, origins: Iterable[int] = (), **attributes: Any) -> Any:
    """A context manager for one piece of work.

    ``origins`` are tenants whose newest ingest request it goes back to. Attributes are ids
    and counts, never customers' data.
    """
    tracer = _state["tracer"]
    if tracer is None:
        return _nothing
    named = {f"stripemeter.{key}": value for key, value in attributes.items()}
    links = [link for tenant_id in origins if (link := _link(tenant_id))]
    return tracer.start_as_current_span(name, attributes=named, links=links)


def carried(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, to be called in another thread, under the span that is open now."""
    if not is_on():
        return function
    from opentelemetry import context

    here = context.get_current()

    def run(*arguments: Any) -> Any:
        token = context.attach(here)
        try:
            return function(*arguments)
        finally:
            context.detach(token)

    return run


def remember(tenant_id: int) -> None:
    """Let later work for the tenant link to the span that is open now."""
    if not is_on():
        return
    from opentelemetry.propagate import inject

    carrier: dict[str, str] = {}
    inject(carrier)
    if "traceparent" in carrier:
        try:
            redisclient.client().set(
                _KEY.format(tenant_id), carrier["traceparent"], ex=KEPT_SECONDS
            )
        except redis.RedisError:
            return  # a lost link is no reason to fail


def _link(tenant_id: int) -> Any:
    from opentelemetry import trace
    from opentelemetry.propagate import extract

    try:
        found: Any = redisclient.client().get(_KEY.format(tenant_id))
    except redis.RedisError:
        return None
    if not found:
        return None
    text = found.decode() if isinstance(found, bytes) else str(found)
    context = trace.get_current_span(extract({"traceparent": text})).get_span_context()
    return trace.Link(context) if context.is_valid else None
