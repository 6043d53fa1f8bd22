"""Operator pages: who may see them, whose data they show, and at what price."""

import re
from datetime import timedelta
from html import escape, unescape
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from billing.models import PriceMapping
from ledger.models import EventConflict, Metric
from reconciliation.models import Finding
from stripemeter.lib import clock
from stripemeter.lib.periods import utc_month
from tests.ops.conftest import Office, use

PAGES = [
    "home", "push-panel", "money-panel", "accounts-panel", "periods-panel",
    "reconciliation-panel", "customers", "adjustments", "pushes", "accounts", "mappings",
    "metrics", "inbox", "reconciliation", "findings", "periods", "operations", "alerts",
    "alert-rules", "alerts-panel", "webhooks",
]  # fmt: skip


def finding(office: Office, tenant: Any) -> Finding:
    period = utc_month(clock.now())
    return Finding.objects.create(
        id=uuid4(), tenant=tenant, mapping_id=office.mapping(tenant), metric_id=1,
        customer_ref=f"{tenant.key}-customer", period_start=period.start, period_end=period.end,
        mode="live", cause="lost_at_stripe", severity="critical", units=5, first_run_id=uuid4(),
        last_run_id=uuid4(), opened_at=clock.now(), seen_at=clock.now(),
    )  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_a_viewer_the_own_tenant_and_nothing_of_another(
    office: Office, page: str
) -> None:
    for tenant in (office.acme, office.globex):
        finding(office, tenant)
        office.adjustment(tenant=tenant)
        Metric.objects.create(tenant=tenant, name=f"{tenant.key}-metric")
        EventConflict.objects.create(
            tenant=tenant, key=uuid4(), recorded_at=clock.now(), refused={"of": tenant.key}
        )
    answer = office.sign_in("viewer").get(reverse(f"ops:{page}"))
    assert answer.status_code == 200
    assert "globex" not in answer.content.decode().lower()


@pytest.mark.parametrize("page", PAGES)
def test_a_stranger_is_sent_to_sign_in(office: Office, page: str) -> None:
    answer = Client().get(reverse(f"ops:{page}"))
    assert answer.status_code == 302
    assert answer["Location"].startswith("/admin/login/")


def test_a_customers_panels_load_and_refresh_themselves_and_say_how_old_they_are(
    office: Office,
) -> None:
    office.mapping()
    client = office.sign_in("viewer")
    page = client.get(reverse("ops:customer"), {"ref": "acme-customer"}).content.decode()
    addresses = [unescape(each) for each in re.findall(r'hx-get="([^"]+)" hx-trigger="load"', page)]
    assert len(addresses) == 3, "bill, findings and the one metric"
    panels = [client.get(each).content.decode() for each in addresses]
    for address, panel in zip(addresses, panels, strict=True):
        assert f'hx-get="{escape(address)}" hx-trigger="every ' in panel
        assert "as of <time" in panel
    everything = "".join(panels)
    assert "1.00 USD" in everything
    assert everything.count("Expected at the end") == 2
    use(office.acme, "acme-customer", 7)
    metric = next(each for each in addresses if "customer-metric" in each)
    assert ">17</a>" in client.get(metric).content.decode()


def test_a_customer_of_another_tenant_is_not_found(office: Office) -> None:
    client = office.sign_in("viewer")
    for ref in ("globex-customer", "nobody", "", "a\x00b"):
        assert client.get(reverse("ops:customer"), {"ref": ref}).status_code == 404
        about = {"ref": ref, "metric": "api_calls"}
        assert client.get(reverse("ops:customer-metric"), about).status_code == 404


def test_customers_page_by_reference_and_cost_three_reads(office: Office) -> None:
    for number in range(55):
        use(office.acme, f"zeta-{number:03}")
    client = office.sign_in("viewer")
    client.get(reverse("ops:customers"))
    with CaptureQueriesContext(
        connection,
    ) as few:
        first = client.get(reverse("ops:customers"), {"search": "zeta"}).content.decode()
    assert "zeta-049" in first
    assert "zeta-050" not in first
    reads = [each for each in few if "counters_" in each["sql"] or "billing_" in each["sql"]]
    assert len(reads) == 3
    link = first.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
    second = client.get(link).content.decode()
    assert "zeta-050" in second
    assert "zeta-049" not in second


def test_lists_cost_the_same_for_one_row_as_for_many(office: Office) -> None:
    client = office.sign_in("maintainer")
    url = reverse("ops:adjustments")
    office.adjustment()
    client.get(url)
    with CaptureQueriesContext(connection) as one:
        client.get(url)
    for _ in range(5):
        office.adjustment()
    with CaptureQueriesContext(connection) as many:
        client.get(url)
    assert len(many) == len(one)


def test_a_mapping_is_made_changed_and_ended_by_a_maintainer_only(office: Office) -> None:
    form = {
        "metric": "api_calls", "aggregation": "sum", "pushSemantics": "increment",
        "stripeAccount": "default", "priceId": "price_1", "unitFactor": "1",
        "valueDecimals": "12", "active": "on",
    }  # fmt: skip
    url = reverse("ops:mapping-new")
    assert office.sign_in("viewer").post(url, form).status_code == 403
    client = office.sign_in("maintainer")
    wrong = client.post(url, form | {"priceId": "prod_1"})
    assert wrong.status_code == 400
    assert 'aria-describedby="priceId-wrong"' in wrong.content.decode()
    assert client.post(url, form).status_code == 302
    mapping = PriceMapping.objects.get()
    detail = reverse("ops:mapping", args=[mapping.pk])
    changed = form | {"priceId": "price_2", "version": "1"}
    assert client.post(detail, changed).status_code == 302
    assert client.post(detail, changed).status_code == 400
    mapping.refresh_from_db()
    assert (mapping.price_id, mapping.version) == ("price_2", 2)
    assert client.post(reverse("ops:mapping-end", args=[mapping.pk])).status_code == 302
    assert client.get(detail).status_code == 200


def test_a_finding_is_decided_with_a_note(office: Office) -> None:
    found = finding(office, office.acme)
    url = reverse("ops:finding-decide", args=[found.pk])
    assert office.sign_in("viewer").post(url, {"state": "accepted"}).status_code == 403
    client = office.sign_in("maintainer")
    assert client.post(url, {"state": "accepted"}).status_code == 400
    assert client.post(url, {"state": "accepted", "note": "known"}).status_code == 302
    found.refresh_from_db()
    assert found.state == "accepted"
    theirs = finding(office, office.globex)
    url = reverse("ops:finding-decide", args=[theirs.pk])
    assert client.post(url, {"state": "accepted", "note": "x"}).status_code == 404


def test_an_expired_page_link_starts_anew(office: Office) -> None:
    answer = office.sign_in("viewer").get(reverse("ops:pushes"), {"cursor": "made-up"})
    assert answer.status_code == 200
    assert "starts anew" in answer.content.decode()


def test_old_periods_of_a_customer_can_be_opened(office: Office) -> None:
    client = office.sign_in("viewer")
    then = (clock.now() - timedelta(days=40)).strftime("%Y-%m-%dT%H:%M:%SZ")
    answer = client.get(reverse("ops:customer"), {"ref": "acme-customer", "at": then})
    assert "No usage in this period" in answer.content.decode()
