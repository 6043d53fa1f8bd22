"""The operators' pages in a real browser: no violation of the content security policy."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model

from stripemeter.lib import clock
from stripemeter.models import beat_heart
from tests.builders.tenancy import make_caller
from tests.support.processes import HttpProcess

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PASSWORD = "correct horse battery staple"
PAGES = (
    "/admin/",
    "/admin/tenancy/tenant/",
    "/admin/tenancy/tenant/add/",
    "/admin/tenancy/apikey/",
    "/admin/tenancy/apikey/add/",
    "/admin/tenancy/auditentry/",
    "/admin/tenancy/membership/add/",
    "/admin/auth/user/",
    "/docs",
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]


class Visitor:
    """A browser page that remembers what went wrong."""

    def __init__(self, page: Any, base: str) -> None:
        self.page, self.base = page, base
        self.wrong: list[str] = []
        page.set_default_timeout(240_000)  # ends a hang; a busy machine is none
        page.on("pageerror", lambda error: self.wrong.append(f"{page.url}: {error}"))
        page.on("console", self._console)

    def _console(self, message: Any) -> None:
        if message.location.get("url", "").endswith("/favicon.ico"):
            return  # the browser asks for it by itself
        if message.type == "error" or "Content Security Policy" in message.text:
            self.wrong.append(f"{self.page.url}: {message.text}")

    def go(self, path: str) -> None:
        """Open a page, with its scripts run."""
        self.page.goto(self.base + path, wait_until="load")

    def log_in(self) -> None:
        """As the operator."""
        self.go("/admin/login/?next=/admin/")
        self.page.fill("input[name=username]", "operator")
        self.page.fill("input[name=password]", PASSWORD)
        self.page.click("button[type=submit], input[type=submit]")
        self.page.wait_for_url(f"{self.base}/admin/")


@pytest.fixture
def visitor(web: HttpProcess) -> Iterator[Visitor]:
    playwright = pytest.importorskip("playwright.sync_api")
    make_caller("acme")
    get_user_model().objects.create_superuser("operator", password=PASSWORD)
    beat_heart("beat", now=clock.now())
    with playwright.sync_playwright() as starter:
        browser = starter.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield Visitor(browser.new_page(), web.url)
        browser.close()


def test_no_page_violates_the_policy_or_throws(visitor: Visitor) -> None:
    visitor.log_in()
    for path in PAGES:
        visitor.go(path)
    assert visitor.wrong == [], "\n".join(visitor.wrong)


def test_the_theme_works_without_eval(visitor: Visitor) -> None:
    visitor.log_in()
    visitor.page.set_viewport_size({"width": 1400, "height": 900})
    visitor.go("/admin/tenancy/")  # the home page has a frame of its own
    # Alpine takes x-cloak away once it has evaluated the page's expressions.
    visitor.page.wait_for_function("() => !document.documentElement.hasAttribute('x-cloak')")
    for path in ("/admin/tenancy/", "/admin/tenancy/tenant/"):
        visitor.go(path)
        visitor.page.evaluate("() => localStorage.removeItem('sidebarDesktopOpen')")
        visitor.go(path)
        visitor.page.locator("button[aria-label='Toggle sidebar']:visible").click()
        visitor.page.wait_for_function("() => localStorage.getItem('sidebarDesktopOpen') === '0'")
    assert visitor.wrong == [], "\n".join(visitor.wrong)


def test_a_key_is_made_in_the_browser_and_shown_once(visitor: Visitor) -> None:
    visitor.log_in()
    visitor.go("/admin/tenancy/apikey/add/")
    page = visitor.page
    page.select_option("select[name=tenant]", index=1, force=True)
    page.fill("input[name=name]", "from the browser")
    page.fill("input[name=current_password]", PASSWORD)
    page.click("button[name=_save], input[name=_save]")
    shown = page.locator("#new-api-key").inner_text()
    assert shown.startswith("sm_live_")
    visitor.go("/admin/tenancy/apikey/")
    assert "from the browser" in page.content()
    assert shown not in page.content()
    assert shown not in str(page.context.cookies())
    assert visitor.wrong == [], "\n".join(visitor.wrong)
