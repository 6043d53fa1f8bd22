"""Scenario documents: an input for the invoice simulator and what must come out of it.

A document is read strictly: unknown fields, finite last tiers, negative usage and a missing
currency are refused, each with the path of the field. `validate_scenario` lists every issue it
finds; `read_scenario` returns the scenario or raises them together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from billing.pricing.errors import InvalidField, PricingError
from billing.pricing.invoice import Invoice
from billing.pricing.models import TIERED_MODELS, Model, Price, RuleSet
from billing.pricing.numbers import plain
from billing.pricing.reading import Fields, at
from billing.pricing.simulator import (
    INPUT_FIELDS,
    compute_invoice,
    read_invoice_input,
    read_usage_item,
)
from billing.pricing.sources import price_from_config
from billing.pricing.terms import ITEMS_MAX, InvoiceInput, UsageItem
from billing.simulation.assertions import (
    Comparison,
    Expected,
    Tolerances,
    compare,
    read_expected,
    read_tolerances,
)

SCENARIO_FIELDS: Final = frozenset(
    {"metadata", "model", "inputs", "expected", "tolerances", "rules", "version", "tags"}
)
TAGS_MAX: Final = 50
TAG_MAX: Final = 100
VERSION_MAX: Final = 50
METADATA_FIELDS: Final = frozenset({"version", "tags"})
ISSUES_MAX: Final = 100

# How a `model: {reference: ...}` becomes a price document; raises PricingError when it cannot.
Resolver = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing wrong with a document: where, which kind, what."""

    path: str
    code: str
    detail: str

    def text(self) -> str:
        """`inputs.usageItems[0].quantity: must not be negative`."""
        return f"{self.path}: {self.detail}" if self.path else self.detail


class InvalidScenario(PricingError):
    """A document that is no scenario; `issues` holds everything found."""

    code = "invalid_scenario"

    def __init__(self, issues: list[Issue]) -> None:
        super().__init__("; ".join(issue.text() for issue in issues[:5]), path="")
        self.issues = tuple(issues)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario ready to run."""

    name: str
    description: str
    version: str
    tags: tuple[str, ...]
    rules: RuleSet
    given: InvoiceInput
    expected: Expected | None
    tolerances: Tolerances


@dataclass(frozen=True, slots=True)
class Outcome:
    """A scenario run: the invoice and, where something was expected, the comparison."""

    scenario: Scenario
    invoice: Invoice
    comparison: Comparison | None

    @property
    def passed(self) -> bool | None:
        """None when the scenario expects nothing."""
        return None if self.comparison is None else self.comparison.passed

    def result(self) -> dict[str, Any]:
        """The invoice's wire form with the scenario's name: the content of a result file."""
        return {"scenario": self.scenario.name, **self.invoice.as_dict()}


def run_scenario(scenario: Scenario) -> Outcome:
    """Compute the scenario's invoice and compare it with its own expectations."""
    invoice = compute_invoice(scenario.given, scenario.rules)
    comparison = None
    if scenario.expected is not None:
        comparison = compare(scenario.expected, invoice.as_dict(), scenario.tolerances)
    return Outcome(scenario, invoice, comparison)


def read_scenario(
    document: object, *, resolve: Resolver | None = None, expected_required: bool = True
) -> Scenario:
    """A scenario from a document; raises InvalidScenario with every issue found.

    Both the file form (`metadata.name`) and the form of the simulations API (`name` at the top)
    are read. `expected_required` is off for ad hoc runs.
    """
    issues, scenario = _examine(document, resolve, expected_required)
    if issues or scenario is None:
        raise InvalidScenario(issues)
    return scenario


def validate_scenario(
    document: object, *, resolve: Resolver | None = None, expected_required: bool = True
) -> list[Issue]:
    """Everything wrong with a document; empty when it is a scenario."""
    return _examine(document, resolve, expected_required)[0]


class _Collector:
    """Runs readers one by one and keeps what they refuse."""

    def __init__(self) -> None:
        self.issues: list[Issue] = []

    def attempt(self, reader: Callable[..., Any], *args: Any, **more: Any) -> Any:
        try:
            return reader(*args, **more)
        except PricingError as error:
            issue = Issue(error.path, error.code, error.detail)
            if issue not in self.issues and len(self.issues) < ISSUES_MAX:
                self.issues.append(issue)
            return None


def _examine(
    document: object, resolve: Resolver | None, expected_required: bool
) -> tuple[list[Issue], Scenario | None]:
    collect = _Collector()
    fields = collect.attempt(Fields, document, "", SCENARIO_FIELDS)
    if fields is None:
        return collect.issues, None
    name, description, version, tags = collect.attempt(_metadata, fields) or ("", "", "1", ())
    rules = collect.attempt(fields.choice, "rules", RuleSet, RuleSet.COMPAT) or RuleSet.COMPAT
    default = collect.attempt(_default_price, fields, rules, resolve)
    failed_default = fields.has("model") and default is None
    given = None
    if not failed_default:
        given = _inputs(collect, fields, rules, default)
    expected = collect.attempt(_expected, fields, expected_required)
    tolerances = collect.attempt(read_tolerances, fields.get("tolerances"))
    if collect.issues or given is None or tolerances is None:
        return collect.issues, None
    collect.attempt(_compute, given, rules)  # what only computing finds: terms, tiers, precision
    scenario = Scenario(name, description, version, tags, rules, given, expected, tolerances)
    return collect.issues, scenario


