"""The public driver surface: ``from stripemeter.billing_driver import record_usage``.

Needs Django's settings (keys, base addresses). `recordUsage` and `getUsageSummary` take the
camelCase names of the predecessor's driver and are otherwise the same functions.
"""

import re
from typing import Any

from billing.stripe.direct import Recorded, UsageNotRecorded, get_usage_summary, record_usage

__all__ = [
    "Recorded",
    "UsageNotRecorded",
    "getUsageSummary",
    "get_usage_summary",
    "recordUsage",
    "record_usage",
]

_PREDECESSOR = {"period_start": "timestamp"}


def _snake(names: dict[str, Any]) -> dict[str, Any]:
    return {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower(): names[name] for name in names}


def recordUsage(**parameters: Any) -> Recorded:  # noqa: N802  the predecessor's name
    """`record_usage` with camelCase names; ``periodStart`` is its ``timestamp``."""
    named = {_PREDECESSOR.get(name, name): value for name, value in _snake(parameters).items()}
    return record_usage(**named)


def getUsageSummary(**parameters: Any) -> dict[str, Any]:  # noqa: N802  the predecessor's name
    """`get_usage_summary` with camelCase names."""
    return get_usage_summary(**_snake(parameters))
