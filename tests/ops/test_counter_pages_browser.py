"""Replay, backfill, operations and periods in a real browser: narrow, dark, under the policy.

``SCREENSHOTS=/some/folder`` keeps a picture of each page, wide and narrow, light and dark.
"""

import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model

from counters.models import Counter
from counters.services import set_calendar
from ledger.models import Operation
from ledger.services import backfill, operations
from stripemeter.lib import clock
from stripemeter.tenancy.models import Membership
from tests.builders.tenancy import make_tenant
from tests.ops.conftest import use
from tests.support.processes import HttpProcess

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PASSWORD = "correct horse battery staple"
LOOKS = {
    "wide-light": (1400, "light"), "wide-dark": (1400, "dark"),
    "narrow-light": (360, "light"), "narrow-dark": (360, "dark"),
}  # fmt: skip
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]


class Desk:
    """An operator's page that remembers what went wrong."""

    def __init__(self, page: Any, base: str) -> None:
        self.page, self.base = page, base
        page.set_default_timeout(240_000)  # ends a hang; a busy machine is none
        self.wrong: list[str] = []
        page.on("pageerror", lambda error: self.wrong.append(f"{page.url}: {error}"))
        page.on("console", self._console)
        page.on("dialog", lambda dialog: dialog.accept())

    def _console(self, message: Any) -> None:
        if message.type == "error" and not message.location.get("url", "").endswith("favicon.ico"):
            self.wrong.append(f"{self.page.url}: {message.text}")

    def go(self, path: str) -> None:
        self.page.goto(self.base + path, wait_until="load")

    def look(self, name: str) -> None:
        """Nothing may stand out sideways on a phone; keep pictures when asked to."""
        folder = os.environ.get("SCREENSHOTS")
        for look, (width, scheme) in LOOKS.items() if folder else [("", (360, "light"))]:
            self.page.emulate_media(color_scheme=scheme)
            self.page.set_viewport_size({"width": width, "height": 900})
            if width == 360:
                over = self.page.evaluate("document.documentElement.scrollWidth")
                assert over <= 360, f"{name} is {over} px wide"
            if folder:
                self.page.screenshot(path=Path(folder) / f"{name}-{look}.png", full_page=True)


@pytest.fixture
def desk(web: HttpProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    # Playwright keeps an event loop in this thread, beside which Django refuses its database.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    playwright = pytest.importorskip("playwright.sync_api")
    acme = make_tenant("acme")
    make_tenant("globex")
    user = get_user_model().objects.create_user("maria", password=PASSWORD, is_staff=True)
    Membership.objects.create(tenant=acme, user=user, role="maintainer")
    for number in range(1, 4):
        use(acme, f"customer-{number}", number * 1_000)
    Counter.objects.filter(customer_ref="customer-2").update(sum=1)
    with playwright.sync_playwright() as starter:
        browser = starter.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        desk = Desk(browser.new_page(), web.url)
        desk.go("/admin/login/?next=/admin/")
        desk.page.fill("input[name=username]", "maria")
        desk.page.fill("input[name=password]", PASSWORD)
        desk.page.click("button[type=submit], input[type=submit]")
        desk.page.wait_for_url(f"{web.url}/admin/")
        yield desk
        browser.close()


def test_usage_is_replayed_backfilled_and_cut_anew_in_a_browser(desk: Desk, tmp_path: Path) -> None:
    page = desk.page
    desk.go("/admin/replay/")
    desk.look("replay")
    page.click("button:text-is('Compare')")
    page.wait_for_selector("text=1 counter differs from the events")
    desk.look("replay-looked")
    page.click("button:text-is('Set 1 counter right')")
    page.wait_for_selector("text=Updated 1 counters")
    assert Counter.objects.get(customer_ref="customer-2").sum == 2_000

    day = (clock.now() - timedelta(days=1)).date()
    file = tmp_path / "usage.csv"
    rows = [f"{day}T10:00:{n:02}Z,customer-{n % 4},{n},api_calls,x" for n in range(1, 30)]
    rows += [f"{day}T11:00:00Z,customer-1,many,api_calls,x", "yesterday,customer-1,3,api_calls,x"]
    file.write_text("\n".join(["wann,kunde,menge,metric,rest", *rows]))
    desk.go("/admin/backfill/")
    desk.look("backfill")
    page.set_input_files("#file", str(file))
    page.fill("#periodStart", day.isoformat())
    page.fill("#reason", "from the old system")
    page.click("button:text-is('Look at the file')")
    page.wait_for_selector("text=is missing")
    for place, name in enumerate(("ts", "customerRef", "quantity")):
        page.select_option(f"#field-{place}", name)
    page.click("button:text-is('Look at the file')")
    page.click("button:text-is('Store 29 rows')", trial=True)
    desk.look("backfill-looked")
    page.click("button:text-is('Store 29 rows')")
    page.wait_for_selector("text=a worker takes it")
    desk.look("operation-waiting")
    claimed = operations.claim(kind="backfill", now=clock.now())
    assert claimed is not None
    backfill.run_backfill(claimed, clock=clock.now)
    page.wait_for_selector("text=Completed")
    desk.look("operation-done")
    assert Operation.objects.get().result["accepted"] == 29
    desk.go("/admin/operations/")
    desk.look("operations")

    set_calendar(
        tenant_id=Operation.objects.get().tenant_id, customer_ref="customer-3",
        anchor=clock.now() - timedelta(days=400), interval="week", actor="t", now=clock.now(),
    )  # fmt: skip
    desk.go("/admin/periods/")
    desk.look("periods")
    desk.go("/admin/periods/?ref=customer-1")
    page.fill("#anchor", "2026-01-31T00:00")
    page.fill("#zone", "Europe/Berlin")
    page.click("button:text-is('Look at the change')")
    page.wait_for_selector("text=What the change would do")
    desk.look("periods-looked")
    page.click("button:text-is('Set this calendar')")
    page.wait_for_selector("text=Cut by a calendar of its own")
    desk.look("periods-set")
    assert desk.wrong == [], "\n".join(desk.wrong)