def _compute(given: InvoiceInput, rules: RuleSet) -> None:
    with at("inputs"):
        compute_invoice(given, rules)


def _metadata(fields: Fields) -> tuple[str, str, str, tuple[str, ...]]:
    """Name, description, version and tags: under `metadata` in files, at the top in the API."""
    holder = fields
    if fields.has("metadata") and not fields.has("name"):
        holder = Fields(fields.get("metadata"), "metadata", METADATA_FIELDS)
    elif not fields.has("name"):
        holder = Fields({}, "metadata", METADATA_FIELDS)
    return (
        holder.text("name"), holder.text("description", ""), _version(holder), _tags(holder),
    )  # fmt: skip


def _version(holder: Fields) -> str:
    """Text, or the number that YAML makes of an unquoted one."""
    value = holder.get("version")
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        value = plain(Decimal(value))
    else:
        value = holder.text("version", "1")
    if len(value) > VERSION_MAX:
        path = holder.path_of("version")
        raise InvalidField(f"must have 1 to {VERSION_MAX} characters", path=path)
    return value


def _tags(holder: Fields) -> tuple[str, ...]:
    found = []
    for path, tag in holder.items("tags", at_most=TAGS_MAX):
        if not isinstance(tag, str) or not 1 <= len(tag) <= TAG_MAX or not tag.isprintable():
            raise InvalidField(f"must be text of 1 to {TAG_MAX} characters", path=path)
        found.append(tag)
    return tuple(found)


def _expected(fields: Fields, required: bool) -> Expected | None:
    if not fields.has("expected") and not required:
        return None
    return read_expected(fields.require("expected"))


def _default_price(fields: Fields, rules: RuleSet, resolve: Resolver | None) -> Price | None:
    """The price of items that name none: the scenario's `model`, in place or by reference."""
    value = fields.get("model")
    if value is None:
        return None
    if isinstance(value, Mapping) and "reference" in value:
        reference = Fields(value, "model", frozenset({"reference"})).text("reference")
        if resolve is None:
            raise InvalidField("cannot be resolved here", path="model.reference")
        value = resolve(reference)
    return _strict_price(value, rules, "model", _names_compat(fields))


def _names_compat(fields: Fields) -> bool:
    """Whether the author asked for the predecessor's numbers in so many words."""
    return fields.get("rules") == RuleSet.COMPAT.value


def _strict_price(value: object, rules: RuleSet, path: str, named_compat: bool) -> Price:
    """A price with what the scenario format demands beyond the rule set."""
    price = price_from_config(value, rules=rules, path=path)
    assert isinstance(value, Mapping), "a price was read from it"
    if value.get("currency") is None:
        raise InvalidField("is required", path=f"{path}.currency")
    if price.model is Model.PACKAGE:
        size = value.get("packageSize", value.get("package_size"))
        if not size or price.transform is None or price.transform.divide_by % 1:
            raise InvalidField("must be a whole number above zero", path=f"{path}.packageSize")
    if price.model in TIERED_MODELS and price.tiers[-1].up_to is not None and not named_compat:
        raise InvalidField(
            "the last tier must have no end (upTo: null), or usage above it would be free; "
            "to keep the predecessor's numbers for it write rules: compat",
            path=f"{path}.tiers[{len(price.tiers) - 1}].upTo",
        )
    return price


def _inputs(
    collect: _Collector, fields: Fields, rules: RuleSet, default: Price | None
) -> InvoiceInput | None:
    """The simulator's input; items are tried one by one so that each names its own issue."""
    inputs = collect.attempt(Fields, fields.get("inputs"), "inputs", INPUT_FIELDS)
    if inputs is None:
        return None
    collect.attempt(inputs.text, "customer_id")
    collect.attempt(inputs.require, "usage_items")
    members = collect.attempt(inputs.items, "usage_items", at_most=ITEMS_MAX) or []
    named_compat = _names_compat(fields)
    items = [
        collect.attempt(_strict_item, item, path, rules, default, named_compat)
        for path, item in members
    ]
    document = dict(fields.get("inputs"))  # type: ignore[call-overload]
    document.pop("usageItems", None)
    # With a refused item left out the others would stand at wrong places: read the rest alone.
    document["usage_items"] = [] if None in items else items
    result = collect.attempt(read_invoice_input, document, rules=rules, path="inputs")
    return result if isinstance(result, InvoiceInput) else None


def _strict_item(
    value: object, path: str, rules: RuleSet, default: Price | None, named_compat: bool
) -> UsageItem:
    if isinstance(value, Mapping):
        for key in ("priceConfig", "price_config"):
            if value.get(key) is not None:
                price = _strict_price(value[key], rules, f"{path}.priceConfig", named_compat)
                value = {**value, key: price}
    item = read_usage_item(value, path, rules=rules, default_price=default)
    if item.quantity < 0:
        raise InvalidField("must not be negative", path=f"{path}.quantity")
    return item
