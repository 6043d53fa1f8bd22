"""Mappings: which metric is billed by which price."""

from decimal import Decimal
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from billing import selectors
from billing.mappings_api import AGGREGATIONS, SEMANTICS, MappingChanges, NewMapping
from billing.models import PriceMapping
from billing.services import mappings as writes
from billing.services.prices import price_of, prices_of
from billing.views.forms import by_field, number
from billing.views.forms import validated as checked
from billing.views.pushes import totals_of
from ledger.models import Metric
from stripemeter.lib import clock
from stripemeter.lib.decimals import plain
from stripemeter.lib.errors import Forbidden, ProblemError
from stripemeter.lib.instants import rfc3339
from stripemeter.lib.pages import filters_of
from stripemeter.tenancy.operators import Operator, operator_page

#: Text fields of the form: wire name, label, what to write there.
TEXTS = (
    ("unitFactor", "Units of the metric per billed unit", "1 bills each unit"),
    ("valueDecimals", "Decimals of a value sent", "0 to 12"),
    ("stripeAccount", "Stripe account", "default, or acct_…"),
    ("priceId", "Price", "price_…"),
    ("currency", "Currency", "Of the price, such as usd. Empty: the price's own"),
    ("stripeMeterEventName", "Meter event name", "Empty: the metric's name"),
    ("subscriptionItemId", "Subscription item", "si_…, only for legacy usage records"),
    ("effectiveFrom", "In force from", "A midnight UTC: 2026-12-01T00:00:00Z. Empty: always"),
    ("effectiveTo", "In force until", "A midnight UTC. Empty: no end"),
    ("shadowStripeAccount", "Shadow account", "A Stripe test account"),
    ("shadowPriceId", "Shadow price", "price_… in that account"),
    ("shadowSubscriptionItemId", "Shadow subscription item", "si_…, only for usage records"),
)
FLAGS = (("active", "Active"), ("shadow", "Shadow mode: push to the shadow account as well"))
CHOICES = (
    ("aggregation", "Number that is billed", AGGREGATIONS),
    ("pushSemantics", "What a push says", SEMANTICS),
)
#: The form's parts, in the order in which one decides.
PARTS = (
    ("What is billed", ("aggregation", "pushSemantics", "unitFactor", "valueDecimals")),
    ("Where it goes", ("stripeAccount", "priceId", "currency", "stripeMeterEventName",
                       "subscriptionItemId")),
    ("When", ("effectiveFrom", "effectiveTo", "active")),
    ("Shadow", ("shadowStripeAccount", "shadowPriceId", "shadowSubscriptionItemId", "shadow")),
)  # fmt: skip
#: What a person reads for a field's wire name.
LABELS = {"metric": "Metric", **{name: label for name, label, _ in (*TEXTS, *CHOICES)}}
NUMBERS = ("unitFactor", "valueDecimals")
#: Fields that are left out when empty, rather than set to nothing.
REQUIRED = ("stripeAccount", "priceId", *NUMBERS)


