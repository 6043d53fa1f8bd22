"""Operators' sessions: ended by half an hour of silence and by twelve hours in any case."""

from collections.abc import Callable

from django.conf import settings
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import resolve_url

from stripemeter.lib import clock

_BEGAN, _SEEN = "_began_at", "_seen_at"
_SAVE_EVERY_SECONDS = 60


class SessionLifeMiddleware:
    """Ends sessions; sends HTMX requests of ended ones to the log-in page as a whole page."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer ``request``."""
        if request.user.is_authenticated:
            self._age(request)
        response = self.get_response(request)
        location = response.headers.get("Location", "")
        is_login = location.startswith(resolve_url(settings.LOGIN_URL))
        if "HTTP_HX_REQUEST" in request.META and response.status_code == 302 and is_login:
            return HttpResponse(status=204, headers={"HX-Redirect": location})
        return response

    @staticmethod
    def _age(request: HttpRequest) -> None:
        now = int(clock.now().timestamp())
        began = request.session.setdefault(_BEGAN, now)
        seen = request.session.get(_SEEN, now)
        idle = now - seen > settings.SESSION_IDLE_SECONDS
        if idle or now - began > settings.SESSION_COOKIE_AGE:
            logout(request)
        elif _SEEN not in request.session or now - seen >= _SAVE_EVERY_SECONDS:
            request.session[_SEEN] = now
