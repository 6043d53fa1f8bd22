"""Loads the demo: through the public API alone, so that the demo proves the API."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from stripemeter.demo.catalog import DemoMetric, DemoTenant
from stripemeter.demo.stripe_side import StripeSide
from stripemeter.demo.traffic import traffic
from stripemeter.lib import strictjson

Say = Callable[[str], None]


class DemoProblem(Exception):
    """The demo cannot be loaded; the message says why."""


@dataclass(frozen=True, slots=True)
class Api:
    """The service's API for one tenant."""

    client: httpx.Client
    tenant: str

    @classmethod
    def connect(cls, url: str, tenant: str, key: str) -> "Api":
        """A client that authenticates with an API key of the tenant."""
        headers = {"Authorization": f"Bearer {key}"}
        return cls(
            httpx.Client(base_url=url, headers=headers, timeout=120, trust_env=False), tenant
        )

    def __enter__(self) -> "Api":
        """Itself; leaving closes its connections."""
        return self

    def __exit__(self, *_problem: object) -> None:
        self.client.close()

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer's JSON. Raises `DemoProblem` for any refusal but 409 (it is there)."""
        content = None if body is None else strictjson.dumps(body)
        headers = {"Content-Type": "application/json"}
        response = self.client.request(method, path, content=content, headers=headers)
        if response.is_error and response.status_code != 409:
            raise DemoProblem(f"{method} {path}: {response.status_code} {response.text[:500]}")
        return response.json() if response.content else None


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads one tenant."""

    api: Api
    tenant: DemoTenant
    live: StripeSide
    test: StripeSide | None
    say: Say

    def load(self, *, now: datetime) -> int:
        """Set the tenant up at Stripe and here, then send its traffic; events accepted."""
        prices = self._meters_and_mappings()
        self._customers(list(prices.values()))
        return self._traffic(now)

    def _event_name(self, metric: DemoMetric) -> str:
        # One event name belongs to one meter of an account, which both tenants share here.
        return f"{self.tenant.key}_{metric.name}"

    def _meters_and_mappings(self) -> dict[str, str]:
        account = self.live.account()
        prices: dict[str, str] = {}
        for metric in self.tenant.metrics:
            self._configure(metric)
            event_name = self._event_name(metric)
            price = prices[metric.name] = self.live.metered_price(metric, event_name=event_name)
            if metric.aggregation == "min":
                continue  # watched, not billed: an unmapped metric for the operator to see
            mapping: dict[str, Any] = {
                "tenantId": self.tenant.key,
                "metric": metric.name,
                "aggregation": metric.aggregation,
                "stripeAccount": account,
                "priceId": price,
                "currency": "usd",
                "stripeMeterEventName": event_name,
                "pushSemantics": metric.push_semantics,
            }
            if self.test is not None and metric.name in self.tenant.shadow:
                mapping |= {
                    "shadow": True,
                    "shadowStripeAccount": self.test.account(),
                    "shadowPriceId": self.test.metered_price(metric, event_name=event_name),
                }
            self.api.call("POST", "/v1/mappings", mapping)
        self.say(f"{self.tenant.key}: {len(prices)} metrics, meters, prices and mappings")
        return prices

    def _configure(self, metric: DemoMetric) -> None:
        self.api.call(
            "POST",
            "/v1/metrics",
            {
                "name": metric.name,
                "aggregation": metric.aggregation,
                "uniqueField": metric.unique_field,
                "unit": metric.unit,
                "description": metric.description,
            },
        )

    def _customers(self, prices: list[str]) -> None:
        for reference in self.tenant.customers:
            customer = self.live.customer(reference, self.tenant.key)
            self.live.subscription(customer, prices)
            self._link(reference, customer, "live")
            if self.test is not None and self.tenant.shadow:
                self._link(reference, self.test.customer(reference, self.tenant.key), "test")
        self.say(f"{self.tenant.key}: {len(self.tenant.customers)} customers with subscriptions")

    def _link(self, reference: str, customer: str, mode: str) -> None:
        body = {"customerRef": reference, "stripeCustomerId": customer, "mode": mode}
        self.api.call("POST", "/v1/customers", body)

    def _traffic(self, now: datetime) -> int:
        sent = traffic(self.tenant, now=now)
        accepted = duplicates = 0
        for number, batch in enumerate(sent.batches):
            # A batch in `retried` goes out twice, as a client does whose answer was lost.
            for _ in range(2 if number in sent.retried else 1):
                answer = self.api.call("POST", "/v1/events/ingest", {"events": batch})
                accepted += answer["accepted"]
                duplicates += answer["duplicates"]
        self.say(
            f"{self.tenant.key}: {accepted:,} events accepted, {duplicates:,} retried ones "
            "recognised as duplicates"
        )
        return accepted
