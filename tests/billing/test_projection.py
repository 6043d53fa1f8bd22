"""A projection prices exactly what the API shows as used, with Stripe's price as last read."""

import json
from datetime import timedelta

import pytest

from billing.models import PriceVersion
from billing.services.mirroring import refresh_prices
from billing.services.prices import store_price
from counters.models import Counter
from counters.services.fold import fold_everything
from stripemeter.demo.stripe_side import StripeSide
from stripemeter.lib import clock
from stripemeter.lib.instants import rfc3339
from tests.builders.tenancy import make_caller

pytestmark = pytest.mark.django_db

TIERS = [
    {"up_to": "10000", "unit_amount_decimal": "1"},
    {"up_to": "50000", "unit_amount_decimal": "0.8"},
    {"up_to": "inf", "unit_amount_decimal": "0.5"},
]


def post(client, caller, path, body):
    return client.post(
        path, json.dumps(body), content_type="application/json", headers=caller.headers
    )


def make_price(sandbox, settings, **amounts):
    with StripeSide.connect(sandbox.url, settings.STRIPE_SECRET_KEY) as stripe:
        meter = stripe.post(
            "/v1/billing/meters",
            {
                "display_name": "Calls",
                "event_name": "api_calls",
                "default_aggregation": {"formula": "sum"},
            },
        )
        product = stripe.post("/v1/products", {"name": "Calls"})
        price = stripe.post(
            "/v1/prices",
            {
                "currency": "usd",
                "product": product["id"],
                "recurring": {"interval": "month", "usage_type": "metered", "meter": meter["id"]},
                **amounts,
            },
        )
        return stripe.account(), price["id"]


def make_mapping(client, caller, account, price):
    body = {
        "tenantId": caller.tenant.key,
        "metric": "api_calls",
        "aggregation": "sum",
        "stripeAccount": account,
        "priceId": price,
    }
    answer = post(client, caller, "/v1/mappings", body)
    assert answer.status_code == 201, answer.content


def use(client, caller, quantity, customer="c"):
    event = {
        "tenantId": caller.tenant.key,
        "metric": "api_calls",
        "customerRef": customer,
        "quantity": quantity,
        "ts": rfc3339(clock.now() - timedelta(seconds=1)),
    }
    assert post(client, caller, "/v1/events/ingest", {"events": [event]}).status_code == 200


def project(client, caller, **fields):
    body = {"tenantId": caller.tenant.key, "customerRef": "c", **fields}
    return post(client, caller, "/v1/usage/projection", body)


@pytest.fixture
def acme(client):
    globex = make_caller("globex")
    use(client, globex, 999_999)
    return make_caller("acme")


def test_it_prices_tiers_as_stripe_does(client, acme, sandbox, settings):
    account, price = make_price(
        sandbox, settings, billing_scheme="tiered", tiers_mode="graduated", tiers=TIERS
    )
    make_mapping(client, acme, account, price)
    use(client, acme, 25_000)
    assert refresh_prices(now=clock.now()) == 1
    answer = project(client, acme).json()
    line = answer["lineItems"][0]
    assert (line["quantity"], line["total"], answer["total"]) == (25_000, 220, 220)
    assert [row["subtotal"] for row in line["breakdown"]] == [100, 120]
    assert answer["currency"] == "USD"
    assert answer["forecast"]["total"] >= answer["total"]


def test_used_but_unpriced_metrics_are_named(client, acme):
    use(client, acme, 5)
    answer = project(client, acme).json()
    assert answer["unpriced"] == ["api_calls"]
    assert answer["lineItems"] == []


def test_a_changed_price_is_a_new_version_and_the_old_one_stays(db):
    document = {"id": "price_1", "currency": "usd", "unit_amount": 5, "nickname": "a"}
    now = clock.now()
    for changed in (document, {**document, "nickname": "b"}, {**document, "unit_amount": 6}):
        store_price(account="acct_1", mode="live", document=changed, now=now)
    amounts = PriceVersion.objects.order_by("pk").values_list("document__unit_amount", flat=True)
    assert list(amounts) == [5, 6]


