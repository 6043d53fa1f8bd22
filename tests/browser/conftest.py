"""One web server and one browser per module, on a database with something on every page."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth import get_user_model

from billing.models import CustomerLink
from billing.services.mappings import Actor, create_mapping
from billing.stripe_sandbox.process import SandboxProcess
from counters.services.adjustments import create_adjustment
from ledger.models import EventConflict
from reconciliation.models import Finding
from stripemeter.demo.catalog import METRICS
from stripemeter.demo.stripe_side import StripeSide
from stripemeter.lib import clock, redisclient
from stripemeter.lib.decimals import decimal_of
from stripemeter.lib.periods import utc_month
from stripemeter.lib.ratelimit import limiter
from stripemeter.models import beat_heart
from stripemeter.tenancy.models import Membership
from tests.builders.tenancy import Caller, make_caller
from tests.ops.conftest import use
from tests.support.processes import HttpProcess, granian

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PASSWORD = "correct horse battery staple"
CUSTOMER = "acme-customer"
#: Every operator, by role; the second maintainer is the other pair of eyes.
PEOPLE = {"vera": "viewer", "mai": "maintainer", "max": "maintainer", "olga": "owner"}


@dataclass
class Site:
    """A running service with acme's data."""

    url: str
    acme: Caller
    price: str
    #: Seconds by which the service's clock is ahead of ours.
    offset: Path

    def move_clock(self, seconds: int) -> None:
        """The service lives so many seconds ahead from now on."""
        self.offset.write_text(str(seconds), encoding="ascii")


