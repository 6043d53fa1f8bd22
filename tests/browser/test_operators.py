"""The operators' main paths in a real browser, and every page under axe-core."""

import re
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from billing.models import Push
from counters.models import Adjustment
from reconciliation.models import Finding
from tests.browser.axe import serious_findings
from tests.browser.conftest import CHROMIUM, CUSTOMER, PEOPLE, Site
from tests.browser.pages import NOT_AN_OPERATORS, operator_routes, page_url

pytestmark = [
    pytest.mark.browser,
    pytest.mark.large,  # minutes of Chromium: run with -m large
    pytest.mark.xdist_group("browser-operators"),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]


def pages(site: Site) -> dict[str, str]:
    """Every page an owner can open, by name; one that answers 405 is an act."""
    from django.contrib.auth import get_user_model

    client = Client()
    client.force_login(
        get_user_model().objects.get(username="olga"),
        backend="django.contrib.auth.backends.ModelBackend",
    )
    found = {}
    for route in operator_routes():
        url = page_url(route, site.acme.tenant)
        if route.name in NOT_AN_OPERATORS or route.is_panel or url is None:
            continue
        if client.get(url).status_code == 200:
            found[route.name] = url
    return found


def test_an_operator_maps_a_metric_and_its_usage_reaches_stripe(site: Site, visit: Any) -> None:
    mai = visit("mai")
    mai.go("/admin/mappings/new?metric=api_calls")
    page = mai.page
    if page.locator("select[name=metric]").count():
        page.select_option("select[name=metric]", "api_calls")
    else:
        page.fill("input[name=metric]", "api_calls")
    page.fill("input[name=priceId]", site.price)
    page.fill("input[name=stripeAccount]", "default")
    page.check("input[name=active]")
    page.locator("main form button.primary").last.click()
    page.wait_for_url(re.compile(r"/admin/mappings/[0-9a-f-]{36}"))
    call_command("push")
    push = Push.objects.get(customer_ref=CUSTOMER)
    assert push.state == "acknowledged"
    mai.go("/admin/pushes/")
    page.locator(f"main a[href$='{push.id}']").click()
    page.wait_for_url(re.compile(r"/admin/pushes/[0-9a-f-]{36}"))
    assert "acknowledged" in mai.text()


def test_a_finding_is_explained_and_a_viewer_only_reads_it(site: Site, visit: Any) -> None:
    finding = Finding.objects.filter(cause="lost_at_stripe").latest("opened_at")
    vera = visit("vera")
    vera.go(f"/admin/findings/{finding.pk}")
    assert vera.page.locator("textarea[name=note]").count() == 0
    max_ = visit("max")
    max_.go("/admin/findings/")
    max_.page.get_by_role("link", name=re.compile(r"\d{4}-")).first.click()
    max_.page.fill("textarea[name=note]", "Known import.")
    max_.page.get_by_role("button", name="Explain", exact=True).click()
    max_.page.wait_for_function("() => document.body.innerText.includes('Recorded.')")
    finding.refresh_from_db()
    assert finding.state == "explained"


def test_a_correction_is_approved_by_a_second_person(site: Site, visit: Any) -> None:
    waiting = Adjustment.objects.get(status="pending")
    mai = visit("mai")
    mai.go("/admin/adjustments/")
    approve = mai.page.locator(f"form[action*='{waiting.pk}/approve'] button")
    if approve.count():  # the page may hide what is refused anyway
        approve.click()
        mai.page.wait_for_load_state("load")
    waiting.refresh_from_db()
    assert waiting.status == "pending"
    max_ = visit("max")
    max_.go("/admin/adjustments/")
    max_.page.locator(f"form[action*='{waiting.pk}/approve'] button").click()
    max_.page.wait_for_function("() => document.body.innerText.includes('it counts now')")
    max_.go(f"/admin/customers/customer?ref={CUSTOMER}")
    assert "10" in max_.page.locator(".metric-card .big").first.inner_text()


def test_the_keyboard_reaches_content_menu_and_search(visit: Any) -> None:
    vera = visit("vera")
    vera.go("/admin/")
    vera.page.keyboard.press("Tab")
    assert vera.page.evaluate("() => document.activeElement.className") == "skip"
    vera.page.keyboard.press("Enter")
    assert vera.page.evaluate("() => document.activeElement.id") == "main"
    vera.page.fill("#find", CUSTOMER[:6])
    vera.page.keyboard.press("Enter")
    vera.page.wait_for_url(re.compile("customers/customer"))
    narrow = visit("vera", viewport={"width": 360, "height": 800}, color_scheme="dark")
    narrow.go("/admin/")
    menu = narrow.page.locator("[data-menu]")
    menu.focus()
    narrow.page.keyboard.press("Enter")
    assert menu.get_attribute("aria-expanded") == "true"
    assert narrow.page.get_by_role("link", name="Customers", exact=True).first.is_visible()


def test_no_page_has_a_serious_finding_or_runs_sideways(site: Site, visit: Any) -> None:
    light = visit("olga")
    dark = visit("olga", color_scheme="dark", viewport={"width": 360, "height": 800})
    everything = {"login": "/admin/login/", **pages(site)}
    assert len(everything) > 20
    wrong = []
    for name, url in everything.items():
        for look, visitor in (("light", light), ("dark", dark)):
            visitor.go(url)
            wrong += [f"{name} ({look}): {line}" for line in serious_findings(visitor.page)]
            width = visitor.page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
            if width > 0:
                wrong.append(f"{name} ({look}): {width} px too wide")
    assert wrong == [], "\n".join(wrong)


def test_everybody_signs_in(visit: Any) -> None:
    for name, role in PEOPLE.items():
        assert role in visit(name).page.locator("header .who").inner_text()
