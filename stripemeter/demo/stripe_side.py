"""Makes the demo's objects at Stripe: customers, meters, prices, subscriptions.

Plain HTTP against the configured base address, which is the local sandbox in `make demo`.
"""

from dataclasses import dataclass
from typing import Any

import httpx

from stripemeter.demo.catalog import DemoMetric


def form(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Stripe's bracket form: ``{"a": {"b": 1}, "c": [2]}`` is ``a[b]=1&c[0]=2``."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        key = f"{prefix}[{name}]" if prefix else name
        if isinstance(value, dict):
            flat |= form(value, key)
        elif isinstance(value, list):
            flat |= form({str(place): member for place, member in enumerate(value)}, key)
        else:
            flat[key] = str(value)
    return flat


@dataclass(frozen=True, slots=True)
class StripeSide:
    """One account in one mode."""

    client: httpx.Client

    @classmethod
    def connect(cls, base: str, key: str) -> "StripeSide":
        """A client that authenticates with ``key``."""
        headers = {"Authorization": f"Bearer {key}"}
        return cls(httpx.Client(base_url=base, headers=headers, timeout=30, trust_env=False))

    def __enter__(self) -> "StripeSide":
        """Itself; leaving closes its connections."""
        return self

    def __exit__(self, *_problem: object) -> None:
        self.client.close()

    def get(self, path: str) -> dict[str, Any]:
        """One object. Raises httpx errors."""
        return self._read(self.client.get(path))

    def post(self, path: str, values: dict[str, Any]) -> dict[str, Any]:
        """Create or change an object. Raises httpx errors."""
        return self._read(self.client.post(path, data=form(values)))

    @staticmethod
    def _read(response: httpx.Response) -> dict[str, Any]:
        if response.is_error:
            raise RuntimeError(f"{response.request.url.path}: {response.text[:500]}")
        found: dict[str, Any] = response.json()
        return found

    def account(self) -> str:
        """Id of the account that the key belongs to."""
        return str(self.get("/v1/account")["id"])

    def customer(self, reference: str, tenant: str) -> str:
        """A new customer's id."""
        values = {"name": reference, "metadata": {"customerRef": reference, "tenant": tenant}}
        return str(self.post("/v1/customers", values)["id"])

    def metered_price(self, metric: DemoMetric, *, event_name: str) -> str:
        """A meter for the metric and a monthly price on it; the price's id."""
        meter = self.post(
            "/v1/billing/meters",
            {
                "display_name": metric.description,
                "event_name": event_name,
                "default_aggregation": {"formula": metric.formula},
            },
        )
        product = self.post("/v1/products", {"name": metric.description})
        price = self.post(
            "/v1/prices",
            {
                "currency": "usd",
                "product": product["id"],
                "nickname": metric.name,
                "recurring": {"interval": "month", "usage_type": "metered", "meter": meter["id"]},
                **metric.price,
            },
        )
        return str(price["id"])

    def subscription(self, customer: str, prices: list[str]) -> str:
        """A subscription of the customer to every price; its id."""
        items = [{"price": price} for price in prices]
        values = {"customer": customer, "items": items}
        return str(self.post("/v1/subscriptions", values)["id"])