@pytest.fixture(scope="module")
def site(
    django_db_setup: None,
    django_db_blocker: Any,
    cluster: Any,
    sandbox_process: SandboxProcess,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """The service on committed data; the database is emptied afterwards."""
    from django.conf import settings

    from tests.conftest import _reset

    if sandbox_process.process is None or sandbox_process.process.poll() is not None:
        sandbox_process.start()
    sandbox_process.reset()
    names = ("STRIPE_API_BASE", "STRIPE_METER_EVENTS_BASE")
    before = {name: os.environ.get(name) for name in names}
    kept = {name: getattr(settings, name) for name in names}
    os.environ.update(dict.fromkeys(names, sandbox_process.url))
    for name in names:
        setattr(settings, name, sandbox_process.url)
    folder = Path(tmp_path_factory.mktemp("site"))
    offset = folder / "clock-offset"
    process = HttpProcess(
        granian, folder / "web.log", health="/health/live", env={"CLOCK_OFFSET_FILE": str(offset)}
    )
    with django_db_blocker.unblock():
        redisclient.client().flushdb()
        limiter.forget()
        try:
            site = furnish(process.url, sandbox_process, offset)
            process.start()
            yield site
        finally:
            process.stop(patience_s=3)
            _reset(cluster)
            for name in names:
                setattr(settings, name, kept[name])
                os.environ.pop(name) if before[name] is None else os.environ.update(
                    {name: str(before[name])}
                )


def furnish(url: str, sandbox: SandboxProcess, offset: Path) -> Site:
    """Usage, a mapping to a real price of the sandbox, people, and what waits for a decision."""
    from django.conf import settings

    acme = make_caller("acme")
    make_caller("globex")
    now = clock.now()
    for name, role in PEOPLE.items():
        user = get_user_model().objects.create_user(name, password=PASSWORD, is_staff=True)
        Membership.objects.create(tenant=acme.tenant, user=user, role=role)
    with StripeSide.connect(sandbox.url, settings.STRIPE_SECRET_KEY) as live:
        price = live.metered_price(METRICS[1], event_name="api_calls")
        customer = live.customer(CUSTOMER, "acme")
        live.subscription(customer, [price])
    CustomerLink.objects.create(
        tenant=acme.tenant, customer_ref=CUSTOMER, stripe_customer_id=customer,
        created_at=now, created_by="test",
    )  # fmt: skip
    for quantity in (3, 4, 5):
        use(acme.tenant, CUSTOMER, quantity)
    beat_heart("beat", now=now)
    waits_for_decisions(acme, price)
    return Site(url, acme, price, offset)


def waits_for_decisions(acme: Caller, price: str) -> None:
    """A correction, a conflict and a finding."""
    now, period = clock.now(), utc_month(clock.now())
    create_adjustment(
        tenant_id=acme.tenant.pk, metric="api_calls", customer_ref=CUSTOMER, period_start=now,
        delta=decimal_of(-2), reason="correction", actor="user:mai", now=now,
    )  # fmt: skip
    EventConflict.objects.create(
        tenant=acme.tenant, key=uuid4(), recorded_at=now, refused={"quantity": 5}
    )
    values = {"aggregation": "sum", "stripe_account": "default", "price_id": f"{price}old",
              "active": False}  # fmt: skip
    old = create_mapping(actor=Actor(acme.tenant.pk, "test", now), metric="old", values=values)
    Finding.objects.create(
        id=uuid4(), tenant=acme.tenant, mapping_id=old.pk, metric_id=old.metric_id,
        customer_ref=CUSTOMER, period_start=period.start, period_end=period.end, mode="live",
        cause="lost_at_stripe", severity="critical", units=5, first_run_id=uuid4(),
        last_run_id=uuid4(), opened_at=now, seen_at=now,
    )  # fmt: skip


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser. Playwright's loop runs in this thread, hence the word to Django."""
    playwright = pytest.importorskip("playwright.sync_api")
    patch = pytest.MonkeyPatch()
    patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    with playwright.sync_playwright() as starter:
        browser = starter.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
    patch.undo()


class Visitor:
    """A person's browser; it remembers violations, errors and failed requests."""

    def __init__(self, browser: Any, base: str, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(240_000)  # ends a hang; a busy machine is none
        self.page = self.context.new_page()
        self.base = base
        self.wrong: list[str] = []
        self.page.on("pageerror", lambda error: self.wrong.append(f"{self.page.url}: {error}"))
        self.page.on("console", self._console)
        self.page.on("response", self._response)
        self.page.on("dialog", lambda dialog: dialog.accept())

    def _console(self, message: Any) -> None:
        failed = message.text.startswith("Failed to load resource")
        if (message.type == "error" and not failed) or "Content Security" in message.text:
            self.wrong.append(f"{self.page.url}: {message.text}")

    def _response(self, response: Any) -> None:
        if response.status >= 400 and response.request.resource_type != "document":
            self.wrong.append(f"{self.page.url}: {response.status} of {response.url}")

    def go(self, path: str) -> None:
        """Open a page with its scripts run and its panels loaded."""
        self.page.goto(self.base + path, wait_until="load")
        self.page.wait_for_function("() => !document.querySelector('.panel.loading')")

    def sign_in(self, name: str) -> None:
        """By the form."""
        self.page.goto(f"{self.base}/admin/login/?next=/admin/", wait_until="load")
        self.page.fill("input[name=username]", name)
        self.page.fill("input[name=password]", PASSWORD)
        self.page.click("button[type=submit], input[type=submit]")
        self.page.wait_for_url(f"{self.base}/admin/")

    def text(self) -> str:
        """What the page says."""
        return str(self.page.locator("main").inner_text())


@pytest.fixture
def visit(chromium: Any, site: Site) -> Iterator[Any]:
    """``visit(name)``: a signed-in person's browser; nothing may go wrong in any of them."""
    visitors: list[Visitor] = []

    def start(name: str = "", **options: Any) -> Visitor:
        visitor = Visitor(chromium, site.url, **options)
        visitors.append(visitor)
        if name:
            visitor.sign_in(name)
        return visitor

    yield start
    wrong = [line for visitor in visitors for line in visitor.wrong]
    for visitor in visitors:
        visitor.context.close()
    assert wrong == [], "\n".join(wrong)
