"""Django's admin over every registered model: the own tenant's rows, and nothing to edit."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from billing.models import CustomerLink, SimulationBatch, SimulationRun, SimulationScenario
from counters.models import BillingCalendar
from ledger.models import EventConflict, Operation
from reconciliation.models import Export, PeriodClose, RepairPlan, Run
from stripemeter.lib import clock
from stripemeter.tenancy.admin_base import ReadOnlyAdmin, SuperuserAdmin
from stripemeter.tenancy.models import Tenant
from tests.ops.conftest import Office
from tests.ops.test_pages import finding
from widget.models import WidgetSession

LISTS = {
    f"{model._meta.app_label}/{model._meta.model_name}": site
    for model, site in admin.site._registry.items()
    if isinstance(site, ReadOnlyAdmin)
}
OWN = [name for name, site in LISTS.items() if not isinstance(site, SuperuserAdmin)]


def furnish(office: Office, tenant: Tenant) -> None:
    """One row of everything, with the tenant's name in it."""
    now, name = clock.now(), tenant.key
    later = now + timedelta(hours=1)
    finding(office, tenant)
    office.adjustment(tenant=tenant, actor=f"user:{name}")
    times: dict[str, Any] = {"created_at": now, "updated_at": now}
    span: dict[str, Any] = {"period_start": now, "period_end": later}
    EventConflict.objects.create(
        tenant=tenant, key=uuid4(), recorded_at=now, refused={}, resolved_by=name
    )
    Operation.objects.create(id=uuid4(), tenant=tenant, kind="backfill", request={}, actor=name,
                             **times)  # fmt: skip
    BillingCalendar.objects.create(tenant=tenant, customer_ref=name, anchor=now)
    CustomerLink.objects.create(
        tenant=tenant, customer_ref=name, stripe_customer_id=f"cus_{name}", created_at=now,
        created_by=name,
    )  # fmt: skip
    SimulationScenario.objects.create(
        id=uuid4(), tenant=tenant, name=name, document={}, created_by=name, **times
    )
    for model in (SimulationBatch, SimulationRun):
        extra = {"created_by": name} if model is SimulationBatch else {
            "triggered_by": name, "snapshot": {}
        }  # fmt: skip
        model.objects.create(id=uuid4(), tenant=tenant, name=name, created_at=now, **extra)
    Run.objects.create(id=uuid4(), tenant=tenant, requested_by=name, requested_at=now)
    RepairPlan.objects.create(id=uuid4(), tenant=tenant, created_by=name, created_at=now)
    PeriodClose.objects.create(id=uuid4(), tenant=tenant, closed_by=name, closed_at=now, **span)
    Export.objects.create(
        id=uuid4(), tenant=tenant, format="csv", requested_by=name, requested_at=now,
        expires_at=later, **span,
    )  # fmt: skip
    WidgetSession.objects.create(
        id=uuid4(), tenant=tenant, customer_ref=name, origins=["https://a.example"],
        created_by=name, created_at=now, expires_at=later,
    )  # fmt: skip


def test_lists_show_the_own_tenant_and_cost_the_same_for_many_rows(office: Office) -> None:
    for tenant in (office.acme, office.globex):
        furnish(office, tenant)
    client = office.sign_in("owner")
    empty = []
    for name in OWN:
        answer = client.get(f"/admin/{name}/")
        assert answer.status_code == 200, name
        page = answer.content.decode().lower()
        assert "globex" not in page, name
        model = LISTS[name].model
        shown = LISTS[name].get_queryset(answer.wsgi_request)
        if not shown.exists():
            empty.append(name)
            continue
        with CaptureQueriesContext(connection) as queries:
            client.get(f"/admin/{name}/")
        assert len(queries) <= 35, f"{name}: {len(queries)} queries"
        foreign = model._default_manager.exclude(pk__in=shown.values("pk")).first()
        if foreign is not None:
            there = f"/admin/{name}/{foreign.pk}/change/"
            assert client.get(there).status_code == 302, name  # as for one that does not exist
    assert set(empty) <= {"counters/billingperiod", "billing/stripeaccount"}


@pytest.mark.parametrize("name", sorted(LISTS))
def test_nothing_is_edited_in_the_admin(office: Office, name: str) -> None:
    root = office.sign_in("owner")
    user = root.get("/admin/").wsgi_request.user
    user.is_superuser = True  # type: ignore[union-attr]
    user.save()
    assert root.get(f"/admin/{name}/").status_code == 200
    assert root.get(f"/admin/{name}/add/").status_code == 403
    assert Client().get(f"/admin/{name}/").status_code == 302


def test_rows_of_all_tenants_together_are_for_superusers(office: Office) -> None:
    client = office.sign_in("owner")
    for name in set(LISTS) - set(OWN):
        assert client.get(f"/admin/{name}/").status_code == 403, name


def test_a_list_leads_back_to_the_dashboard_and_to_the_tables_one_may_see(office: Office) -> None:
    page = office.sign_in("owner").get("/admin/billing/pricemapping/").content.decode()
    assert "<span>Dashboard</span>" in page
    assert f'href="{reverse("ops:records")}"' in page
    assert 'href="/admin/billing/customerlink/"' in page
    assert "Sign-in attempts" not in page
