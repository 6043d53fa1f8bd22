"""Pages outside the frame (sign-in, refusals), and how stored documents and money are written."""

from decimal import Decimal
from uuid import uuid4

import pytest
from django.test import Client, RequestFactory
from django.urls import reverse

from ledger.models import EventConflict
from stripemeter.errorpages import server_error
from stripemeter.lib import clock, requestid
from stripemeter.lib.decimals import grouped
from stripemeter.templatetags.figures import money, unit_price, words
from tests.ops.conftest import Office, use


@pytest.mark.django_db
def test_refusals_are_pages_of_ours_that_say_what_to_do() -> None:
    missing = Client().get("/no-such-page")
    assert missing.status_code == 404
    assert "Nothing is at this address" in missing.content.decode()
    stale = Client(enforce_csrf_checks=True).post("/admin/login/", {"username": "x"})
    assert stale.status_code == 403
    assert "This form has expired" in stale.content.decode()
    request_id = requestid.begin(None)
    failed = server_error(RequestFactory().get("/admin/"))
    assert failed.status_code == 500
    assert request_id in failed.content.decode()


@pytest.mark.django_db
def test_too_many_failed_sign_ins_end_on_a_page_that_says_for_how_long() -> None:
    form = {"username": "nobody", "password": "wrong"}
    answers = [Client().post("/admin/login/", form) for _ in range(9)]
    assert "do not match" in answers[0].content.decode()
    assert answers[-1].status_code == 429
    assert "locked for a quarter of an hour" in answers[-1].content.decode()


def test_a_browser_may_name_its_origin_where_it_signs_in_or_takes_an_invitation(
    office: Office,
) -> None:
    # Under no-referrer a browser sends "Origin: null" with the form, which is refused as forged.
    invitation = Client().get(reverse("ops:invitation", args=["x", "x"]))
    for page in (invitation, Client().get("/admin/login/")):
        assert "no-referrer" not in page.content.decode()
        assert page["Referrer-Policy"] == "same-origin"


def test_a_refused_form_leads_back_to_its_page_and_never_to_a_strangers(office: Office) -> None:
    owner = office.sign_in("owner")
    form = {"customerRef": "acme-customer", "metric": "api_calls", "delta": "lots"}
    page = f"http://testserver{reverse('ops:adjustments')}"
    for came_from, is_ours in ((page, True), ("http://evil.example/", False)):
        refused = owner.post(reverse("ops:adjustment-new"), form, headers={"Referer": came_from})
        assert refused.status_code == 400
        assert (f'href="{came_from}" data-back' in refused.content.decode()) is is_ours
        assert "evil" not in refused.content.decode()


def test_who_signs_out_comes_to_the_sign_in_page(office: Office) -> None:
    left = office.sign_in("viewer").post("/admin/logout/")
    assert left["Location"] == "/admin/login/"


def test_a_refused_event_is_shown_as_the_json_that_came_in(office: Office) -> None:
    refused = {"metric": "api_calls", "quantity": 5, "meta": {"ok": True}}
    EventConflict.objects.create(
        tenant=office.acme, key=uuid4(), recorded_at=clock.now(), refused=refused
    )
    page = office.sign_in("viewer").get(reverse("ops:inbox")).content.decode()
    assert "&quot;quantity&quot;: 5" in page
    assert "&quot;ok&quot;: true" in page


def test_the_preview_of_a_mapping_begins_with_who_has_most_of_what_is_billed(
    office: Office,
) -> None:
    for _ in range(3):
        use(office.acme, "many-small", 60)  # 180 together, 60 at most
    use(office.acme, "one-large", 100)
    form = {
        "metric": "api_calls", "aggregation": "max", "pushSemantics": "increment",
        "stripeAccount": "default", "priceId": "price_new", "unitFactor": "1",
        "valueDecimals": "0", "active": "on",
    }  # fmt: skip
    owner = office.sign_in("owner")
    by_max = owner.post(reverse("ops:mapping-check"), form).content.decode()
    assert by_max.index("one-large") < by_max.index("many-small") < by_max.index("acme-customer")
    by_sum = owner.post(reverse("ops:mapping-check"), form | {"aggregation": "sum"})
    assert by_sum.content.decode().index("many-small") < by_sum.content.decode().index("one-large")


def test_money_has_its_currencys_places_and_every_digit_of_a_price() -> None:
    assert money(Decimal(1250), "usd") == "12.50 USD"
    assert money(Decimal("-7.5"), "usd") == "-0.075 USD"
    assert money(1250, "jpy") == "1,250 JPY"
    assert (money(None, "usd"), money(5, None)) == ("–", "–")
    assert unit_price(Decimal("0.4"), "usd") == "0.40 USD"
    assert unit_price(Decimal("0.0002"), "usd") == "0.0002 USD"
    assert grouped(Decimal("1234567.5"), 2) == "1,234,567.50"
    assert grouped(Decimal(-1000)) == "-1,000"


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("lost_at_stripe", "lost at Stripe"),
        ("seenAs", "seen as"),
        ("stripeTotal", "Stripe total"),
        ("drift", "drift"),
    ],
)
def test_codes_and_wire_names_are_shown_as_words(code: str, shown: str) -> None:
    assert words(code) == shown
