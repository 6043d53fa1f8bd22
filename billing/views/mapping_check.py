"""The panel under the mapping form: what Stripe's mirror and real usage say to it."""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST

from billing.mappings_api import MappingChanges, NewMapping
from billing.services import mapping_check
from billing.views.forms import by_field
from billing.views.mappings import LABELS, validated
from stripemeter.lib import clock
from stripemeter.lib.errors import ProblemError
from stripemeter.tenancy.operators import operator_page


@require_POST
@operator_page("maintainer")
def check_mapping(request: Any) -> HttpResponse:
    """Validate the form and preview it on running periods; nothing is stored."""
    given = request.POST.dict()
    is_new = "version" not in given
    context: dict[str, Any] = {}
    try:
        values = validated(NewMapping if is_new else MappingChanges, given, new=is_new)
        metric = str(values.pop("metric", "") or given.get("metricName", ""))
        context["checks"], context["preview"] = mapping_check.check(
            tenant_id=request.operator.tenant.pk, metric=metric, values=values, now=clock.now()
        )
    except ProblemError as problem:
        found = by_field(problem)
        context["problems"] = {LABELS.get(name, name): text for name, text in found.items()}
    return render(request, "billing/_mapping_check.html", context)
