"""`/v1/account`: who the key belongs to."""

from __future__ import annotations

from billing.stripe_sandbox.engine import Call, Sandbox
from billing.stripe_sandbox.errors import Failure
from billing.stripe_sandbox.routing import route
from billing.stripe_sandbox.store import Doc


def _account(identifier: str) -> Doc:
    return {
        "id": identifier,
        "object": "account",
        "business_profile": {
            "mcc": None,
            "name": "StripeMeter sandbox",
            "product_description": None,
            "support_address": None,
            "support_email": None,
            "support_phone": None,
            "support_url": None,
            "url": None,
        },
        "business_type": None,
        "capabilities": {"card_payments": "active", "transfers": "active"},
        "charges_enabled": True,
        "controller": {"type": "account"},
        "country": "US",
        "created": 1_700_000_000,
        "default_currency": "usd",
        "details_submitted": True,
        "email": "sandbox@example.com",
        "metadata": {},
        "payouts_enabled": True,
        "settings": {
            "branding": {
                "icon": None,
                "logo": None,
                "primary_color": None,
                "secondary_color": None,
            },
            "dashboard": {"display_name": "StripeMeter sandbox", "timezone": "Etc/UTC"},
        },
        "type": "standard",
    }


@route("GET", "/v1/account")
def own_account(sandbox: Sandbox, call: Call) -> Doc:
    """Returns the account of the key, or the connected one of `Stripe-Account`."""
    return _account(call.world.account)


@route("GET", "/v1/accounts/{account}")
def account_by_id(sandbox: Sandbox, call: Call) -> Doc:
    """Returns an account by id; a key sees its own and those it names as connected."""
    identifier = call.args["account"]
    if not identifier.startswith("acct_"):
        raise Failure(f"No such account: '{identifier}'", status=404, code="resource_missing")
    return _account(identifier)
