"""Acts that grant access ask for the operator's password again, with few wrong tries."""

from typing import Any

from stripemeter.lib.errors import Forbidden, TooManyRequests
from stripemeter.lib.ratelimit import limiter

TRIES, WINDOW_SECONDS = 5, 900


def check_password(request: Any) -> None:
    """Raise unless the form's ``current_password`` is the signed-in person's own."""
    user = request.operator.user
    name = f"password-again:{user.pk}"
    verdict = limiter.take(name, limit=TRIES, window_seconds=WINDOW_SECONDS)
    if not verdict.allowed:
        raise TooManyRequests("Too many tries. Come back in a quarter of an hour.")
    if not user.check_password(request.POST.get("current_password", "")[:200]):
        raise Forbidden("That is not your password.")
    limiter.refill(name)
