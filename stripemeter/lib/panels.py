"""A panel: a fragment that loads itself, refreshes itself and says how old it is."""

import contextlib
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import redis
from django.core.cache import cache
from django.core.signals import request_finished
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_cache_control

from stripemeter.lib import clock
from stripemeter.lib.logs import get_logger

REFRESH_SECONDS = 15
#: Sums over all customers are read this often at most; the panel says when.
SUMS_SECONDS = 12
#: Nothing older is shown; a renewal that takes longer than this is given up by others.
KEPT_SECONDS, RENEWING_SECONDS = 90, 30
log = get_logger(__name__)
T = TypeVar("T")


class _Thread(threading.local):
    """What this thread reads once its response is out."""

    def __init__(self) -> None:
        self.waiting: list[tuple[str, Callable[[], Any]]] = []


_thread = _Thread()


def remembered(name: str, seconds: int, read: Callable[[], T]) -> tuple[T, datetime]:
    """What ``read`` gives, and when it was read.

    For sums over all customers, so that ten open screens cost as much as one. What is older than
    ``seconds`` is given once more and read anew after the response, so that nobody waits for it;
    what is older than `KEPT_SECONDS` is read at once. ``name`` holds the tenant. Without the
    cache every call reads.
    """
    try:
        held = cache.get(name)
    except redis.RedisError:
        return read(), clock.now()
    if held is None:
        return _read(name, read)
    value, at = held
    if at < clock.now() - timedelta(seconds=seconds):
        _renew_later(name, read)
    return value, at


def _read(name: str, read: Callable[[], T]) -> tuple[T, datetime]:
    held = read(), clock.now()
    with contextlib.suppress(redis.RedisError):
        cache.set(name, held, timeout=KEPT_SECONDS)
    return held


def _renew_later(name: str, read: Callable[[], Any]) -> None:
    with contextlib.suppress(redis.RedisError):
        if cache.add(f"{name}:renewing", True, timeout=RENEWING_SECONDS):
            _thread.waiting.append((name, read))


@receiver(request_finished)
def _renew(**_signal: Any) -> None:
    """Read what the finished request found old. A failure leaves the old value and its time."""
    while _thread.waiting:
        name, read = _thread.waiting.pop()
        try:
            _read(name, read)
        except Exception:
            log.exception("panel.renewal_failed", panel=name)
        with contextlib.suppress(redis.RedisError):
            cache.delete(f"{name}:renewing")


def render_panel(
    request: HttpRequest,
    template: str,
    context: dict[str, Any],
    *,
    refresh: int = REFRESH_SECONDS,
    as_of: datetime | None = None,
) -> HttpResponse:
    """The panel's fragment; its frame reloads it every ``refresh`` seconds.

    ``as_of`` is when its numbers were read, if that was before now.
    """
    response = render(
        request,
        template,
        {
            **context,
            "panel_url": request.get_full_path(),
            "panel_refresh": refresh,
            "panel_as_of": as_of or clock.now(),
        },
    )
    patch_cache_control(response, no_store=True)
    return response
