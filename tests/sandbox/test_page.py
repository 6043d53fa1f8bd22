"""The sandbox's own page, its clock, and what it may import."""

import subprocess
import sys
import urllib.request
from html.parser import HTMLParser
from pathlib import Path

from billing.stripe_sandbox.process import SandboxProcess
from tests.sandbox.builders import make_customer, make_meter, make_price, send

ROOT = Path(__file__).resolve().parents[2]


class Reader(HTMLParser):
    """Collects text and every address that a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(sandbox: SandboxProcess) -> Reader:
    with urllib.request.urlopen(sandbox.url, timeout=10) as answer:
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        reader = Reader()
        reader.feed(answer.read().decode())
    assert reader.open == []
    return reader


def test_an_empty_sandbox_says_so(sandbox):
    assert "No meter event has arrived yet." in read(sandbox).text


def test_the_page_shows_what_the_sandbox_holds_and_fetches_nothing_else(sandbox, client):
    meter = make_meter(client)
    customer = make_customer(client, name="<b>Acme & Sons</b>")
    price = make_price(client, meter.id, unit_amount=7)
    items = [{"price": price.id}]
    client.v1.subscriptions.create({"customer": customer, "items": items})
    send(client, customer, "12.50", identifier="shown")
    sandbox.fault("lose", path="/v1/billing/*")
    sandbox.configure(summary_lag_seconds=5)
    sandbox.advance(32 * 86_400)
    reader = read(sandbox)
    for text in ("api_calls", "<b>Acme & Sons</b>", "12.50", "shown", "lose", "88 usd minor units"):
        assert text in reader.text, text
    assert reader.addresses == ["data:,"]


def test_the_package_imports_without_django_and_without_our_applications():
    code = (
        "import sys, billing.stripe_sandbox.app, billing.stripe_sandbox.server;"
        "own = ('django', 'stripemeter', 'ledger', 'counters', 'reconciliation', 'stripe');"
        "print([name for name in own if name in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_clock_follows_a_shared_offset_file(tmp_path):
    offset = tmp_path / "offset"
    with SandboxProcess(clock_offset_file=offset) as sandbox:
        before = sandbox.now()
        offset.write_text("86400")
        assert 86_400 <= sandbox.now() - before < 86_460
        sandbox.advance(100)
        offset.write_text("0 ")
        assert 100 <= sandbox.now() - before < 160


def test_settings_and_clock_survive_a_restart(tmp_path):
    database = str(tmp_path / "sandbox.sqlite3")
    with SandboxProcess(db=database) as sandbox:
        sandbox.set_clock(1_900_000_000, freeze=True)
        sandbox.configure(invoice_payment="fail")
        sandbox.stop()
        sandbox.start()
        assert sandbox.now() == 1_900_000_000
        assert sandbox.control("GET", "settings")["invoice_payment"] == "fail"
