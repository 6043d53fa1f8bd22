"""What a process remembers of metrics is what the database holds, also after a rollback."""

from typing import Any

import pytest
from django.db import transaction
from django.test import Client

from ledger.models import Metric
from ledger.services.registry import metric_ids
from stripemeter.lib import clock
from tests.builders.ledger import make_event
from tests.builders.tenancy import Caller, make_caller, make_tenant

#: Noon is no midnight: refused after the metric's name was looked up.
REFUSED = {
    "metric": "seats",
    "aggregation": "sum",
    "stripeAccount": "default",
    "priceId": "price_seats",
    "effectiveFrom": "2026-01-01T12:00:00Z",
}


@pytest.mark.django_db(transaction=True)
def test_a_metric_whose_registration_was_rolled_back_is_registered_anew() -> None:
    tenant, other = make_tenant("acme"), make_tenant("globex")
    with transaction.atomic():
        metric_ids(tenant.pk, {"seats"})
        assert metric_ids(tenant.pk, {"seats"}) == metric_ids(tenant.pk, {"seats"})
        transaction.set_rollback(True)
    found = metric_ids(tenant.pk, {"seats"})
    assert found == dict(Metric.objects.filter(tenant=tenant).values_list("name", "id"))
    assert not Metric.objects.filter(tenant=other).exists()


@pytest.mark.django_db(transaction=True)
def test_usage_of_a_metric_counts_after_a_mapping_of_it_was_refused() -> None:
    acme, globex = make_caller("acme"), make_caller("globex")
    refused = _post(acme, "/v1/mappings", REFUSED)
    assert "not_a_midnight" in refused.content.decode(), refused.content
    event = make_event(3, metric="seats", ts=clock.now())
    for caller in (acme, globex):
        key = caller.tenant.key
        sent = {"events": [{"tenantId": key, **event}]}
        assert _post(caller, "/v1/events/ingest", sent).status_code == 200
        path = f"/v1/usage/current?tenantId={key}&customerRef=cus_1"
        usage = Client().get(path, headers=caller.headers).json()
        assert [row["current"] for row in usage["metrics"]] == [3], usage


def _post(caller: Caller, path: str, body: dict[str, Any]) -> Any:
    return Client().post(path, body, content_type="application/json", headers=caller.headers)
