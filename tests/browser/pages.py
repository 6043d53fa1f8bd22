"""Every page an operator can open, found in the URL resolver, so that none is forgotten."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.apps import apps
from django.contrib import admin
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from counters.models import Counter
from ledger.models import Event, Metric
from reconciliation.models import Finding, PeriodClose
from stripemeter.lib import clock
from stripemeter.tenancy.models import Tenant

#: Pages of the namespace that are no operator's, and why.
NOT_AN_OPERATORS = {"invitation": "somebody invited opens it before signing in"}
#: Pages that are about the customer their query names.
ABOUT_A_CUSTOMER = {"customer", "customer-bill", "customer-findings", "customer-metric", "total"}
#: Of those, the ones about one metric of the customer.
ABOUT_A_METRIC = {"customer-metric", "total"}


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the namespace ``ops``."""

    name: str
    view: Any
    parameters: tuple[str, ...]

    @property
    def role(self) -> str:
        """The least role it takes; empty if the view is guarded by none."""
        return str(getattr(self.view, "operator_role", ""))

    @property
    def is_panel(self) -> bool:
        """Whether it is a fragment of another page."""
        return self.name.endswith("-panel") or "/panels/" in self.filled("x")

    def filled(self, value: Any) -> str:
        """Its address with every parameter of one value."""
        blank = "00000000-0000-4000-8000-000000000000"
        converters = self._pattern().converters
        values = {
            name: {"int": 0, "uuid": blank}.get(_kind(converters.get(name)), value)
            for name in self.parameters
        }
        return reverse(f"ops:{self.name}", kwargs=values)

    def _pattern(self) -> Any:
        return next(
            item.pattern
            for item in _patterns(get_resolver().url_patterns)
            if item.name == self.name
        )


def _kind(converter: Any) -> str:
    return type(converter).__name__.removesuffix("Converter").lower()


def _patterns(found: Any) -> Iterator[URLPattern]:
    for item in found:
        if isinstance(item, URLResolver) and item.namespace in {None, "ops"}:
            yield from _patterns(item.url_patterns)
        elif isinstance(item, URLPattern) and getattr(item.callback, "__module__", ""):
            yield item


def operator_routes() -> list[Route]:
    """All of them, by name."""
    ops = next(
        item
        for item in get_resolver().url_patterns
        if isinstance(item, URLResolver) and item.namespace == "ops"
    )
    routes = [
        Route(str(item.name), item.callback, tuple(item.pattern.converters))
        for item in _patterns(ops.url_patterns)
    ]
    return sorted(routes, key=lambda route: route.name)


def example(parameter: str, route: str, tenant: Tenant) -> Any:
    """A value of a route's parameter that exists in the tenant, or None."""
    if parameter == "key":
        return Event.objects.filter(tenant_id=tenant.pk).values_list("key", flat=True).first()
    if parameter == "month":
        return clock.now().strftime("%Y-%m")
    if parameter == "name":
        return Metric.objects.filter(tenant=tenant).values_list("name", flat=True).first()
    # ``mapping_id`` of a mapping: the model whose name ends in that word.
    word = parameter.removesuffix("_id").replace("_", "")
    named = [
        model for model in apps.get_models() if model.__name__.lower() == route.replace("-", "")
    ]
    for model in named or apps.get_models():
        fields = {field.name for field in model._meta.get_fields()}
        name = model.__name__.lower()
        if name.endswith(word) and {"tenant", "tenant_id"} & fields and "id" in fields:
            rows = model._default_manager.filter(tenant_id=tenant.pk).order_by("-id")
            found = rows.values_list("id", flat=True).first()
            if found is not None:
                return found
    return None


def page_url(route: Route, tenant: Tenant) -> str | None:
    """An address of the page with something on it, or None if the tenant has no such thing."""
    values = {name: example(name, route.name, tenant) for name in route.parameters}
    if None in values.values():
        return None
    url = reverse(f"ops:{route.name}", kwargs=values)
    if route.name == "certificate" and not PeriodClose.objects.filter(tenant=tenant).exists():
        return None
    if route.name == "plan-new":
        rows = Finding.objects.filter(tenant=tenant, closed_at__isnull=True, state="open")
        finding = rows.order_by("cause", "pk").first()
        return None if finding is None else f"{url}?finding={finding.pk}"
    if route.name in ABOUT_A_CUSTOMER:
        counter = (
            Counter.objects.filter(tenant_id=tenant.pk).order_by("-sum", "customer_ref").first()
        )
        if counter is None:
            return None
        query = {"ref": counter.customer_ref}
        if route.name in ABOUT_A_METRIC:
            query["metric"] = Metric.objects.get(pk=counter.metric_id).name
            query["at"] = counter.period_start.strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"{url}?{urlencode(query)}"
    return url


def admin_lists() -> list[str]:
    """Addresses of the admin's lists."""
    found = [
        reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        for model in admin.site._registry
    ]
    return sorted(found)
