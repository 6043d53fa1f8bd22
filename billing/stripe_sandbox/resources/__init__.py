"""Handlers by resource. Importing this package fills the routing table."""

from billing.stripe_sandbox.resources import (
    account,
    customers,
    events,
    invoices,
    meter_events,
    meters,
    prices,
    products,
    subscription_items,
    subscriptions,
    summaries,
)

__all__ = [
    "account",
    "customers",
    "events",
    "invoices",
    "meter_events",
    "meters",
    "prices",
    "products",
    "subscription_items",
    "subscriptions",
    "summaries",
]
