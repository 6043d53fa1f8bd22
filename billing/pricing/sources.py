"""Prices from elsewhere: the predecessor's PriceConfig (major units) and Stripe's Price object."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from math import inf
from typing import Any, Final

from billing.pricing.compat import COMPAT_EXPONENT
from billing.pricing.currencies import currency_code, currency_exponent
from billing.pricing.errors import (
    InvalidCurrency,
    InvalidField,
    MissingField,
    MissingTiers,
    OutOfRange,
    UnknownModel,
)
from billing.pricing.models import (
    TIERED_MODELS,
    TIERS_MAX,
    Model,
    Price,
    Rounding,
    RuleSet,
    TaxBehavior,
    Tier,
    TransformQuantity,
)
from billing.pricing.numbers import ONE, ZERO, not_negative, plain, scale
from billing.pricing.reading import Fields, at

_CONFIG_FIELDS: Final = frozenset(
    {
        "model",
        "currency",
        "tiers",
        "unit_price",
        "package_size",
        "round",
        "minimum_charge",
        "maximum_charge",
        "tax_behavior",
    }
)
_TIER_FIELDS: Final = frozenset({"up_to", "unit_price", "flat_price"})


def exponent_for(currency: str, rules: RuleSet) -> int:
    """Places of a minor unit: the currency's own, or always two under the compat rules."""
    return COMPAT_EXPONENT if rules is RuleSet.COMPAT else currency_exponent(currency)


# -- the predecessor's PriceConfig -----------------------------------------------------------


def price_from_config(value: object, *, rules: RuleSet, path: str = "") -> Price:
    """A Price from a PriceConfig document (camelCase or snake_case, amounts in major units).

    `round` (up, down) extends package prices. Errors name the field by its path.
    """
    fields = Fields(value, path, _CONFIG_FIELDS)
    model = _model(fields)
    currency = _currency(fields, rules)
    exponent = exponent_for(currency, rules)
    tiers = _config_tiers(fields, model, exponent)
    minimum, maximum = fields.amount("minimum_charge"), fields.amount("maximum_charge")
    with at(path):
        return Price(
            model=model,
            currency=currency,
            exponent=exponent,
            unit_amount=ZERO if tiers else scale(_unit_price(fields), exponent),
            tiers=tiers,
            transform=_transform(fields, model, rules),
            minimum=None if minimum is None else scale(minimum, exponent),
            maximum=None if maximum is None else scale(maximum, exponent),
            tax_behavior=_tax_behavior(fields),
        )


def _model(fields: Fields) -> Model:
    value = fields.require("model")
    try:
        return Model(value)  # type: ignore[arg-type]
    except ValueError:
        listed = ", ".join(model.value for model in Model)
        raise UnknownModel(f"must be one of {listed}", path=fields.path_of("model")) from None


def _currency(fields: Fields, rules: RuleSet) -> str:
    """Required under Stripe's rules; the predecessor falls back to USD."""
    if rules is RuleSet.COMPAT and not fields.has("currency"):
        return "USD"
    return currency_code(fields.require("currency"), path=fields.path_of("currency"))


def _tax_behavior(fields: Fields) -> TaxBehavior | None:
    if not fields.has("tax_behavior"):
        return None
    return fields.choice("tax_behavior", TaxBehavior, TaxBehavior.EXCLUSIVE)


def _unit_price(fields: Fields) -> Decimal:
    return fields.require_amount("unit_price")


def _config_tiers(fields: Fields, model: Model, exponent: int) -> tuple[Tier, ...]:
    members = fields.items("tiers", at_most=TIERS_MAX)
    if model not in TIERED_MODELS:
        if members:
            raise InvalidField(f"a {model} price has no tiers", path=fields.path_of("tiers"))
        return ()
    if not members:
        raise MissingTiers("must list at least one tier", path=fields.path_of("tiers"))
    if fields.amount("unit_price"):
        raise InvalidField(
            "a tiered price takes its prices from its tiers", path=fields.path_of("unit_price")
        )
    return tuple(_config_tier(item, path, exponent) for path, item in members)


def _config_tier(value: object, path: str, exponent: int) -> Tier:
    fields = Fields(value, path, _TIER_FIELDS)
    unit, flat = fields.amount("unit_price"), fields.amount("flat_price")
    if unit is None and flat is None:
        raise MissingField("is required", path=fields.path_of("unit_price"))
    return Tier(
        up_to=_bound(fields.get("up_to"), fields.path_of("up_to")),
        unit_amount=scale(unit or ZERO, exponent),
        flat_amount=scale(flat or ZERO, exponent),
    )


def _bound(value: object, path: str) -> Decimal | None:
    """A tier's end; null, `inf` and an infinite number all mean that it has none."""
    if value is None or value == "inf" or (isinstance(value, float) and value == inf):
        return None
    return not_negative(value, path)


def _transform(fields: Fields, model: Model, rules: RuleSet) -> TransformQuantity | None:
    """Package size; 0 or absent means 1 in the predecessor, and is refused under Stripe's rules."""
    size = fields.amount("package_size")
    if model is not Model.PACKAGE:
        if size:
            raise InvalidField(
                "only a package price has a package size", path=fields.path_of("package_size")
            )
        return None
    if not size:
        if rules is RuleSet.STRIPE:
            raise OutOfRange("must be greater than zero", path=fields.path_of("package_size"))
        size = ONE
    return TransformQuantity(size, fields.choice("round", Rounding, Rounding.UP))


# -- Stripe's Price object -------------------------------------------------------------------


