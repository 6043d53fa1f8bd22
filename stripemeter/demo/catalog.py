"""What the demo's tenants sell and to whom."""

from dataclasses import dataclass, field
from typing import Any

SEED = "stripemeter-demo-1"
DAYS = 30


@dataclass(frozen=True, slots=True)
class DemoMetric:
    """A metric, its meter at Stripe and the price that bills it."""

    name: str
    aggregation: str
    unit: str
    description: str
    #: Stripe price fields beside currency, product and recurring; amounts in cents.
    price: dict[str, Any]
    #: What the meter adds up; levels go into a ``last`` meter, increments into ``sum``.
    formula: str = "sum"
    push_semantics: str = "increment"
    unique_field: str = "resourceId"


@dataclass(frozen=True, slots=True)
class DemoTenant:
    """A tenant with its customers, largest first."""

    key: str
    name: str
    customers: tuple[str, ...]
    metrics: tuple[DemoMetric, ...]
    #: Metrics that are also pushed to a test account.
    shadow: frozenset[str] = field(default_factory=frozenset)


def _tiers(*tiers: tuple[str, str, str]) -> dict[str, Any]:
    """Graduated tiers of (up_to, unit amount in cents, flat amount in cents)."""
    return {
        "billing_scheme": "tiered",
        "tiers_mode": "graduated",
        "tiers": [
            {"up_to": up_to, "unit_amount_decimal": unit, "flat_amount_decimal": flat}
            for up_to, unit, flat in tiers
        ],
    }


METRICS = (
    DemoMetric(
        "api_calls", "sum", "calls", "Calls to the API",
        _tiers(("100000", "0", "0"), ("1000000", "0.02", "0"), ("inf", "0.012", "0")),
    ),
    DemoMetric("exports", "count", "exports", "Reports exported", {"unit_amount": "25"}),
    DemoMetric(
        "peak_connections", "max", "connections", "Most connections at one time",
        {"unit_amount": "150"},
    ),
    DemoMetric(
        "seats", "last", "seats", "Seats at the end of the period", {"unit_amount": "1200"},
        formula="last", push_semantics="level",
    ),
    DemoMetric(
        "active_users", "unique", "users", "People who were active in the period",
        {"unit_amount": "40"}, unique_field="meta.user",
    ),
    DemoMetric(
        "free_disk", "min", "GB", "Least free disk space of the period", {"unit_amount": "1"},
        formula="last", push_semantics="level",
    ),
)  # fmt: skip

_NAMES = (
    "northwind", "initech", "umbrella", "hooli", "stark", "wayne", "wonka", "cyberdyne",
    "tyrell", "oscorp", "aperture", "blackmesa", "soylent", "massive", "vandelay", "dunder",
    "prestige", "bluth", "sterling", "gekko", "pied-piper", "monsters", "acme-tools",
    "duff", "virtucon", "weyland", "nakatomi", "rekall", "omni", "zorg",
)  # fmt: skip

TENANTS = (
    DemoTenant("demo", "Demo Cloud", tuple(f"cust_{name}" for name in _NAMES), METRICS,
               frozenset({"api_calls"})),
    DemoTenant("globex", "Globex Analytics", tuple(f"org-{n:02d}" for n in range(1, 11)),
               METRICS[:2]),
)  # fmt: skip

#: One customer whose use comes in bursts.
SPIKY = "cust_hooli"
