"""``GET /v1/diagnosis``: what `stripemeter doctor` shows of the server's side."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import diagnosis
from stripemeter.lib import clock
from stripemeter.tenancy.api_base import TenantView
from stripemeter.tenancy.models import Tenant


class DiagnosisItemOutput(serializers.Serializer[Any]):
    """One thing that was looked at."""

    state = serializers.ChoiceField(choices=["ok", "warn", "bad"])
    name = serializers.CharField()
    told = serializers.CharField()


class DiagnosisOutput(serializers.Serializer[Any]):
    """Everything that was looked at, in the order of setting it up."""

    findings = DiagnosisItemOutput(many=True)


class DiagnosisView(TenantView):
    """Reads only; asks Stripe about each mapping's meter, so it costs more than other reads."""

    rate_cost = 20

    @extend_schema(operation_id="diagnose", responses=DiagnosisOutput, tags=["Health"])
    def get(self, request: Request) -> Response:
        """Check keys, accounts, meters, customers, webhooks, migrations and queues."""
        self.check_tenant()
        tenant = Tenant.objects.get(pk=self.principal.tenant_id)
        found = diagnosis.diagnose(tenant=tenant, now=clock.now())
        return Response({"findings": DiagnosisItemOutput(found, many=True).data})
