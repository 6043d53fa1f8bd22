"""Simulator and what-if on operator pages."""

from datetime import timedelta

from django.test import Client
from django.urls import reverse

from billing.models import SimulationScenario, WhatIfRun
from billing.services.simulations import Author, compute_pending, queue_run
from stripemeter.lib import clock
from tests.ops.conftest import Office


def test_the_simulator_prices_tier_by_tier_and_keeps_the_scenario(office: Office) -> None:
    office.mapping()
    client = office.sign_in("maintainer")
    url = reverse("ops:simulator")
    filled = client.get(url, {"customer": "acme-customer"}).content.decode()
    assert 'value="10"' in filled
    assert "1.00 USD" in filled
    tiers = (
        '{"model": "tiered", "currency": "USD", "tiers": [{"upTo": 10000, "unitPrice": 0.01},'
        '{"upTo": 50000, "unitPrice": 0.008}, {"upTo": null, "unitPrice": 0.005}]}'
    )
    form = {
        "quantity-api_calls": "25000", "price-api_calls": tiers, "credit": "20", "tax": "10",
        "name": "try", "save": "1",
    }  # fmt: skip
    page = client.post(url, form).content.decode()
    for text in ("220.00", "100.00", "120.00", "Credit", "20.00 </", "220.00"):
        assert text.replace(" </", "") in page
    kept = SimulationScenario.objects.get()
    author = Author(office.acme.pk, "t", clock.now())
    run = queue_run(author=author, scenario=kept, document=kept.document)
    compute_pending(now=clock.now())
    run.refresh_from_db()
    assert (run.status, run.result["total"]) == ("completed", "220")
    assert client.post(url, {"quantity-api_calls": "many"}).status_code == 400
    assert client.post(url, form | {"price-api_calls": "{"}).status_code == 400


def test_what_if_answers_with_a_chart_and_a_table(office: Office) -> None:
    office.mapping()
    client = office.sign_in("maintainer")
    url = reverse("ops:what-if")
    this = clock.now().date().replace(day=1)
    after = (this + timedelta(days=32)).replace(day=1)
    form = {"percent-api_calls": "25", "from": this.isoformat(), "to": after.isoformat()}
    assert office.sign_in("viewer").post(url, form).status_code == 400
    assert client.post(url, {"percent-api_calls": ""}).status_code == 400
    assert client.post(url, form).status_code == 302
    run = WhatIfRun.objects.get()
    page = client.get(reverse("ops:what-if-run", args=[run.pk]))
    text = page.content.decode()
    assert '<svg class="plot"' in text
    assert "+0.25 USD" in text
    assert "acme-customer" in text
    csv = client.get(reverse("ops:what-if-run", args=[run.pk]), {"format": "csv"})
    assert b"acme-customer,1,USD,1.00,1.25,0.25,25" in b"".join(csv.streaming_content)
    stranger: Client = office.sign_in("owner", name="theirs", tenant=office.globex)
    assert stranger.get(reverse("ops:what-if-run", args=[run.pk])).status_code == 404
    assert "acme" not in stranger.get(url).content.decode().lower()
