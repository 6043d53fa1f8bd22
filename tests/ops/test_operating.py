"""Keys, audit trail, system page and search."""

import re

import pytest
from django.test import Client
from django.urls import reverse

from counters.models import Counter
from ledger.models import Event
from stripemeter.lib import redisclient
from stripemeter.lib.ratelimit import limiter
from stripemeter.tenancy.models import ApiKey, AuditEntry
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
