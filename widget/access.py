"""Who may see a widget page: the holder of a token whose session and key still live."""

from dataclasses import dataclass
from datetime import datetime

from django.core.cache import cache
from django.http import HttpRequest

from stripemeter.lib.errors import TooManyRequests, Unauthenticated
from stripemeter.lib.logs import get_logger
from stripemeter.tenancy.models import Tenant
from widget import tokens
from widget.models import WidgetSession

log = get_logger(__name__)

#: Requests of one session in ten seconds; the tenant's API quota is another matter.
REQUESTS_MAX, WINDOW_SECONDS = 100, 10


@dataclass(frozen=True, slots=True)
class Viewer:
    """The customer looking at the page."""

    session: WidgetSession
    tenant: Tenant

    @property
    def customer_ref(self) -> str:
        """From the token, never from a parameter."""
        return self.session.customer_ref

    def shows(self, metric: str) -> bool:
        """Whether the session includes the metric."""
        return self.session.metrics is None or metric in self.session.metrics


def bearer_token(request: HttpRequest) -> str:
    """The token of the Authorization header, or an empty string."""
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def viewer_of(token: str, *, now: datetime) -> Viewer:
    """The viewer that ``token`` stands for. Raises `Unauthenticated`, `TooManyRequests`."""
    refused = Unauthenticated("The widget token is not valid any more.", code="invalid_token")
    try:
        claims = tokens.read(token, now=now)
    except tokens.InvalidToken as error:
        raise refused from error
    session = (
        WidgetSession.objects.select_related("tenant", "api_key")
        .filter(pk=claims.session, revoked_at__isnull=True)
        .first()
    )
    if session is None or session.tenant.key != claims.tenant or not session.tenant.is_active:
        raise refused
    key = session.api_key
    if key is not None and (key.revoked_at or (key.expires_at and key.expires_at <= now)):
        raise refused
    _limit(session)
    return Viewer(session, session.tenant)


def _limit(session: WidgetSession) -> None:
    name = f"widget-rate:{session.pk.hex}"
    try:
        cache.add(name, 0, timeout=WINDOW_SECONDS)
        count = cache.incr(name)
    except ValueError:
        return  # the window ended between the two calls
    except Exception as error:  # Redis away: a page that reads may go on without a limit
        log.warning("widget.limit_unavailable", error=type(error).__name__)
        return
    if count > REQUESTS_MAX:
        raise TooManyRequests(
            "Too many requests for this widget.", headers={"Retry-After": str(WINDOW_SECONDS)}
        )
