"""Webhooks out: endpoints, their secrets, and what became of every message."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.cache import patch_cache_control
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from billing import selectors_alerts as reads
from billing.models import Delivery, WebhookEndpoint
from billing.notices import EVENT_TYPES
from billing.notices_api import EndpointChanges, NewEndpoint
from billing.services import deliveries, endpoints
from billing.services.mappings import Actor
from billing.views.forms import by_field, validated
from stripemeter.lib import clock
from stripemeter.lib.errors import Forbidden, ProblemError
from stripemeter.lib.pages import PAGE_ROWS, Pager, filters_of
from stripemeter.tenancy.operators import Operator, operator_page


@require_GET
@operator_page()
def webhooks(request: Any) -> HttpResponse:
    """Endpoints, and the newest messages of every channel."""
    tenant = request.operator.tenant
    form = filters_of(request, "status")
    if form["status"] not in Delivery.Status.values:
        form["status"] = ""
    pager = Pager(request, tenant.key, "ops-deliveries", form)
    context = {
        "title": "Webhooks",
        "form": form,
        "pager": pager,
        "endpoints": list(reads.webhook_endpoints(tenant_id=tenant.pk)),
        "rows": _page(tenant.pk, pager, status=form["status"]),
        "statuses": Delivery.Status.choices,
    }
    return render(request, "billing/webhooks.html", context)


def _page(
    tenant_id: int, pager: Pager, *, status: str = "", endpoint_id: UUID | None = None
) -> list[Delivery]:
    found = reads.deliveries(
        tenant_id=tenant_id,
        endpoint_id=endpoint_id,
        status=status,
        after=UUID(pager.after) if pager.after is not None else None,
    )
    return pager.cut(list(found[: PAGE_ROWS + 1]), lambda row: row.pk.hex)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_page("maintainer")
def new_endpoint(request: Any) -> HttpResponse:
    """Register an address; the answer shows its secret, this once."""
    given: dict[str, Any] = {"url": "", "description": "", "types": ["alert.*", "usage.threshold"]}
    problems: dict[str, str] = {}
    if request.method == "POST":
        given = _given(request)
        try:
            values = validated(NewEndpoint, _body(given))
            endpoint, secret = endpoints.create_endpoint(actor=_actor(request.operator), **values)
        except ProblemError as problem:
            problems = by_field(problem)
        else:
            return _endpoint_page(request, endpoint.pk, secret=secret)
    context = {"title": "New endpoint", **_form(given, problems)}
    return render(request, "billing/webhook.html", context, status=400 if problems else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_page()
def endpoint(request: Any, endpoint_id: UUID) -> HttpResponse:
    """One endpoint: its terms and its log."""
    if request.method != "POST":
        return _endpoint_page(request, endpoint_id)
    operator: Operator = request.operator
    if not operator.is_maintainer:
        raise Forbidden("Endpoints are changed by maintainers and owners.")
    given = _given(request)
    try:
        body = {**_body(given), "enabled": request.POST.get("enabled") == "on"}
        endpoints.update_endpoint(
            actor=_actor(operator),
            endpoint_id=endpoint_id,
            changes=validated(EndpointChanges, body),
        )
    except ProblemError as problem:
        if not problem.errors:
            raise
        return _endpoint_page(request, endpoint_id, given=given, problems=by_field(problem))
    messages.success(request, "Saved.")
    return redirect("ops:webhook", endpoint_id=endpoint_id)


def _endpoint_page(
    request: Any,
    endpoint_id: UUID,
    *,
    secret: str = "",
    given: dict[str, Any] | None = None,
    problems: dict[str, str] | None = None,
) -> HttpResponse:
    tenant = request.operator.tenant
    found = reads.webhook_endpoint(tenant_id=tenant.pk, endpoint_id=endpoint_id)
    pager = Pager(request, tenant.key, "ops-deliveries", {"endpoint": str(endpoint_id)})
    context = {
        "title": "Webhook endpoint",
        "endpoint": found,
        "secret": secret,
        "now": clock.now(),
        "pager": pager,
        "rows": _page(tenant.pk, pager, endpoint_id=endpoint_id),
        **_form(given or _stored(found), problems or {}),
    }
    status = 400 if problems else 200
    response = render(request, "billing/webhook.html", context, status=status)
    patch_cache_control(response, no_store=True)
    return response


@require_POST
@operator_page("maintainer")
def rotate(request: Any, endpoint_id: UUID) -> HttpResponse:
    """A new secret; for a day messages carry both signatures."""
    _, secret = endpoints.rotate_secret(actor=_actor(request.operator), endpoint_id=endpoint_id)
    return _endpoint_page(request, endpoint_id, secret=secret)


@require_POST
@operator_page("maintainer")
def send_test(request: Any, endpoint_id: UUID) -> HttpResponse:
    """Try the endpoint."""
    endpoints.send_test(actor=_actor(request.operator), endpoint_id=endpoint_id)
    messages.success(request, "A test message is under way; the log shows what became of it.")
    return redirect("ops:webhook", endpoint_id=endpoint_id)


@require_POST
@operator_page("maintainer")
def delete(request: Any, endpoint_id: UUID) -> HttpResponse:
    """Nothing more is sent there."""
    endpoints.delete_endpoint(actor=_actor(request.operator), endpoint_id=endpoint_id)
    messages.success(request, "Deleted. The log stays.")
    return redirect("ops:webhooks")


@require_GET
@operator_page()
def delivery(request: Any, delivery_id: UUID) -> HttpResponse:
    """One message: what it says and every try."""
    found = reads.delivery(tenant_id=request.operator.tenant.pk, delivery_id=delivery_id)
    context = {
        "title": f"Message {found.event_type}",
        "delivery": found,
        "tries": list(found.tries.order_by("number")),
        "repeatable": found.status != Delivery.Status.PENDING,
    }
    return render(request, "billing/delivery.html", context)


@require_POST
@operator_page("maintainer")
def redeliver(request: Any, delivery_id: UUID) -> HttpResponse:
    """Send the message again, with the same id."""
    operator: Operator = request.operator
    new = deliveries.redeliver(
        tenant_id=operator.tenant.pk,
        delivery_id=delivery_id,
        actor=operator.actor,
        now=clock.now(),
    )
    messages.success(request, "Sent again, with the same message id.")
    return redirect("ops:delivery", delivery_id=new.pk)


def _actor(operator: Operator) -> Actor:
    return Actor(operator.tenant.pk, operator.actor, clock.now())


def _given(request: Any) -> dict[str, Any]:
    return {
        "url": request.POST.get("url", "").strip(),
        "description": request.POST.get("description", "").strip(),
        "types": request.POST.getlist("types"),
        "enabled": request.POST.get("enabled") == "on",
    }


def _body(given: dict[str, Any]) -> dict[str, Any]:
    return {
        "url": given["url"],
        "description": given["description"],
        "eventTypes": given["types"],
    }


def _stored(endpoint: WebhookEndpoint) -> dict[str, Any]:
    return {
        "url": endpoint.url,
        "description": endpoint.description,
        "types": endpoint.event_types,
        "enabled": endpoint.enabled,
    }


def _form(given: dict[str, Any], problems: dict[str, str]) -> dict[str, Any]:
    names = {name.split("[", 1)[0] for name in problems}
    families = [("*", "everything")] + [
        (f"{family}.*", f"everything about {words}")
        for family, words in (
            ("alert", "alerts"), ("push", "pushes to Stripe"),
            ("reconciliation", "reconciliation"), ("period", "billing periods"),
        )
    ]  # fmt: skip
    known = [*families, *EVENT_TYPES.items()]
    return {
        "given": given,
        "problems": problems,
        "types": [(name, text, name in given["types"]) for name, text in known],
        "general": [text for name, text in problems.items() if name not in {"url", "description"}],
        "wrong": names,
    }