def price_from_stripe(price: Any, *, currency: str | None = None) -> Price:
    """A Price from Stripe's Price object, in its own currency or one of its options.

    Takes a mapping, or the SDK's object (which is none: it has `to_dict`).

    The object must be retrieved with `expand=["tiers", "currency_options.<cur>.tiers"]`: Stripe
    leaves both out otherwise (stripe API specification), which raises MissingTiers here rather
    than pricing at nothing.
    """
    if not isinstance(price, Mapping):
        if not hasattr(price, "to_dict"):
            raise InvalidField("must be a Stripe Price object")
        price = price.to_dict()
    own = currency_code(price.get("currency"))
    wanted = own if currency is None else currency_code(currency)
    amounts = price if wanted == own else _currency_option(price, wanted)
    behavior = amounts.get("tax_behavior") or price.get("tax_behavior")
    common: dict[str, Any] = {
        "currency": wanted,
        "exponent": currency_exponent(wanted),
        "tax_behavior": TaxBehavior(behavior) if behavior in list(TaxBehavior) else None,
        "price_id": str(price.get("id") or ""),
    }
    scheme = price.get("billing_scheme") or "per_unit"
    if scheme == "tiered":
        return Price(model=_tiers_mode(price), tiers=_stripe_tiers(amounts), **common)
    if scheme != "per_unit":
        raise UnknownModel("must be per_unit or tiered", path="billing_scheme")
    transform = _stripe_transform(price.get("transform_quantity"))
    return Price(
        model=Model.FLAT if transform is None else Model.PACKAGE,
        unit_amount=_required_stripe_amount(amounts, "unit_amount", "unit_amount"),
        transform=transform,
        **common,
    )


def _currency_option(price: Mapping[str, Any], wanted: str) -> Mapping[str, Any]:
    options = price.get("currency_options") or {}
    option = options.get(wanted.lower())
    if not isinstance(option, Mapping):
        raise InvalidCurrency(
            f"the price has no amounts in {wanted}", path=f"currency_options.{wanted.lower()}"
        )
    return option


def _tiers_mode(price: Mapping[str, Any]) -> Model:
    mode = price.get("tiers_mode")
    if mode not in ("graduated", "volume"):
        raise UnknownModel("must be graduated or volume", path="tiers_mode")
    return Model(mode)


def _stripe_tiers(amounts: Mapping[str, Any]) -> tuple[Tier, ...]:
    tiers = amounts.get("tiers")
    if not tiers:
        raise MissingTiers("is missing; retrieve the price with expand[]=tiers", path="tiers")
    read = []
    for index, tier in enumerate(tiers):
        path = f"tiers[{index}]"
        unit = _stripe_amount(tier, "unit_amount", path)
        flat = _stripe_amount(tier, "flat_amount", path)
        if unit is None and flat is None:
            raise MissingField("needs a unit amount or a flat amount", path=path)
        bound = _bound(tier.get("up_to"), f"{path}.up_to")
        read.append(Tier(up_to=bound, unit_amount=unit or ZERO, flat_amount=flat or ZERO))
    return tuple(read)


def _stripe_amount(holder: Mapping[str, Any], name: str, path: str) -> Decimal | None:
    """`<name>_decimal` where present (it is exact), else the integer `<name>`."""
    for key in (f"{name}_decimal", name):
        value = holder.get(key)
        if value is not None:
            return not_negative(value, f"{path}.{key}" if path else key)
    return None


def _required_stripe_amount(holder: Mapping[str, Any], name: str, path: str) -> Decimal:
    amount = _stripe_amount(holder, name, "")
    if amount is None:
        raise MissingField("has no fixed amount (custom amounts cannot be rated)", path=path)
    return amount


def _stripe_transform(value: Mapping[str, Any] | None) -> TransformQuantity | None:
    if not value:
        return None
    divide_by = not_negative(value.get("divide_by"), "transform_quantity.divide_by")
    try:
        direction = Rounding(value.get("round"))  # type: ignore[arg-type]
    except ValueError:
        raise InvalidField("must be up or down", path="transform_quantity.round") from None
    return TransformQuantity(divide_by, direction)


def stripe_price_params(price: Price) -> dict[str, Any]:
    """The amount part of `POST /v1/prices` for a Price: for licensed twins and local design work.

    Plain decimal strings; the last tier is `inf`. Minimum and maximum have no place at Stripe and
    raise InvalidField, so that nobody takes the twin for the whole price.
    """
    if price.minimum is not None or price.maximum is not None:
        raise InvalidField("Stripe prices have no minimum or maximum charge", path="minimumCharge")
    params: dict[str, Any] = {"currency": price.currency.lower()}
    if price.model in TIERED_MODELS:
        mode = "volume" if price.model is Model.VOLUME else "graduated"
        return params | {
            "billing_scheme": "tiered",
            "tiers_mode": mode,
            "tiers": [_tier_params(tier) for tier in price.tiers],
        }
    params |= {"billing_scheme": "per_unit", "unit_amount_decimal": plain(price.unit_amount)}
    if price.transform is not None:
        params["transform_quantity"] = {
            "divide_by": int(price.transform.divide_by),
            "round": price.transform.round.value,
        }
    return params


def _tier_params(tier: Tier) -> dict[str, Any]:
    params: dict[str, Any] = {
        "up_to": "inf" if tier.up_to is None else int(tier.up_to),
        "unit_amount_decimal": plain(tier.unit_amount),
    }
    if tier.flat_amount:
        params["flat_amount_decimal"] = plain(tier.flat_amount)
    return params
