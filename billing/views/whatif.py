"""What-if: other prices over the tenant's own past, with who pays more and who less."""

from decimal import Decimal
from typing import Any
from uuid import UUID

from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from billing.models import WhatIfRun
from billing.pricing import Price
from billing.projection import price_book
from billing.services import whatif
from billing.services.mappings import Actor
from billing.simulation.whatif_files import customer_dict
from billing.tasks import wake_what_if
from billing.views.forms import by_field, number
from billing.whatif_api import csv_response
from stripemeter.lib import clock, strictjson
from stripemeter.lib.charts import Column, columns
from stripemeter.lib.decimals import grouped
from stripemeter.lib.errors import ProblemError, invalid
from stripemeter.tenancy.operators import Operator, operator_page

#: Customers on one page of the table.
ROWS = 100


@require_http_methods(["GET", "HEAD", "POST"])
@operator_page()
def what_if(request: Any) -> HttpResponse:
    """Ask: a change in percent or another price per metric, over whole periods."""
    operator: Operator = request.operator
    given: dict[str, str] = {}
    problems: dict[str, str] = {}
    if request.method == "POST":
        given = request.POST.dict()
        try:
            if not operator.is_maintainer:
                raise invalid("", "Questions are asked by maintainers and owners.")
            actor = Actor(operator.tenant.pk, operator.actor, clock.now())
            run = whatif.start(actor=actor, document=_document(given), clock=clock.now)
        except ProblemError as problem:
            problems = by_field(problem)
        else:
            if run.status == WhatIfRun.Status.PENDING:
                wake_what_if()
            return redirect("ops:what-if-run", run_id=run.pk)
    runs = WhatIfRun.objects.filter(tenant=operator.tenant).order_by("-created_at")[:20]
    context = {
        "title": "What if",
        "metrics": _metrics(operator.tenant.pk, given),
        "given": given,
        "problems": list(problems.values()),
        "runs": list(runs),
    }
    return render(request, "billing/what_if.html", context, status=400 if problems else 200)


def _metrics(tenant_id: int, given: dict[str, str]) -> list[dict[str, Any]]:
    book = price_book(tenant_id=tenant_id)
    found = []
    for mapping in book.mappings:
        price = book.prices[mapping.pk]
        name = mapping.metric.name
        found.append(
            {
                "name": name,
                "price": price and price_in_words(price),
                "percent": given.get(f"percent-{name}", ""),
                "json": given.get(f"price-{name}", ""),
            }
        )
    return found


def price_in_words(price: Price) -> str:
    """A price in one line, for people."""

    def money(amount: Decimal) -> str:
        return grouped(amount.scaleb(-price.exponent), price.exponent)

    if price.tiers:
        tiers = ", ".join(
            f"{'up to ' + grouped(tier.up_to) if tier.up_to is not None else 'above'} "
            f"{money(tier.unit_amount)}"
            + (f" + {money(tier.flat_amount)}" if tier.flat_amount else "")
            for tier in price.tiers
        )
        return f"{price.model}, in {price.currency}: {tiers}"
    if price.transform is not None:
        size = grouped(price.transform.divide_by)
        return f"{money(price.unit_amount)} {price.currency} per {size}"
    return f"{money(price.unit_amount)} {price.currency} each"


def _document(given: dict[str, str]) -> dict[str, Any]:
    """The form as the API's body. Raises `InvalidRequest`."""
    prices: dict[str, Any] = {}
    for field, value in given.items():
        kind, _, metric = field.partition("-")
        if not value.strip() or not metric:
            continue
        if kind == "percent":
            prices.setdefault(metric, {"changePercent": number(value.strip())})
        elif kind == "price":
            try:
                prices[metric] = strictjson.loads(value)
            except strictjson.InvalidJSON as error:
                raise invalid(f"prices.{metric}", f"is no JSON: {error}") from error
    if not prices:
        raise invalid("prices", "change at least one price")
    document: dict[str, Any] = {"prices": prices}
    for name in ("name", "from", "to"):
        if given.get(name, "").strip():
            document[name] = given[name].strip()
    return document


@require_GET
@operator_page()
def what_if_run(request: Any, run_id: UUID) -> Any:
    """One answer: revenue, distribution, winners and losers, cliffs, every customer."""
    run = whatif.run_of(tenant_id=request.operator.tenant.pk, run_id=run_id)
    if request.GET.get("format") == "csv":
        if run.result is None:
            raise Http404
        return csv_response(run)
    context: dict[str, Any] = {"title": run.name or "What if", "run": run}
    if run.result is not None:
        context |= _answer(request, run)
    return render(request, "billing/what_if_run.html", context)


def _answer(request: Any, run: WhatIfRun) -> dict[str, Any]:
    result = whatif.result_of(run)
    assert result is not None
    places = int(result["exponent"])
    raw = request.GET.get("after", "-1")
    after = int(raw) if raw.isascii() and raw.isdigit() else -1
    rows = whatif.customer_deltas(run, after=after, limit=ROWS)
    total = run.customers.count()
    winners = [whatif.delta_of(row) for row in run.customers.order_by("-rank")[:5]]
    losers = whatif.customer_deltas(run, limit=5)
    return {
        "result": result,
        "revenue": result["revenue"],
        "chart": _distribution(result),
        "periods": _periods(result),
        "rows": [customer_dict(row, places) for row in rows],
        "total": total,
        "following": after + ROWS if after + ROWS + 1 < total else None,
        "after": after,
        "losers": [customer_dict(r, places) for r in losers if r.delta_minor > 0],
        "winners": [customer_dict(r, places) for r in winners if r.delta_minor < 0],
        "cliffs": result["cliffs"][:20],
    }


def _distribution(result: dict[str, Any]) -> Any:
    shown = []
    for bucket in result["distribution"]:
        over, up_to = bucket["over"], bucket["upTo"]
        if bucket["new"]:
            label, text = "new", "paid nothing before"
        elif over == up_to:
            label, text = "same", "unchanged"
        elif over is None:
            label, text = f"≤{up_to} %", f"down by {str(up_to).lstrip('-')} % or more"
        elif up_to is None:
            label, text = f">{over} %", f"up by more than {over} %"
        else:
            label, text = f"{over}…{up_to}", f"between {over} % and {up_to} %"
        count = int(bucket["customers"])
        shown.append(Column(label, (count,), f"{text}: {count} customers"))
    return columns(shown, label="Customers by change of what they pay", tones=("one",))


def _periods(result: dict[str, Any]) -> Any:
    shown = [
        Column(
            each["period"][:7],
            (each["before"], each["after"]),
            f"{each['period']}: {each['before']} before, {each['after']} after",
        )
        for each in result["periods"][-24:]
    ]
    return columns(shown, label="Revenue by period, before and after", tones=("was", "one"))
