"""What a case of the behaviour table works with, and where cases are kept."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import stripe

DAY = 86_400
HOUR = 3_600
SETTLE_SECONDS_MAX = 300


@dataclass
class Account:
    """What a case works with: the SDK, the time, and whether this is real Stripe."""

    client: stripe.StripeClient
    sandbox: Any = None
    meters: list[str] = field(default_factory=list)
    subscriptions: list[str] = field(default_factory=list)

    def now(self) -> int:
        return int(self.sandbox.now() if self.sandbox else time.time())

    def meter(self, formula: str = "sum", **fields: Any) -> Any:
        name = f"behaviour_{uuid.uuid4().hex[:16]}"
        params = {"display_name": name, "event_name": name} | fields
        meter = self.client.v1.billing.meters.create(
            {**params, "default_aggregation": {"formula": formula}}
        )
        self.meters.append(meter.id)
        return meter

    def customer(self, **fields: Any) -> str:
        return self.client.v1.customers.create(fields).id

    def price(self, **fields: Any) -> str:
        params = {"currency": "usd", "product_data": {"name": "Behaviour"}}
        params["recurring"] = {"interval": "month"}
        return self.client.v1.prices.create({**params, **fields}).id

    def metered_price(self, meter: Any, **fields: Any) -> str:
        recurring = {"interval": "month", "usage_type": "metered", "meter": meter.id}
        return self.price(recurring=recurring, **{"unit_amount": 10, **fields})

    def subscribe(self, customer: str, price: str, **fields: Any) -> Any:
        params = {"customer": customer, "items": [{"price": price}], **fields}
        params.setdefault("collection_method", "send_invoice")
        params.setdefault("days_until_due", 30)
        subscription = self.client.v1.subscriptions.create(params)
        self.subscriptions.append(subscription.id)
        return subscription

    def send(self, meter: Any, customer: str, value: str, **fields: Any) -> Any:
        key = fields.pop("key", None)
        payload = {"stripe_customer_id": customer, "value": value}
        params = {"event_name": meter.event_name, "payload": payload} | fields
        return self.client.v1.billing.meter_events.create(
            params, {"idempotency_key": key} if key else {}
        )

    def summaries(self, meter: Any, customer: str, start: int, end: int, **fields: Any) -> Any:
        params = {"customer": customer, "start_time": start, "end_time": end, **fields}
        return self.client.v1.billing.meters.event_summaries.list(meter.id, params).data

    def total(self, meter: Any, customer: str) -> float:
        end = self.now() // 60 * 60 + 600
        return self.summaries(meter, customer, end - 36 * DAY // 60 * 60, end)[0].aggregated_value

    def settled(self, expected: float, meter: Any, customer: str) -> None:
        """Asserts a sum; real Stripe gets time, since its summaries trail."""
        deadline = time.monotonic() + (0 if self.sandbox else SETTLE_SECONDS_MAX)
        while (found := self.total(meter, customer)) != expected:
            assert time.monotonic() < deadline, f"{found} is not {expected}"
            time.sleep(5)

    def preview(self, price: str, quantity: int) -> Any:
        items = [{"price": price, "quantity": quantity}]
        return self.client.v1.invoices.create_preview(
            {"customer": self.customer(), "subscription_details": {"items": items}}
        )

    def refused(self, call: Callable[[], Any], status: int = 400) -> stripe.StripeError:
        with pytest.raises(stripe.StripeError) as caught:
            call()
        assert caught.value.http_status == status
        return caught.value


Case = Callable[[Account], None]
CASES: dict[str, Case] = {}


def case(identifier: str) -> Callable[[Case], Case]:
    def register(function: Case) -> Case:
        CASES[identifier] = function
        return function

    return register
