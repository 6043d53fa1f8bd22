"""``make screenshots``: every page, light and dark, wide and narrow, as PNG files in a folder.

Starts a demo of its own (three minutes) unless ``--runtime`` names the folder of one that runs.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = (1600, 360)
THEMES = ("light", "dark")
OPERATOR = "screenshots"


@contextmanager
def demo() -> Iterator[Path]:
    """A demo of its own with its data; gone afterwards."""
    from stripemeter.runtime.processes import free_port, wait_until

    with tempfile.TemporaryDirectory(prefix="stripemeter-screens-") as folder:
        environ = {
            **os.environ, "STRIPEMETER_RUNTIME_DIR": folder, "STRIPEMETER_PORT": str(free_port())
        }  # fmt: skip
        command = [sys.executable, "manage.py", "up", "--demo"]
        process = subprocess.Popen(command, cwd=ROOT, env=environ)
        try:
            marker = Path(folder) / "demo-data"
            done = wait_until(
                lambda: marker.exists() or process.poll() is not None, timeout_s=600, step_s=1
            )
            if not done or process.poll() is not None:
                raise SystemExit("the demo did not come up")
            yield Path(folder)
        finally:
            process.terminate()
            process.wait(timeout=60)


def furnish() -> tuple[Any, str]:
    """Something on every page: a drift, corrections, a conflict, a member; the session cookie."""
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.auth.models import User
    from django.contrib.sessions.backends.db import SessionStore
    from django.core.management import call_command

    from counters.models import Counter
    from counters.services.adjustments import create_adjustment
    from ledger.models import EventConflict
    from stripemeter.lib import clock
    from stripemeter.lib.decimals import decimal_of
    from stripemeter.tenancy.models import Membership, Tenant

    tenant = Tenant.objects.get(key="demo")
    now = clock.now()
    user, is_new = User.objects.get_or_create(
        username=OPERATOR, defaults={"is_staff": True, "email": "operator@example.com"}
    )
    if is_new:
        user.set_password(str(uuid4()))
        user.save()
        Membership.objects.create(tenant=tenant, user=user, role="owner")
        guest = User.objects.create_user("mai", email="mai@example.com", is_staff=True)
        Membership.objects.create(tenant=tenant, user=guest, role="maintainer")
        call_command("demo_drift", "lost_at_stripe", tenant="demo", stdout=sys.stderr)
        counter = Counter.objects.filter(tenant_id=tenant.pk).order_by("-sum").first()
        assert counter is not None
        create_adjustment(
            tenant_id=tenant.pk, metric="api_calls", customer_ref=counter.customer_ref,
            period_start=counter.period_start, delta=decimal_of("-1200"), reason="correction",
            actor="user:mai", now=now, note="Double import of 12 November",
        )  # fmt: skip
        EventConflict.objects.create(
            tenant=tenant, key=uuid4(), recorded_at=now,
            refused={"metric": "api_calls", "customerRef": counter.customer_ref, "quantity": 5},
        )  # fmt: skip
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[-1]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return tenant, str(session.session_key)


def addresses(tenant: Any) -> dict[str, str]:
    """Name and address of every page."""
    from django.test import Client

    from tests.browser.pages import NOT_AN_OPERATORS, admin_lists, operator_routes, page_url

    client = Client()
    from django.contrib.auth.models import User

    client.force_login(
        User.objects.get(username=OPERATOR), backend="django.contrib.auth.backends.ModelBackend"
    )
    found = {"login": "/admin/login/", "docs": "/docs"}
    for route in operator_routes():
        if route.name in NOT_AN_OPERATORS or route.is_panel:
            continue
        url = page_url(route, tenant)
        if url is None:
            sys.stderr.write(f"{route.name}: nothing in the demo to show\n")
        elif client.get(url).status_code != 405:  # an act, not a page
            found[route.name] = url
    for url in admin_lists():
        if client.get(url).status_code == 200:  # tables of other libraries are closed to operators
            found[url.strip("/").replace("/", "-")] = url
    return found


def widget(base: str, tenant: Any) -> dict[str, str]:
    """The widget's page of the largest customer, whole and compact."""
    from datetime import timedelta

    from counters.models import Counter
    from stripemeter.lib import clock
    from stripemeter.tenancy.principals import Principal
    from widget.services import sessions

    counter = Counter.objects.filter(tenant_id=tenant.pk).order_by("-sum").first()
    assert counter is not None
    principal = Principal(tenant.pk, tenant.key, "screenshots", frozenset({"widget:mint"}))
    minted = sessions.mint_session(
        principal=principal, customer_ref=counter.customer_ref, origins=[base],
        lifetime=timedelta(minutes=15), metrics=None, now=clock.now(),
    )  # fmt: skip
    place = f"/widget/embed?token={minted.token}"
    return {"widget": place, "widget-compact": f"{place}&compact=1"}


def shoot(base: str, cookie: str, pages: dict[str, str], out: Path) -> list[str]:
    """Open every page in every form; what went wrong on any."""
    from playwright.sync_api import sync_playwright

    wrong: list[str] = []
    signed_in: Any = {"name": "sessionid", "value": cookie, "url": base}
    with sync_playwright() as starter:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = starter.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width in WIDTHS:
            for theme in THEMES:
                context = browser.new_context(
                    viewport={"width": width, "height": 900}, color_scheme=theme
                )
                context.add_cookies([signed_in])
                page = context.new_page()
                page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
                page.on("console", lambda said: _heard(said, wrong))
                for name, path in pages.items():
                    if name == "login":  # one who is signed in would see home
                        context.clear_cookies()
                    page.goto(base + path, wait_until="load", timeout=60_000)
                    page.wait_for_function("() => !document.querySelector('.panel.loading')")
                    sideways = page.evaluate(
                        "() => document.documentElement.scrollWidth - innerWidth"
                    )
                    if sideways > 0:
                        wrong.append(f"{name} at {width}: {sideways} px too wide")
                    page.screenshot(path=str(out / f"{name}-{width}-{theme}.png"), full_page=True)
                    if name == "login":
                        context.add_cookies([signed_in])
                context.close()
        browser.close()
    return wrong


def _heard(said: Any, wrong: list[str]) -> None:
    if said.type == "error":
        wrong.append(f"{said.location.get('url')}: {said.text}")


def main() -> None:
    """Shoot, and say what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "screenshots")
    parser.add_argument("--runtime", type=Path, help="runtime folder of a demo that runs")
    parser.add_argument("--only", nargs="*", help="names of pages")
    options = parser.parse_args()
    if options.runtime is None:
        with demo() as folder:
            _main(folder, options)
    else:
        _main(options.runtime, options)


def _main(folder: Path, options: argparse.Namespace) -> None:
    os.environ["STRIPEMETER_RUNTIME_DIR"] = str(folder)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "stripemeter.settings")
    import django

    django.setup()
    from django.conf import settings

    base = settings.PUBLIC_URL
    # Only addresses are asked for here, and nothing of Playwright's loop is running yet.
    tenant, cookie = furnish()
    settings.ALLOWED_HOSTS = ["*"]
    pages = addresses(tenant) | widget(base, tenant)
    if options.only:
        pages = {name: url for name, url in pages.items() if name in options.only}
    options.out.mkdir(parents=True, exist_ok=True)
    wrong = shoot(base, cookie, pages, options.out)
    shots = len(pages) * len(WIDTHS) * len(THEMES)
    sys.stdout.write(f"{shots} screenshots of {len(pages)} pages in {options.out}\n")
    sys.stdout.write("".join(f"wrong: {line}\n" for line in sorted(set(wrong))))
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
