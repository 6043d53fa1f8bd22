"""Objects that most tests need, made through the SDK."""

from typing import Any

import stripe


def make_meter(client: stripe.StripeClient, **fields: Any) -> Any:
    """Makes a `sum` meter with event name "api_calls"."""
    formula = fields.pop("formula", "sum")
    params = {"display_name": "API calls", "event_name": "api_calls"} | fields
    return client.v1.billing.meters.create({**params, "default_aggregation": {"formula": formula}})


def make_customer(client: stripe.StripeClient, **fields: Any) -> str:
    """Makes a customer and returns its id."""
    return client.v1.customers.create({"email": "someone@example.com", **fields}).id


def make_price(client: stripe.StripeClient, meter: str | None = None, **fields: Any) -> Any:
    """Makes a price of 5 cents a unit, monthly; metered when a meter is given."""
    product = fields.pop("product", None) or client.v1.products.create({"name": "Usage"}).id
    recurring: dict[str, Any] = fields.pop("recurring", {"interval": "month"})
    if meter:
        recurring |= {"usage_type": "metered", "meter": meter}
    if "tiers" not in fields and "unit_amount_decimal" not in fields:
        fields.setdefault("unit_amount", 5)
    return client.v1.prices.create(
        {"currency": "usd", "product": product, "recurring": recurring, **fields}
    )


def send(client: stripe.StripeClient, customer: str, value: str, **fields: Any) -> Any:
    """Sends one meter event; `key=` sets the Idempotency-Key."""
    key = fields.pop("key", None)
    options = {"idempotency_key": key} if key else {}
    payload = {"stripe_customer_id": customer, "value": value}
    params = {"event_name": "api_calls", "payload": payload} | fields
    return client.v1.billing.meter_events.create(params, options)


def summaries(
    client: stripe.StripeClient, meter: str, customer: str, start: int, end: int, **fields: Any
) -> Any:
    """Reads the summaries of a customer."""
    return client.v1.billing.meters.event_summaries.list(
        meter, {"customer": customer, "start_time": start, "end_time": end, **fields}
    )


def total(client: stripe.StripeClient, meter: str, customer: str, now: float) -> float:
    """Reads the sum of the last 30 days up to now, as Stripe gives it: a float."""
    end = int(now) // 60 * 60 + 600
    found = summaries(client, meter, customer, end - 40 * 86_400, end)
    return float(found.data[0].aggregated_value)
