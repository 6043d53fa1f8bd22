"""A panel: a fragment that loads itself, refreshes itself and says how old it is."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_cache_control

from stripemeter.lib import clock

REFRESH_SECONDS = 15


def render_panel(
    request: HttpRequest, template: str, context: dict[str, Any], *, refresh: int = REFRESH_SECONDS
) -> HttpResponse:
    """The panel's fragment; its frame reloads it every ``refresh`` seconds."""
    response = render(
        request,
        template,
        {
            **context,
            "panel_url": request.get_full_path(),
            "panel_refresh": refresh,
            "panel_as_of": clock.now(),
        },
    )
    patch_cache_control(response, no_store=True)
    return response