def test_a_projection_writes_nothing(client, acme):
    use(client, acme, 5)
    fold_everything(now=clock.now())
    before = list(Counter.objects.values())
    assert project(client, acme).status_code == 200
    assert project(client, acme, save=True).status_code == 400
    assert list(Counter.objects.values()) == before


def test_only_whole_billing_periods_are_projected(client, acme):
    month = clock.now().strftime("%Y-%m")
    assert project(client, acme, periodStart=f"{month}-01").status_code == 200
    for start, end in (
        (f"{month}-02", None),
        ("2025-13-01", None),
        ("2025-02-30", None),
        ("2025-03-01", "2025-02-01"),
        ("2025-03-01", "2025-03-01"),
        ("1900-01-01", "2100-01-01"),
    ):
        dates = {"periodStart": start} | ({"periodEnd": end} if end else {})
        assert project(client, acme, **dates).status_code == 400, dates


def local_mapping(client, caller, price):
    body = {
        "tenantId": caller.tenant.key,
        "metric": "api_calls",
        "aggregation": "sum",
        "stripeAccount": "default",
        "priceId": "price_1",
        "localPrice": price,
    }
    assert post(client, caller, "/v1/mappings", body).status_code == 201


def test_terms_make_the_total_of_a_projection(client, acme):
    local_mapping(client, acme, {"model": "flat", "currency": "USD", "unitPrice": "0.10"})
    use(client, acme, 1_000)

    def agree(caller=acme, **terms):
        data = json.dumps(terms)
        headers = caller.headers
        return client.put("/v1/terms", data, content_type="application/json", headers=headers)

    default = agree(taxRate=10, credits=[{"amount": 15, "reason": "promo"}])
    assert default.status_code == 200, default.content
    answer = project(client, acme).json()
    assert (answer["subtotal"], answer["credits"], answer["tax"], answer["total"]) == (
        100, 15, 8.5, 93.5,
    )  # fmt: skip
    own = {"customerRef": "c", "commitments": [{"amount": 60, "applied": 10}], "minimumSpend": 500}
    assert agree(**own).status_code == 200
    answer = project(client, acme).json()
    assert (answer["commitments"], answer["tax"], answer["total"]) == (50, 0, 50)
    assert answer["forecast"]["total"] >= 450  # the minimum spend counts at the period's end
    assert agree(customerRef="c", taxRate=101).status_code == 400
    assert agree(customerRef="c", credits=[{"amount": -1}]).status_code == 400
    listed = client.get("/v1/terms", headers=acme.headers).json()
    assert listed["total"] == 2
    globex = make_caller("globex")
    assert client.get("/v1/terms", headers=globex.headers).json()["total"] == 0
    assert client.delete("/v1/terms?customerRef=c", headers=globex.headers).status_code == 404
    assert client.delete("/v1/terms?customerRef=c", headers=acme.headers).status_code == 204
    assert project(client, acme).json()["total"] == 93.5


def test_the_forecast_names_the_day_of_a_cap_and_a_budget(client, acme):
    local_mapping(client, acme, {"model": "flat", "currency": "USD", "unitPrice": "0.10"})
    use(client, acme, 1_000)
    for rule in (
        {"type": "threshold", "metric": "api_calls", "threshold": 500, "action": "hard_cap"},
        {"type": "budget", "threshold": 10**9, "action": "email"},
    ):
        assert post(client, acme, "/v1/alerts", rule).status_code == 201
    found = project(client, acme).json()["forecast"]["milestones"]
    assert [(row["kind"], row["metric"], row["already"], row["on"]) for row in found] == [
        ("cap", "api_calls", True, None),
        ("budget", None, False, None),
    ]
