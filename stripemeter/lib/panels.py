"""A panel: a fragment that loads itself, refreshes itself and says how old it is."""

import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import redis
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_cache_control

from stripemeter.lib import clock

REFRESH_SECONDS = 15
#: Sums over all customers are read this often at most; the panel says when.
SUMS_SECONDS = 12
T = TypeVar("T")


def remembered(name: str, seconds: int, read: Callable[[], T]) -> tuple[T, datetime]:
    """What ``read`` gives, at most ``seconds`` old, and when it was read.

    For sums over all customers, so that ten open screens cost as much as one. ``name`` holds
    the tenant. Without the cache every call reads.
    """
    try:
        held = cache.get(name)
    except redis.RedisError:
        return read(), clock.now()
    if held is None:
        held = read(), clock.now()
        with contextlib.suppress(redis.RedisError):
            cache.set(name, held, timeout=seconds)
    value, at = held
    return value, at


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
