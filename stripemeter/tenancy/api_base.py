"""The base of every API view: authenticated, scoped, bound to the key's tenant."""

from collections.abc import Mapping
from typing import Any, cast

from rest_framework.request import Request
from rest_framework.views import APIView

from stripemeter.lib import metrics
from stripemeter.lib.errors import Forbidden, invalid
from stripemeter.tenancy.principals import Principal


class TenantView(APIView):
    """One operation of the API for one tenant.

    Subclasses set ``scope_area``. ``self.principal`` is the caller; its tenant is the only
    one a view may touch, whatever the request says.
    """

    scope_area = "project"

    @property
    def principal(self) -> Principal:
        """The authenticated caller."""
        return cast(Principal, self.request.user)

    def check_tenant(self, body: Any = None, *, required: bool = False) -> None:
        """Refuse a request that names any other tenant, in the query or in the body.

        Every place is checked, not the first found. Raises `Forbidden`, or `InvalidRequest`
        if ``required`` and no ``tenantId`` is given.
        """
        named: list[Any] = list(self.request.query_params.getlist("tenantId"))
        if isinstance(body, Mapping) and "tenantId" in body:
            named.append(body["tenantId"])
        for value in named:
            if not isinstance(value, str) or not value:
                raise invalid("tenantId", "must be a tenant id", code="invalid_tenant")
            if value != self.principal.tenant_key:
                raise tenant_mismatch(self.request)
        if required and not named:
            raise invalid("tenantId", "is required", code="required")


def tenant_mismatch(request: Request) -> Forbidden:
    """The refusal of a foreign tenant; the same for existing and unknown ones."""
    route = request.resolver_match.route if request.resolver_match else "unmatched"
    metrics.cross_tenant_blocks.labels(route, request.method or "").inc()
    return Forbidden("Mismatched tenantId", code="tenant_mismatch")
