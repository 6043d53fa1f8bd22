"""What apps above want to hear from the counters, or to add to them; nothing here knows them."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

#: Called after a fold that found something has committed. Each must be quick and never raise.
after_fold: list[Callable[[], None]] = []
#: Each gives the alerts of (tenant id, customer, now) that current usage shows.
alerts_of: list[Callable[[int, str, datetime], list[dict[str, Any]]]] = []


def folded() -> None:
    """Tell everybody who registered."""
    for tell in after_fold:
        tell()


def alerts(tenant_id: int, customer_ref: str, now: datetime) -> list[dict[str, Any]]:
    """What everybody who registered has to say about the customer."""
    return [alert for ask in alerts_of for alert in ask(tenant_id, customer_ref, now)]
