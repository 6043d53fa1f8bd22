"""The widget in a host page: allowed and foreign origins, live, expired, revoked, dark, narrow."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from tests.browser.axe import serious_findings
from tests.browser.conftest import CHROMIUM, CUSTOMER, Site, Visitor
from tests.ops.conftest import use

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser-widget"),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]

HOST = """<!doctype html><html lang="en"><head><title>Host</title></head><body><h1>Host</h1>
<div id="usage-widget"></div><script src="%(api)s/static/widget/embed.js"></script><script>
const mint = () => fetch("/token", {method: "POST"}).then((answer) => answer.json());
window.widget = StripeMeterWidget.initStripeMeterWidget("usage-widget", {
  apiUrl: "%(api)s", token: "%(token)s", theme: "auto", locale: "%(locale)s",
  renewToken: %(renew)s ? mint : undefined});
</script></body></html>"""


class Host:
    """A web page of the customer's application, on an origin of its own."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.locale, self.renews, self.token = "en", True, ""
        self.minted = 0
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = HOST % {
                    "api": site.url, "token": host.token, "locale": host.locale,
                    "renew": "true" if host.renews else "false",
                }  # fmt: skip
                self._send(page if self.path == "/" else "", "text/html; charset=utf-8")

            def do_POST(self) -> None:
                self._send(json.dumps(host.mint()), "application/json")

            def _send(self, body: str, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self.server.shutdown()
        self.server.server_close()

    def mint(self, **fields: Any) -> dict[str, Any]:
        """A session for this host's origin, through the API."""
        body = {"customerRef": CUSTOMER, "origins": [self.origin], **fields}
        answer = httpx.post(
            f"{self.site.url}/v1/widget/sessions", json=body, headers=self.site.acme.headers,
            trust_env=False, timeout=120,
        )  # fmt: skip
        answer.raise_for_status()
        self.minted += 1
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture
def host(site: Site) -> Iterator[Host]:
    host = Host(site)
    yield host
    host.close()


def open_widget(visitor: Visitor, host: Host) -> Any:
    """The widget's frame in the host page."""
    visitor.page.goto(f"{host.origin}/", wait_until="load")
    frame = visitor.page.frame_locator("#usage-widget iframe")
    frame.locator("#content .metric").first.wait_for()
    return frame


def test_it_shows_live_numbers_and_renews_its_token(site: Site, host: Host, visit: Any) -> None:
    minted = host.mint()
    host.token = minted["token"]
    visitor = visit()
    visitor.page.clock.install()
    frame = open_widget(visitor, host)
    before = frame.locator(".used strong").first.inner_text()
    height = visitor.page.locator("#usage-widget iframe").evaluate("(f) => f.style.height")
    assert height != "320px"
    use(site.acme.tenant, CUSTOMER, 1000)
    visitor.page.clock.fast_forward(31_000)
    frame.locator(".used strong", has_text="1,0").first.wait_for()
    assert before != frame.locator(".used strong").first.inner_text()
    # The session ends; the frame asks the host, which mints another, and goes on.
    site_url = f"{site.url}/v1/widget/sessions/{minted['id']}"
    httpx.delete(
        site_url, headers=site.acme.headers, trust_env=False, timeout=120
    ).raise_for_status()
    visitor.wrong.clear()
    visitor.page.clock.fast_forward(31_000)
    frame.locator("#notice").wait_for(state="hidden")
    use(site.acme.tenant, CUSTOMER, 1000)
    visitor.page.clock.fast_forward(31_000)
    frame.locator(".used strong", has_text="2,0").first.wait_for()
    visitor.wrong[:] = [line for line in visitor.wrong if " 401 of " not in line]


def test_a_revoked_session_says_so_and_keeps_its_last_numbers(host: Host, visit: Any) -> None:
    minted = host.mint()
    host.token, host.renews = minted["token"], False
    visitor = visit()
    visitor.page.clock.install()
    frame = open_widget(visitor, host)
    url = f"{host.site.url}/v1/widget/sessions/{minted['id']}"
    httpx.delete(
        url, headers=host.site.acme.headers, trust_env=False, timeout=120
    ).raise_for_status()
    visitor.page.clock.fast_forward(31_000)
    frame.locator("#notice", has_text="This view has ended").wait_for()
    assert frame.locator(".used strong").count()
    visitor.page.goto(f"{host.origin}/", wait_until="load")
    assert frame.locator(".metric").count() == 0
    visitor.wrong.clear()  # the frame of a dead token is refused, as it should be


@pytest.mark.large  # two browsers and a clock that jumps: run with -m large
def test_a_token_dies_by_the_clock_and_the_host_renews_it(host: Host, visit: Any) -> None:
    host.token, host.renews = host.mint()["token"], False
    visitor = visit()
    visitor.page.clock.install()
    frame = open_widget(visitor, host)
    renewed = Host(host.site)
    renewed.token = renewed.mint()["token"]
    other = visit()
    other.page.clock.install()
    second = open_widget(other, renewed)
    try:
        host.site.move_clock(16 * 60)
        visitor.page.clock.fast_forward(31_000)
        frame.locator("#notice", has_text="This view has ended").wait_for()
        assert frame.locator(".used strong").count(), "the last numbers stay"
        # The other host mints a new token when it is asked to, and its view goes on.
        with other.page.expect_response(
            lambda answer: "/usage/body" in answer.url and answer.status == 200
        ):
            other.page.clock.fast_forward(31_000)
        second.locator("#notice").wait_for(state="hidden")
        assert renewed.minted == 2
    finally:
        host.site.move_clock(0)
        renewed.close()
    for each in (visitor, other):
        each.wrong[:] = [line for line in each.wrong if " 401 of " not in line]


def test_a_foreign_origin_cannot_frame_it(site: Site, host: Host, visit: Any) -> None:
    foreign = Host(site)
    foreign.token = host.mint()["token"]
    visitor = visit()
    visitor.page.goto(f"{foreign.origin}/", wait_until="load")
    frame = visitor.page.frame_locator("#usage-widget iframe")
    assert frame.locator("#widget").count() == 0
    assert any("frame-ancestors" in line for line in visitor.wrong)
    visitor.wrong.clear()
    foreign.close()


def test_it_is_accessible_dark_narrow_and_in_five_languages(host: Host, visit: Any) -> None:
    words = {
        "en": "Cost so far",
        "de": "Bisherige Kosten",
        "es": "Coste hasta ahora",
        "fr": "Coût à ce jour",
        "ja": "現在までの料金",
    }
    for locale, scheme, width in (
        ("en", "light", 1200), ("de", "dark", 360), ("es", "light", 360), ("fr", "dark", 1200),
        ("ja", "light", 360),
    ):  # fmt: skip
        host.token, host.locale = host.mint()["token"], locale
        visitor = visit(color_scheme=scheme, viewport={"width": width, "height": 900})
        frame = open_widget(visitor, host)
        label = frame.locator(".sum .label").inner_text()
        assert label == words[locale]
        frame.locator("summary").last.click()
        frame.locator("[data-list] table").last.wait_for()
        inside = next(f for f in visitor.page.frames if "/widget/embed" in f.url)
        assert serious_findings(inside) == [], f"{locale} {scheme}"
        wide = inside.evaluate("() => document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{locale} at {width}"
