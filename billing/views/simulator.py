"""Simulator: a scenario at the tenant's prices, and the invoice it gives, tier by tier."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from billing.models import SimulationScenario
from billing.pricing import Invoice, InvoiceSimulator, PricingError, RuleSet, price_from_config
from billing.pricing.numbers import major
from billing.projection import PriceBook, price_book, priced
from billing.services import simulations
from billing.views.forms import by_field
from billing.views.whatif import price_in_words
from counters.selectors import current_usage, period_of
from stripemeter.lib import clock, strictjson
from stripemeter.lib.decimals import NotANumber, decimal_of, grouped, plain
from stripemeter.lib.errors import Forbidden, ProblemError, invalid
from stripemeter.lib.instants import rfc3339
from stripemeter.lib.pages import filters_of
from stripemeter.lib.periods import Period, utc_month
from stripemeter.tenancy.operators import Operator, operator_page

#: Terms of the form: name, label, hint.
TERMS = (
    ("credit", "Credit", "0.00"),
    ("commitment", "Commitment drawn down", "0.00"),
    ("discount", "Discount in %", "0"),
    ("minimum", "Minimum spend", "0.00"),
    ("tax", "Tax in %", "0"),
)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_page()
def simulator(request: Any) -> HttpResponse:
    """Quantities and terms in, an invoice out; with a customer, its usage so far to begin with."""
    operator: Operator = request.operator
    book = price_book(tenant_id=operator.tenant.pk)
    period = utc_month(clock.now())
    form = filters_of(request, "customer")
    given = _of_customer(operator, form["customer"], book) if form["customer"] else {}
    problems: list[str] = []
    invoice: Invoice | None = None
    if request.method == "POST":
        given = request.POST.dict()
    if given:
        try:
            document = _document(given, book, period, clock.now())
            invoice = InvoiceSimulator(RuleSet.STRIPE).simulate(document["inputs"])
            if given.get("save"):
                _save(request, document)
        except PricingError as error:
            problems = [str(error)]
        except ProblemError as problem:
            problems = list(by_field(problem).values())
    context = {
        "title": "Simulator",
        "metrics": _metrics(book, given),
        "terms": [(name, label, hint, given.get(name, "")) for name, label, hint in TERMS],
        "given": given,
        "customer": form["customer"] or given.get("customer", ""),
        "problems": problems,
        "invoice": invoice and shown_invoice(invoice),
        "scenarios": list(
            SimulationScenario.objects.filter(tenant=operator.tenant, active=True).order_by(
                "-updated_at"
            )[:20]
        ),
    }
    return render(request, "billing/simulator.html", context, status=400 if problems else 200)


def _of_customer(operator: Operator, customer: str, book: PriceBook) -> dict[str, str]:
    """The form filled with what the customer has used in the running period."""
    now = clock.now()
    tenant_id = operator.tenant.pk
    period = period_of(tenant_id=tenant_id, customer_ref=customer, instant=now)
    usage = current_usage(tenant_id=tenant_id, customer_ref=customer, period=period)
    lines = priced(customer, period, usage, book).lines
    found = {f"quantity-{line.usage.name}": plain(line.billed_units) for line in lines}
    return {"customer": customer, **found}


def _metrics(book: PriceBook, given: dict[str, str]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for mapping in book.mappings:
        price, name = book.prices[mapping.pk], mapping.metric.name
        found.setdefault(
            name,
            {
                "name": name,
                "unit": mapping.metric.unit,
                "price": price and price_in_words(price),
                "quantity": given.get(f"quantity-{name}", ""),
                "json": given.get(f"price-{name}", ""),
            },
        )
    return list(found.values())


def _document(
    given: dict[str, str], book: PriceBook, period: Period, now: datetime
) -> dict[str, Any]:
    """The form as a scenario. Raises `InvalidRequest`, `PricingError`."""
    known = {m.metric.name: book.prices[m.pk] for m in reversed(book.mappings)}
    items = []
    for field, value in given.items():
        kind, _, metric = field.partition("-")
        if kind != "quantity" or not value.strip():
            continue
        written = given.get(f"price-{metric}", "").strip()
        price = known.get(metric)
        if written:
            price = price_from_config(_json(written, metric), rules=RuleSet.STRIPE)
        if price is None:
            raise invalid(metric, "has no known price; write one")
        items.append({"metric": metric, "quantity": _number(value, metric), "price": price})
    inputs: dict[str, Any] = {
        "customerId": given.get("customer", "") or "somebody",
        "periodStart": rfc3339(period.start),
        "periodEnd": rfc3339(period.end),
        "usageItems": items,
        **_terms(given),
    }
    return {"name": given.get("name", "").strip() or _name(given, now), "inputs": inputs}


def _name(given: dict[str, str], now: datetime) -> str:
    return f"{given.get('customer') or 'somebody'}, {now:%Y-%m-%d}"


def _terms(given: dict[str, str]) -> dict[str, Any]:
    amounts = {name: given.get(name, "").strip() for name, _, _ in TERMS}
    terms: dict[str, Any] = {}
    if amounts["credit"]:
        terms["credits"] = [{"amount": _number(amounts["credit"], "credit"), "reason": "credit"}]
    if amounts["commitment"]:
        terms["commitments"] = [{"amount": _number(amounts["commitment"], "commitment")}]
    if amounts["discount"]:
        terms["coupons"] = [{"percentOff": _number(amounts["discount"], "discount")}]
    if amounts["minimum"]:
        terms["minimumSpend"] = _number(amounts["minimum"], "minimum")
    if amounts["tax"]:
        terms["taxRate"] = _number(amounts["tax"], "tax")
    return terms


def _number(written: str, name: str) -> Decimal:
    try:
        return decimal_of(written.strip().replace(",", ""))
    except NotANumber as error:
        raise invalid(name, f"{name} must be a number") from error


def _json(written: str, metric: str) -> Any:
    try:
        return strictjson.loads(written)
    except strictjson.InvalidJSON as error:
        raise invalid(metric, f"the price of {metric} is no JSON: {error}") from error


def _save(request: Any, document: dict[str, Any]) -> None:
    """Keep it as a scenario of the simulations API, prices written out."""
    operator: Operator = request.operator
    if not operator.is_maintainer:
        raise Forbidden("Scenarios are kept by maintainers and owners.")
    write_prices_out(document)
    author = simulations.Author(operator.tenant.pk, operator.actor, clock.now())
    made = simulations.create_scenario(author=author, document=document)
    messages.success(request, f"Kept as {made.name}; the simulations API runs it.")


def write_prices_out(document: dict[str, Any]) -> None:
    """Prices as documents instead of objects; in place."""
    for item in document["inputs"]["usageItems"]:
        item["priceConfig"] = config_of(item.pop("price"))
    document["rules"] = "stripe"


def config_of(price: Any) -> dict[str, Any]:
    """A price as the price config that reads back to it."""
    places = price.exponent
    config: dict[str, Any] = {"model": str(price.model), "currency": price.currency}
    if price.tiers:
        config["tiers"] = [
            {
                "upTo": tier.up_to,
                "unitPrice": tier.unit_amount.scaleb(-places),
                **({"flatPrice": tier.flat_amount.scaleb(-places)} if tier.flat_amount else {}),
            }
            for tier in price.tiers
        ]
    else:
        config["unitPrice"] = price.unit_amount.scaleb(-places)
    if price.transform is not None:
        config["packageSize"] = price.transform.divide_by
        config["round"] = str(price.transform.round)
    for name, amount in (("minimumCharge", price.minimum), ("maximumCharge", price.maximum)):
        if amount is not None:
            config[name] = amount.scaleb(-places)
    return config


def shown_invoice(invoice: Invoice) -> dict[str, Any]:
    """The invoice as the page shows it: lines with their tiers, in major units."""
    places = invoice.exponent
    return {
        "currency": invoice.currency,
        "lines": [
            {
                "metric": line.metric or line.description,
                "quantity": line.quantity,
                "amount": line.subtotal,
                "tax": major(line.tax_minor, places),
                "rows": [
                    {
                        "kind": row.kind.value,
                        "tier": row.tier,
                        "over": row.over,
                        "up_to": row.up_to,
                        "units": row.units,
                        "unit": grouped(major(row.unit_amount, places), places),
                        "flat": row.flat_amount and grouped(major(row.flat_amount, places), places),
                        "amount": major(row.amount, places),
                    }
                    for row in line.breakdown
                ],
            }
            for line in invoice.lines
        ],
        "subtotal": invoice.subtotal,
        "taken": [
            {"kind": taken.kind.value, "name": taken.name,
             "amount": major(taken.used_minor, places)}
            for taken in invoice.taken
        ],
        "tax": invoice.tax,
        "total": invoice.total,
        "notes": invoice.notes,
    }  # fmt: skip
