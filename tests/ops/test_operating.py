"""Keys, audit trail, system page and search."""

import re
from uuid import uuid4

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

from billing.models import CustomerLink, Push, StripeAccount
from billing.stripe_sandbox.process import SandboxProcess
from counters.models import Counter
from ledger import refusals
from ledger.models import Event
from stripemeter.demo.catalog import METRICS
from stripemeter.demo.stripe_side import StripeSide
from stripemeter.lib import clock, redisclient
from stripemeter.lib.periods import utc_month
from stripemeter.lib.ratelimit import limiter
from stripemeter.tenancy.models import ApiKey, AuditEntry, Tenant
from tests.ops.conftest import Office


@pytest.fixture(autouse=True)
def _empty_buckets() -> None:
    redisclient.client().flushdb()
    limiter.forget()


@pytest.mark.parametrize("page", ["api-keys", "audit", "system", "search"])
def test_a_page_shows_the_own_tenant_only_and_strangers_nothing(office: Office, page: str) -> None:
    url = reverse(f"ops:{page}")
    answer = office.sign_in("maintainer").get(url, {"verify": "1"})
    assert answer.status_code == 200
    assert "globex" not in answer.content.decode().lower()
    assert Client().get(url).status_code == 302


def test_a_key_is_shown_once_to_an_owner_who_gave_the_password(office: Office) -> None:
    form = {"name": "importer", "scopes": ["project:read"], "current_password": "x"}
    url = reverse("ops:api-key-new")
    assert office.sign_in("maintainer").post(url, form).status_code == 403
    owner = office.sign_in("owner")
    assert owner.post(url, form | {"current_password": "wrong"}).status_code == 403
    assert not ApiKey.objects.exists()
    answer = owner.post(url, form)
    shown = re.search(r"sm_live_\w+", answer.content.decode().split('class="secret">')[1])
    assert shown
    assert "no-store" in answer["Cache-Control"]
    assert shown[0] not in owner.get(reverse("ops:api-keys")).content.decode()
    key = ApiKey.objects.get()
    rotate = reverse("ops:api-key-rotate", args=[key.lookup])
    assert owner.post(rotate, {"current_password": "x"}).status_code == 200
    assert owner.post(reverse("ops:api-key-revoke", args=[key.lookup])).status_code == 302
    key.refresh_from_db()
    assert key.revoked_at is not None


def test_a_broken_chain_is_told(office: Office) -> None:
    client = office.sign_in("viewer")
    url = reverse("ops:audit")
    assert "Every entry matches" in client.get(url, {"verify": "1"}).content.decode()
    entry = AuditEntry.objects.filter(tenant=office.acme).order_by("sequence").last()
    assert entry is not None
    # Rows cannot be changed; one with a wrong hash can be added behind the service's back.
    AuditEntry.objects.create(
        tenant=office.acme, sequence=entry.sequence + 1, recorded_at=entry.recorded_at,
        actor="nobody", action="mapping.created", object_type="mapping", object_id="1",
        previous_hash=entry.hash, hash=bytes(32),
    )  # fmt: skip
    told = client.get(url, {"verify": "1"}).content.decode()
    assert f"broken at entry {entry.sequence + 1}" in told


def test_search_finds_customers_and_events_of_the_own_tenant(office: Office) -> None:
    client = office.sign_in("viewer")
    url = reverse("ops:search")
    found = client.get(url, {"find": "acme-cust"})
    assert found["Location"].endswith("?ref=acme-customer")
    event = Event.objects.get(tenant_id=office.acme.pk)
    found = client.get(url, {"find": event.key_text})
    assert found["Location"] == reverse("ops:event", args=[event.key])
    theirs = Event.objects.get(tenant_id=office.globex.pk)
    for hidden in ("globex-customer", str(theirs.key_text), str(theirs.key), "a\x00b"):
        assert client.get(url, {"find": hidden}).status_code == 200
    assert Counter.objects.filter(tenant_id=office.globex.pk).exists()


def _pushed(office: Office, tenant: Tenant) -> Push:
    """One acknowledged push of the tenant's customer."""
    now, month = clock.now(), utc_month(clock.now())
    account, _ = StripeAccount.objects.get_or_create(account="default", mode="live")
    return Push.objects.create(
        tenant_id=tenant.pk, mapping_id=office.mapping(tenant), mode="live",
        customer_ref=f"{tenant.key}-customer", period_start=month.start,
        id=uuid4(), slice_day=now.date(), sequence=1,
        account=account, semantics="increment", target="api_calls", stripe_customer_id="cus_1",
        identifier=f"sm-live-{tenant.key}-1", value=7, delta=7, stamped_at=now,
        state="acknowledged", not_before=now, created_at=now, settled_at=now,
    )  # fmt: skip


def test_search_finds_a_push_by_its_identifier_in_the_own_tenant(office: Office) -> None:
    mine, theirs = _pushed(office, office.acme), _pushed(office, office.globex)
    client, url = office.sign_in("viewer"), reverse("ops:search")
    found = client.get(url, {"find": mine.identifier})
    assert found["Location"] == reverse("ops:push", args=[mine.id])
    hidden = client.get(url, {"find": theirs.identifier})
    assert "Nothing is called" in hidden.content.decode()


def test_an_invoice_leads_to_its_customer_of_the_own_tenant(
    office: Office, sandbox: SandboxProcess
) -> None:
    with StripeSide.connect(sandbox.url, settings.STRIPE_SECRET_KEY) as live:
        price = live.metered_price(METRICS[1], event_name="search_test")
        customer = live.customer("acme-customer", "acme")
        live.subscription(customer, [price])
        sandbox.advance(32 * 86_400)
        invoice = live.get(f"/v1/invoices?customer={customer}")["data"][0]["id"]
    office.mapping()
    CustomerLink.objects.create(
        tenant=office.acme, customer_ref="acme-customer", stripe_customer_id=customer,
        created_at=clock.now(), created_by="test",
    )  # fmt: skip
    url = reverse("ops:search")
    found = office.sign_in("viewer").get(url, {"find": invoice})
    assert found["Location"].startswith("/admin/customers/customer?ref=acme-customer&at=")
    office.mapping(office.globex)
    theirs = office.sign_in("viewer", name="theirs", tenant=office.globex)
    assert "Nothing is called" in theirs.get(url, {"find": invoice}).content.decode()
    gone = office.sign_in("viewer", name="third").get(url, {"find": "in_unknown"})
    assert "Nothing is called" in gone.content.decode()


def test_refused_events_show_on_the_ingest_panel(office: Office) -> None:
    refusals.note(tenant_id=office.acme.pk, events=3, now=clock.now())
    refusals.note(tenant_id=office.globex.pk, events=9, now=clock.now())
    page = office.sign_in("viewer").get(reverse("ops:ingest-panel")).content.decode()
    assert "Refused in the last hour</dt><dd>3</dd>" in page
