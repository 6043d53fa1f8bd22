"""What-if from files: price sets and usage tables in, tables, JSON and CSV out."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from billing.pricing.errors import InvalidField, PricingError
from billing.pricing.models import RuleSet
from billing.pricing.numbers import half_up, major, not_negative, plain, scale
from billing.pricing.reading import Fields, at
from billing.pricing.simulator import read_terms
from billing.pricing.sources import exponent_for, price_from_config, price_from_stripe
from billing.simulation.files import pretty_json, read_document
from billing.simulation.whatif import CustomerDelta, PriceSet, UsageRow, WhatIf
from stripemeter.lib.cells import inert

PRICE_SET_FIELDS: Final = frozenset({"rules", "prices", "fixed_fee", "minimum_spend", "coupons"})
USAGE_ROWS_MAX: Final = 5_000_000
SHOWN_MAX: Final = 10

# Accepted headings of a usage table, by meaning.
_COLUMNS: Final = {
    "customer": ("customer", "customerRef", "customer_ref"),
    "period": ("period", "periodStart", "period_start"),
    "metric": ("metric", "meter"),
    "quantity": ("quantity", "qty", "total"),
}


def read_price_set(document: object) -> PriceSet:
    """A price set document: `{rules, prices: {metric: price}, fixedFee, minimumSpend, coupons}`.

    A price is a price config, or a Stripe Price object under the Stripe rules (the default here).
    Amounts outside Stripe objects are in major units.
    """
    fields = Fields(document, "", PRICE_SET_FIELDS)
    rules = fields.choice("rules", RuleSet, RuleSet.STRIPE)
    listed = fields.require("prices")
    if not isinstance(listed, dict):
        raise InvalidField("must be an object of prices by metric", path="prices")
    prices = {}
    for metric, value in listed.items():
        path = f"prices.{metric}"
        if isinstance(value, dict) and "billing_scheme" in value:
            with at(path):
                prices[metric] = price_from_stripe(value)
        else:
            prices[metric] = price_from_config(value, rules=rules, path=path)
    currency = next(iter(prices.values())).currency if prices else "USD"
    exponent = exponent_for(currency, rules)
    fee, least = fields.amount("fixed_fee"), fields.amount("minimum_spend")
    return PriceSet(
        prices=prices,
        rules=rules,
        fixed_fee_minor=half_up(scale(fee, exponent)) if fee is not None else 0,
        minimum_spend_minor=half_up(scale(least, exponent)) if least is not None else 0,
        coupons=read_terms(fields, exponent)["coupons"],
    )


def load_price_set(path: Path) -> PriceSet:
    """The price set of a JSON or YAML file."""
    with at(str(path)):
        return read_price_set(read_document(path))


def load_usage(path: Path) -> Iterator[UsageRow]:
    """Rows of a CSV table with customer, period, metric and quantity; a bad row names its line."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        names = _headings(reader.fieldnames or [], path)
        for count, row in enumerate(reader):
            if count >= USAGE_ROWS_MAX:
                raise InvalidField(f"more than {USAGE_ROWS_MAX} rows", path=str(path))
            with at(f"{path}:{reader.line_num}"):
                yield UsageRow(
                    customer=_cell(row, names["customer"]),
                    period=_cell(row, names["period"]),
                    metric=_cell(row, names["metric"]),
                    quantity=not_negative(_cell(row, names["quantity"]), "quantity"),
                )


def _headings(found: Any, path: Path) -> dict[str, str]:
    names = {}
    for meaning, accepted in _COLUMNS.items():
        present = [name for name in accepted if name in found]
        if not present:
            raise InvalidField(f"has no column {meaning}", path=str(path))
        names[meaning] = present[0]
    return names


