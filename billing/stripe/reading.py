"""Reads single objects and lists back from Stripe, as plain dictionaries.

Every id is checked before it enters a URL. All functions raise `StripeUnavailable` (later)
or `StripeRefused` (never).
"""

import re
from collections.abc import Iterator
from datetime import datetime
from math import ceil
from typing import Any

from django.conf import settings

from billing.stripe.client import client_for, options_for, secret_key
from billing.stripe.errors import StripeRefused, all_rows, pages, reading

PAGE_ROWS = 100
PAGES_MAX = 50
_ID = re.compile(r"[A-Za-z0-9_]{1,255}", re.ASCII)


def _checked(identifier: str) -> str:
    if not _ID.fullmatch(identifier):
        raise StripeRefused("not an id of Stripe", http_status=None, code="invalid_id")
    return identifier


_own_accounts: dict[tuple[str, str], str] = {}


def own_account(*, mode: str) -> str:
    """Id of the account that the mode's key belongs to; asked once per key and address."""
    client = client_for(mode)
    known = (secret_key(mode), settings.STRIPE_API_BASE)
    if known not in _own_accounts:
        found: Any = reading(client.v1.accounts.retrieve_current)
        _own_accounts[known] = str(found.id)
    return _own_accounts[known]


def invoice(*, mode: str, account: str, invoice_id: str) -> dict[str, Any]:
    """The invoice with all of its lines under ``lines.data``."""
    client, options = client_for(mode), options_for(account)
    found: dict[str, Any] = reading(
        client.v1.invoices.retrieve, _checked(invoice_id), {}, options
    ).to_dict()
    if found.get("lines", {}).get("has_more"):
        found["lines"]["data"] = all_rows(
            client.v1.invoices.line_items.list,
            invoice_id,
            params={"limit": PAGE_ROWS},
            options=options,
            pages_max=PAGES_MAX,
        )
    return found


def subscription(*, mode: str, account: str, subscription_id: str) -> dict[str, Any]:
    """The subscription with its items under ``items.data``."""
    found: dict[str, Any] = reading(
        client_for(mode).v1.subscriptions.retrieve,
        _checked(subscription_id),
        {},
        options_for(account),
    ).to_dict()
    return found


def subscriptions(*, mode: str, account: str) -> list[dict[str, Any]]:
    """All subscriptions that have not ended, newest first."""
    found = pages(
        client_for(mode).v1.subscriptions.list,
        params={"limit": PAGE_ROWS},
        options=options_for(account),
    )
    return [row for rows in found for row in rows]


def thin_event(*, mode: str, account: str, event_id: str) -> dict[str, Any]:
    """A v2 event with its data; Stripe keeps them for 30 days."""
    found: dict[str, Any] = reading(
        client_for(mode).v2.core.events.retrieve, _checked(event_id), {}, options_for(account)
    ).to_dict()
    return found


def events_between(
    *, mode: str, account: str, since: datetime, until: datetime
) -> Iterator[list[dict[str, Any]]]:
    """Snapshot events created in [since, until), in whole seconds: page by page, newest first."""
    return pages(
        client_for(mode).v1.events.list,
        params={
            "created": {"gte": int(since.timestamp()), "lt": ceil(until.timestamp())},
            "limit": PAGE_ROWS,
        },
        options=options_for(account),
    )


#: What the mirror's kinds are called at Stripe, and what must be expanded to be whole.
_EXPANSIONS: dict[str, list[str]] = {"price": ["tiers", "currency_options"]}


def retrieve(*, mode: str, account: str, kind: str, object_id: str) -> dict[str, Any]:
    """One object of a kind that the mirror knows, or a meter, whole."""
    v1 = client_for(mode).v1
    if kind == "invoice":
        return invoice(mode=mode, account=account, invoice_id=object_id)
    services: dict[str, Any] = {
        "customer": v1.customers,
        "product": v1.products,
        "price": v1.prices,
        "subscription": v1.subscriptions,
        "dispute": v1.disputes,
        "meter": v1.billing.meters,
    }
    params = {"expand": _EXPANSIONS[kind]} if kind in _EXPANSIONS else {}
    found: dict[str, Any] = reading(
        services[kind].retrieve, _checked(object_id), params, options_for(account)
    ).to_dict()
    return found


def each(*, mode: str, account: str, kind: str) -> Iterator[list[dict[str, Any]]]:
    """Every object of a kind that the mirror knows, page by page, newest first."""
    v1 = client_for(mode).v1
    services: dict[str, Any] = {
        "customer": v1.customers,
        "product": v1.products,
        "price": v1.prices,
        "subscription": v1.subscriptions,
        "invoice": v1.invoices,
        "dispute": v1.disputes,
    }
    params: dict[str, Any] = {"limit": PAGE_ROWS}
    if kind in _EXPANSIONS:
        params["expand"] = [f"data.{name}" for name in _EXPANSIONS[kind]]
    if kind == "subscription":
        params["status"] = "all"
    yield from pages(services[kind].list, params=params, options=options_for(account))
