"""`/v1/prices`: per unit, tiers, `transform_quantity`, `currency_options`, meters."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from billing.stripe_sandbox.answers import (
    answer,
    created_filter,
    emit,
    equal_filter,
    merged_metadata,
    page,
)
from billing.stripe_sandbox.engine import Call, Sandbox, new_id
from billing.stripe_sandbox.errors import Failure, missing_param
from billing.stripe_sandbox.resources.products import new_product
from billing.stripe_sandbox.routing import route
from billing.stripe_sandbox.store import Doc

DECIMAL_PLACES_MAX = 12
"""Places of `unit_amount_decimal` (SPEC: at most 12 decimal places)."""

LEGACY_VERSION = "2025-02-24.acacia"
"""The last API version that makes metered prices without a meter."""


def _amounts(params: dict[str, Any], name: str, where: str = "") -> tuple[int | None, str | None]:
    """Returns (`<name>`, `<name>_decimal`): both when an integer, else only the decimal."""
    decimal_name = f"{name}_decimal"
    if name in params and decimal_name in params:
        raise Failure(
            f"You may only specify one of these parameters: {name}, {decimal_name}.", param=name
        )
    if name in params:
        return int(params[name]), str(params[name])
    if decimal_name not in params:
        return None, None
    text = str(params[decimal_name])
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise Failure(f"Invalid decimal: {text}", param=where + decimal_name) from None
    exponent = amount.as_tuple().exponent
    if not isinstance(exponent, int) or -exponent > DECIMAL_PLACES_MAX:
        raise Failure(
            f"Invalid decimal: {text}; must contain at maximum {DECIMAL_PLACES_MAX} decimal "
            "places.",
            param=where + decimal_name,
        )
    plain = format(amount, "f")
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    return (int(amount), plain) if amount == amount.to_integral_value() else (None, plain)


def _tier(params: dict[str, Any], index: int) -> Doc:
    """Returns one tier as Stripe answers it: `up_to` null stands for "inf"."""
    where = f"tiers[{index}]."
    unit, unit_decimal = _amounts(params, "unit_amount", where)
    flat, flat_decimal = _amounts(params, "flat_amount", where)
    if unit_decimal is None and flat_decimal is None:
        raise Failure(
            "Each tier must have at least one of `unit_amount` or `flat_amount` set.",
            param=f"tiers[{index}]",
        )
    up_to = params.get("up_to")
    if up_to is None:
        raise missing_param(f"tiers[{index}][up_to]")
    return {
        "flat_amount": flat,
        "flat_amount_decimal": flat_decimal,
        "unit_amount": unit,
        "unit_amount_decimal": unit_decimal,
        "up_to": None if up_to == "inf" else int(up_to),
    }


def _tiers(rows: list[dict[str, Any]]) -> list[Doc]:
    """Returns the tiers, checked to rise and to end in "inf"."""
    tiers = [_tier(row, index) for index, row in enumerate(rows)]
    if not tiers or tiers[-1]["up_to"] is not None:
        raise Failure("The last tier must have `up_to` set to `inf`.", param="tiers")
    bounds = [tier["up_to"] for tier in tiers[:-1]]
    if None in bounds or bounds != sorted(set(bounds)) or any(bound <= 0 for bound in bounds):
        raise Failure("`up_to` must be ascending over the tiers.", param="tiers")
    return tiers


def _scheme(params: dict[str, Any]) -> Doc:
    """Returns the fields of the billing scheme, with its contradictions refused."""
    if params.get("billing_scheme") == "tiered" or "tiers" in params:
        if "tiers" not in params:
            raise missing_param("tiers")
        if "tiers_mode" not in params:
            raise missing_param("tiers_mode")
        if "transform_quantity" in params:
            raise Failure(
                "`transform_quantity` cannot be combined with `tiers`.",
                param="transform_quantity",
            )
        return {
            "billing_scheme": "tiered",
            "tiers": _tiers(params["tiers"]),
            "tiers_mode": params["tiers_mode"],
            "transform_quantity": None,
            "unit_amount": None,
            "unit_amount_decimal": None,
        }
    unit, unit_decimal = _amounts(params, "unit_amount")
    if unit_decimal is None and "custom_unit_amount" not in params:
        raise missing_param("unit_amount")
    return {
        "billing_scheme": "per_unit",
        "tiers_mode": None,
        "transform_quantity": params.get("transform_quantity"),
        "unit_amount": unit,
        "unit_amount_decimal": unit_decimal,
    }


def _currency_option(params: dict[str, Any]) -> Doc:
    """Returns the amounts of one currency of `currency_options`."""
    unit, unit_decimal = _amounts(params, "unit_amount")
    option: Doc = {
        "custom_unit_amount": None,
        "tax_behavior": params.get("tax_behavior", "unspecified"),
        "unit_amount": unit,
        "unit_amount_decimal": unit_decimal,
    }
    if "tiers" in params:
        option["tiers"] = _tiers(params["tiers"])
    return option


def _recurring(sandbox: Sandbox, call: Call) -> Doc | None:
    """Returns the `recurring` object; metered prices need a meter since basil."""
    asked = call.params.get("recurring")
    if not asked:
        return None
    usage_type = asked.get("usage_type", "licensed")
    meter = asked.get("meter")
    if meter:
        if usage_type != "metered":
            raise Failure(
                "`recurring[meter]` needs `recurring[usage_type]=metered`.",
                param="recurring[meter]",
            )
        found = sandbox.find(call.world, "meter", meter, param="recurring[meter]")
        if found["status"] != "active":
            raise Failure(f"The meter {meter} is not active.", param="recurring[meter]")
    elif usage_type == "metered" and call.version > LEGACY_VERSION:
        raise Failure(
            "Starting with Stripe version 2025-03-31.basil, metered prices must be backed by "
            "meters. Please provide `recurring[meter]`.",
            param="recurring[meter]",
        )
    recurring: Doc = {
        "interval": asked["interval"],
        "interval_count": asked.get("interval_count", 1),
        "meter": meter,
        "trial_period_days": None,
        "usage_type": usage_type,
    }
    if call.version <= LEGACY_VERSION:
        recurring["aggregate_usage"] = "sum" if usage_type == "metered" and not meter else None
    return recurring


def _product_id(sandbox: Sandbox, call: Call) -> str:
    """Returns the product, made from `product_data` when that was sent."""
    params = call.params
    if "product_data" in params:
        if "product" in params:
            raise Failure(
                "You may only specify one of these parameters: product, product_data.",
                param="product",
            )
        product = new_product(sandbox, call.world, params["product_data"])
        emit(sandbox, call.world, "product.created", "product", product, call=call)
        return str(product["id"])
    if "product" not in params:
        raise missing_param("product")
    return str(sandbox.find(call.world, "product", params["product"], param="product")["id"])


@route("POST", "/v1/prices")
def create(sandbox: Sandbox, call: Call) -> Doc:
    """Creates a price. Amounts, tiers and transformation are fixed for good."""
    params = call.params
    scheme = _scheme(params)
    recurring = _recurring(sandbox, call)
    options = {
        currency: _currency_option(option)
        for currency, option in params.get("currency_options", {}).items()
    }
    _take_lookup_key(sandbox, call)
    doc: Doc = {
        "id": new_id("price"),
        "object": "price",
        "active": params.get("active", True),
        "created": sandbox.clock.seconds(),
        "currency": params["currency"].lower(),
        "custom_unit_amount": None,
        "livemode": call.world.livemode,
        "lookup_key": params.get("lookup_key"),
        "metadata": merged_metadata({}, params.get("metadata")),
        "nickname": params.get("nickname"),
        "product": _product_id(sandbox, call),
        "recurring": recurring,
        "tax_behavior": params.get("tax_behavior", "unspecified"),
        "type": "recurring" if recurring else "one_time",
        **scheme,
    }
    own: Doc = {"unit_amount": doc["unit_amount"], "tax_behavior": doc["tax_behavior"]}
    own |= {"unit_amount_decimal": doc["unit_amount_decimal"], "custom_unit_amount": None}
    if "tiers" in doc:
        own["tiers"] = doc["tiers"]
    doc["currency_options"] = {doc["currency"]: own} | options
    sandbox.store.put(call.world.name, "price", doc)
    emit(sandbox, call.world, "price.created", "price", doc, call=call)
    return answer(sandbox, call, "price", doc)


def _take_lookup_key(sandbox: Sandbox, call: Call) -> None:
    """Moves a lookup key here when asked to, or refuses one that is in use."""
    key = call.params.get("lookup_key")
    if not key:
        return
    for price in sandbox.store.all(call.world.name, "price"):
        if price["lookup_key"] == key and price["id"] != call.args.get("price"):
            if not call.params.get("transfer_lookup_key"):
                raise Failure(
                    f"A price (`{price['id']}`) already uses that lookup key.",
                    param="lookup_key",
                )
            sandbox.store.put(call.world.name, "price", price | {"lookup_key": None})


@route("GET", "/v1/prices")
def index(sandbox: Sandbox, call: Call) -> Doc:
    """Lists prices, newest first."""
    docs = created_filter(call, sandbox.store.all(call.world.name, "price"))
    docs = equal_filter(call, docs, "active", "currency", "product", "type")
    keys = call.params.get("lookup_keys")
    if keys:
        docs = [doc for doc in docs if doc["lookup_key"] in keys]
    recurring = call.params.get("recurring") or {}
    docs = [
        doc
        for doc in docs
        if all((doc["recurring"] or {}).get(name) == value for name, value in recurring.items())
    ]
    return page(sandbox, call, "price", docs)


@route("GET", "/v1/prices/{price}")
def show(sandbox: Sandbox, call: Call) -> Doc:
    """Returns a price; `tiers` and `currency_options` only with `expand[]`."""
    return answer(sandbox, call, "price", sandbox.find(call.world, "price", call.args["price"]))


@route("POST", "/v1/prices/{price}")
def update(sandbox: Sandbox, call: Call) -> Doc:
    """Changes what may change: activity, names, metadata and `currency_options`."""
    old = sandbox.find(call.world, "price", call.args["price"])
    params = call.params
    _take_lookup_key(sandbox, call)
    changes: Doc = {
        name: params[name]
        for name in ("active", "lookup_key", "nickname", "tax_behavior")
        if name in params
    }
    if "metadata" in params:
        changes["metadata"] = merged_metadata(old["metadata"], params["metadata"])
    if "currency_options" in params:
        changed = {
            currency: _currency_option(option)
            for currency, option in (params["currency_options"] or {}).items()
        }
        changes["currency_options"] = old["currency_options"] | changed
    previous = {name: old[name] for name in changes if name != "currency_options"}
    doc = sandbox.store.put(call.world.name, "price", old | changes)
    emit(sandbox, call.world, "price.updated", "price", doc, previous=previous, call=call)
    return answer(sandbox, call, "price", doc)