def _cell(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidField("is required", path=name)
    return value


# -- output ----------------------------------------------------------------------------------


def as_dict(result: WhatIf, *, customers_max: int | None = None) -> dict[str, Any]:
    """The wire form, in major units; `customers_max` bounds the table (all by default)."""
    places = result.exponent
    return {
        "currency": result.currency,
        "customerPeriods": result.customer_periods,
        "revenue": {
            "before": major(result.before_minor, places),
            "after": major(result.after_minor, places),
            "delta": major(result.delta_minor, places),
            "percent": result.percent,
        },
        "losers": len(result.losers),
        "winners": len(result.winners),
        "unchanged": result.unchanged,
        "quantiles": {f"p{rank}": major(delta, places) for rank, delta in result.quantiles},
        "distribution": [
            {
                "over": bucket.over,
                "upTo": bucket.up_to,
                "new": bucket.is_new,
                "customers": bucket.customers,
                "delta": major(bucket.delta_minor, places),
            }
            for bucket in result.distribution
        ],
        "periods": [
            {"period": period, "before": major(old, places), "after": major(new, places)}
            for period, old, new in result.by_period
        ],
        "cliffs": [
            {
                "customer": item.customer,
                "period": item.period,
                "metric": item.metric,
                "quantity": item.quantity,
                "at": item.at,
                "jump": major(item.jump_minor, places),
            }
            for item in result.cliffs
        ],
        "unpriced": {"before": result.unpriced_before, "after": result.unpriced_after},
        "customers": [customer_dict(item, places) for item in result.customers[:customers_max]],
    }


def customer_dict(item: CustomerDelta, places: int) -> dict[str, Any]:
    """One row of the table, in major units."""
    return {
        "customer": item.customer,
        "periods": item.periods,
        "before": major(item.before_minor, places),
        "after": major(item.after_minor, places),
        "delta": major(item.delta_minor, places),
        "percent": item.percent,
    }


def as_json(result: WhatIf) -> str:
    """Everything as indented JSON."""
    return pretty_json(as_dict(result)).decode()


def as_csv(result: WhatIf) -> str:
    """The table per customer. A name a spreadsheet would run as a formula gets a leading quote."""
    return "".join(csv_lines(result.customers, currency=result.currency, places=result.exponent))


def csv_lines(rows: Iterable[CustomerDelta], *, currency: str, places: int) -> Iterator[str]:
    """`as_csv` line by line, for tables too long to hold."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["customer", "periods", "currency", "before", "after", "delta", "percent"])
    yield out.getvalue()
    for item in rows:
        row = customer_dict(item, places)
        out.seek(0)
        out.truncate()
        writer.writerow(
            [
                inert(item.customer),
                item.periods,
                currency,
                *(f"{row[key]:f}" for key in ("before", "after", "delta")),
                "" if item.percent is None else plain(item.percent),
            ]
        )
        yield out.getvalue()


def as_table(result: WhatIf) -> str:
    """Revenue, who pays more and less, and the nearest cliffs, as text."""
    places = result.exponent
    before, after = (major(sums, places) for sums in (result.before_minor, result.after_minor))
    lines = [
        f"{result.customer_periods} customer-periods, {len(result.customers)} customers",
        f"revenue {before} -> {after} {result.currency} "
        f"({_signed(result.delta_minor, places)}, {_percent(result.percent)})",
        f"{len(result.losers)} pay more, {len(result.winners)} pay less, "
        f"{result.unchanged} the same",
    ]
    lines += _section("largest increases", result.losers, places)
    lines += _section("largest savings", result.winners, places)
    if result.cliffs:
        lines.append("just below a cliff:")
    lines += [
        f"  {item.customer} {item.period}: {plain(item.quantity)} {item.metric}, "
        f"jump of {_signed(item.jump_minor, places)} after {plain(item.at)}"
        for item in result.cliffs[:SHOWN_MAX]
    ]
    for when, metrics in (("now", result.unpriced_before), ("then", result.unpriced_after)):
        if metrics:
            lines.append(f"without a price {when}: {', '.join(metrics)}")
    return "\n".join(lines) + "\n"


def _section(title: str, items: tuple[CustomerDelta, ...], places: int) -> list[str]:
    if not items:
        return []
    shown = [
        f"  {item.customer}: {major(item.before_minor, places)} -> "
        f"{major(item.after_minor, places)} ({_percent(item.percent)})"
        for item in items[:SHOWN_MAX]
    ]
    return [f"{title}:", *shown]


def _signed(amount: int, places: int) -> str:
    return f"{major(amount, places):+f}"


def _percent(percent: Decimal | None) -> str:
    return "from nothing" if percent is None else f"{percent:+.2f} %"


def read_percent(text: str) -> Decimal:
    """`20%`, `20 %` or `20` as a number of percent."""
    number = text.strip().removesuffix("%").strip()
    try:
        return not_negative(number, "percent")
    except PricingError:
        raise InvalidField("must be a percentage such as 20%", path="percent") from None


FORMATS: Final[dict[str, Callable[[WhatIf], str]]] = {
    "table": as_table,
    "json": as_json,
    "csv": as_csv,
}