@require_GET
@operator_page()
def mappings(request: Any) -> HttpResponse:
    """Every mapping that was not deleted."""
    form = filters_of(request, "metric")
    found = selectors.mappings(tenant_id=request.operator.tenant.pk, metric=form["metric"] or None)
    shown = list(found[:200])
    prices = prices_of(shown)
    rows = [{"mapping": each, "price": prices[each.pk]} for each in shown]
    context = {"title": "Mappings", "rows": rows, "form": form}
    return render(request, "billing/mappings.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_page("maintainer")
def new_mapping(request: Any) -> HttpResponse:
    """Map a metric to a price."""
    operator: Operator = request.operator
    given = {
        "stripeAccount": "default", "unitFactor": "1", "valueDecimals": "12",
        "aggregation": "sum", "pushSemantics": "increment", "active": "on",
        "metric": filters_of(request, "metric")["metric"],
    }  # fmt: skip
    problems: dict[str, str] = {}
    if request.method == "POST":
        given = request.POST.dict()
        try:
            fields = validated(NewMapping, given, new=True)
            mapping = writes.create_mapping(
                actor=_actor(operator), metric=fields.pop("metric"), values=fields
            )
        except ProblemError as problem:
            problems = by_field(problem)
        else:
            messages.success(request, "Created. Usage is pushed with the next run.")
            return redirect("ops:mapping", mapping_id=mapping.pk)
    context = {
        "title": "New mapping",
        "metrics": list(
            Metric.objects.filter(tenant=operator.tenant)
            .order_by("name")
            .values_list("name", flat=True)[:1000]
        ),
        **_form(given, problems),
    }
    return render(request, "billing/mapping.html", context, status=400 if problems else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_page()
def mapping(request: Any, mapping_id: UUID) -> HttpResponse:
    """One mapping: where it stands, and its terms as far as they may change."""
    operator: Operator = request.operator
    found = selectors.mapping(tenant_id=operator.tenant.pk, mapping_id=mapping_id)
    if found is None:
        raise Http404
    given, problems = _given(found), {}
    if request.method == "POST":
        if not operator.is_maintainer:
            raise Forbidden("Mappings are changed by maintainers and owners.")
        given = request.POST.dict()
        try:
            version = given.get("version", "")
            writes.update_mapping(
                actor=_actor(operator),
                mapping_id=mapping_id,
                changes=validated(MappingChanges, given, new=False),
                version=int(version) if version.isascii() and version.isdigit() else None,
            )
        except ProblemError as problem:
            problems = by_field(problem)
        else:
            messages.success(request, "Saved.")
            return redirect("ops:mapping", mapping_id=mapping_id)
    totals, totals_at = totals_of(operator.tenant.pk)
    context = {
        "title": f"Mapping of {found.metric.name}",
        "mapping": found,
        "price": price_of(found),
        "totals": [row for row in totals if row.metric == found.metric.name][:12],
        "totals_at": totals_at,
        **_form(given, problems),
    }
    return render(request, "billing/mapping.html", context, status=400 if problems else 200)


@require_POST
@operator_page("maintainer")
def end_mapping(request: Any, mapping_id: UUID) -> HttpResponse:
    """Delete it, softly: nothing new is pushed, history stays."""
    writes.end_mapping(actor=_actor(request.operator), mapping_id=mapping_id)
    messages.success(request, "Ended. What was pushed stays explained.")
    return redirect("ops:mapping", mapping_id=mapping_id)


def _actor(operator: Operator) -> writes.Actor:
    return writes.Actor(operator.tenant.pk, operator.actor, clock.now())


def validated(serializer: type[Any], given: dict[str, str], *, new: bool) -> dict[str, Any]:
    """The form as the API would validate it. Raises `ProblemError`."""
    body: dict[str, Any] = {name: given.get(name) == "on" for name, _ in FLAGS}
    for name, _, _ in TEXTS:
        value = given.get(name, "").strip()
        if value:
            body[name] = number(value) if name in NUMBERS else value
        elif not new and name not in REQUIRED:
            body[name] = None
    for name in ("aggregation", "pushSemantics", *(["metric"] if new else [])):
        body[name] = given.get(name, "")
    return checked(serializer, body)


def _given(mapping: PriceMapping) -> dict[str, str]:
    """The stored mapping as the form shows it."""
    shown: dict[str, str] = {"version": str(mapping.version)}
    for name in (
        *(name for name, _, _ in TEXTS), *(name for name, _ in FLAGS), "aggregation",
        "pushSemantics",
    ):  # fmt: skip
        value = getattr(mapping, _column(name))
        if isinstance(value, bool):
            shown[name] = "on" if value else ""
        elif isinstance(value, Decimal):
            shown[name] = plain(value)
        elif hasattr(value, "isoformat"):
            shown[name] = rfc3339(value)
        else:
            shown[name] = "" if value is None else str(value)
    return shown


def _column(wire: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in wire)


def _form(given: dict[str, str], problems: dict[str, str]) -> dict[str, Any]:
    fields: dict[str, dict[str, Any]] = {
        **{name: {"label": label, "hint": hint} for name, label, hint in TEXTS},
        **{name: {"label": label, "options": values} for name, label, values in CHOICES},
        **{name: {"label": label, "flag": True, "on": given.get(name) == "on"}
           for name, label in FLAGS},
    }  # fmt: skip
    for name, field in fields.items():
        field |= {"name": name, "value": given.get(name, ""), "wrong": problems.get(name)}
    return {
        "given": given,
        "problems": problems,
        "general": [text for name, text in problems.items() if name not in {"metric", *fields}],
        "parts": [
            {"title": title, "fields": [fields[name] for name in names]} for title, names in PARTS
        ],
    }
