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
#: Panels came, and Swagger UI has drawn its operations.
_READY = """() => !document.querySelector('.panel.loading') &&
  (!document.querySelector('#swagger-ui') || document.querySelector('.opblock'))"""


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
    """A drift, a correction, a conflict and a member; the tenant and a session's cookie."""
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


def operators_client() -> Any:
    """Who may do everything."""
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client()
    client.force_login(
        User.objects.get(username=OPERATOR), backend="django.contrib.auth.backends.ModelBackend"
    )
    return client


def addresses(client: Any, tenant: Any) -> dict[str, str]:
    """Name and address of every page."""
    from tests.browser.furnishing import further_addresses
    from tests.browser.pages import NOT_AN_OPERATORS, admin_lists, operator_routes, page_url

    found = further_addresses(_refs(tenant)[0])
    for route in operator_routes():
        if route.name in NOT_AN_OPERATORS or route.is_panel:
            continue
        url = page_url(route, tenant)
        answer = None if url is None else client.get(url)
        if answer is None:
            sys.stderr.write(f"{route.name}: nothing in the demo to show\n")
        elif not answer.streaming and b"<!DOCTYPE" in answer.content[:200]:
            # No act, fragment or file.
            found[route.name] = str(url)
    for url in admin_lists():
        if client.get(url).status_code == 200:  # tables of other libraries are closed to operators
            found[url.strip("/").replace("/", "-")] = url
    return found


def _refs(tenant: Any) -> list[str]:
    """Two customers: the one with the most usage, and one whose use is capped."""
    from counters.models import Counter

    rows = Counter.objects.filter(tenant_id=tenant.pk).order_by("-sum", "customer_ref")
    return list(rows.values_list("customer_ref", flat=True)[:2])


def widget(base: str, tenant: Any) -> dict[str, str]:
    """The widget's page: whole, compact, in every language, at a cap, without usage, refused."""
    from datetime import timedelta

    from django.conf import settings

    from stripemeter.lib import clock
    from stripemeter.tenancy.principals import Principal
    from widget.services import sessions

    principal = Principal(tenant.pk, tenant.key, "screenshots", frozenset({"widget:mint"}))

    def place(ref: str) -> str:
        minted = sessions.mint_session(
            principal=principal, customer_ref=ref, origins=[base],
            lifetime=timedelta(minutes=15), metrics=None, now=clock.now(),
        )  # fmt: skip
        return f"/widget/embed?token={minted.token}"

    largest, capped = _refs(tenant)
    whole = place(largest)
    return {
        "widget": whole,
        "widget-compact": f"{whole}&compact=1",
        "widget-capped": place(capped),
        "widget-empty": place("cust_without_usage"),
        "widget-refused": "/widget/embed?token=nonsense",
        **{f"widget-{code}": f"{whole}&locale={code}" for code, _ in settings.LANGUAGES},
    }


def shoot(
    base: str, cookie: str, pages: dict[str, str], made: dict[str, str], out: Path
) -> list[str]:
    """Open every page in every form; what went wrong on any.

    ``made`` is HTML by name of page, shown in the place of what its address would answer.
    """
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
                for name, html in made.items():
                    page.route(f"{base}{pages[name]}", _answer(html))
                for name, path in pages.items():
                    if name == "login":  # one who is signed in would see home
                        context.clear_cookies()
                    page.goto(base + path, wait_until="load", timeout=60_000)
                    page.wait_for_function(_READY)
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


def _answer(html: str) -> Any:
    return lambda route: route.fulfill(body=html, content_type="text/html")


def _heard(said: Any, wrong: list[str]) -> None:
    # A refusal has the status of one, which the browser reports of the page itself.
    if said.type == "error" and not said.text.startswith("Failed to load resource"):
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

    from billing.models import AlertRule
    from tests.browser.furnishing import made_pages, use_the_pages

    base = settings.PUBLIC_URL
    # Only addresses are asked for here, and nothing of Playwright's loop is running yet.
    tenant, cookie = furnish()
    settings.ALLOWED_HOSTS = ["*"]
    client = operators_client()
    if not AlertRule.objects.filter(tenant=tenant).exists():
        use_the_pages(client, capped=_refs(tenant)[1])
    made = made_pages(client)
    pages = addresses(client, tenant) | widget(base, tenant)
    pages |= {name: f"/shown/{name}" for name in made}
    if options.only:
        pages = {name: url for name, url in pages.items() if name in options.only}
        made = {name: html for name, html in made.items() if name in pages}
    options.out.mkdir(parents=True, exist_ok=True)
    wrong = shoot(base, cookie, pages, made, options.out)
    shots = len(pages) * len(WIDTHS) * len(THEMES)
    sys.stdout.write(f"{shots} screenshots of {len(pages)} pages in {options.out}\n")
    sys.stdout.write("".join(f"wrong: {line}\n" for line in sorted(set(wrong))))
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
