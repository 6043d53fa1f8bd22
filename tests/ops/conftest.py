"""Two tenants with usage, and people who work in them."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from billing.services.mappings import Actor, create_mapping
from counters.models import Adjustment
from counters.services.adjustments import create_adjustment
from stripemeter.lib import clock, redisclient
from stripemeter.lib.decimals import decimal_of
from stripemeter.tenancy.models import Membership, Tenant
from stripemeter.tenancy.recognition import forget_cached_keys
from tests.builders.ledger import fold, make_event, store
from tests.builders.tenancy import make_tenant


@dataclass
class Office:
    """Acme and Globex with a customer each, whose names show where a page leaks."""

    acme: Tenant
    globex: Tenant

    def sign_in(self, role: str, *, name: str = "", tenant: Tenant | None = None) -> Client:
        """A browser of a person with ``role`` in acme."""
        name = name or f"{role}-person"
        user = get_user_model().objects.create_user(name, password="x", is_staff=True)
        Membership.objects.create(tenant=tenant or self.acme, user=user, role=role)
        client = Client()
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return client

    def adjustment(self, *, tenant: Tenant | None = None, actor: str = "user:asker") -> Adjustment:
        """One that waits: five more calls for the tenant's customer."""
        tenant = tenant or self.acme
        now = clock.now()
        return create_adjustment(
            tenant_id=tenant.pk,
            metric="api_calls",
            customer_ref=f"{tenant.key}-customer",
            period_start=now,
            delta=decimal_of(5),
            reason="correction",
            actor=actor,
            now=now,
        )

    def mapping(self, tenant: Tenant | None = None) -> UUID:
        """The metric billed by a price at ten cents."""
        tenant = tenant or self.acme
        values: dict[str, Any] = {
            "aggregation": "sum",
            "stripe_account": "default",
            "price_id": f"price_{tenant.key}",
            "local_price": {"model": "flat", "currency": "USD", "unitPrice": "0.10"},
        }
        actor = Actor(tenant.pk, "test", clock.now())
        return create_mapping(actor=actor, metric="api_calls", values=values).pk


@pytest.fixture(autouse=True)
def _no_caches() -> None:
    forget_cached_keys()
    for name in redisclient.client().scan_iter("*:panel-*"):
        redisclient.client().delete(name)


def use(tenant: Tenant, customer: str, quantity: int = 10) -> None:
    """One event, stored and folded."""
    now = clock.now()
    event = make_event(quantity, ts=now, idempotencyKey=str(uuid4()), customerRef=customer)
    store(tenant, event, now=now)
    fold(now)


@pytest.fixture
def office(db: None) -> Office:
    """Usage in both tenants."""
    office = Office(make_tenant("acme"), make_tenant("globex"))
    for tenant in (office.acme, office.globex):
        use(tenant, f"{tenant.key}-customer")
    return office
