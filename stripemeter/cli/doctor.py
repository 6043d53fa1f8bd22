"""``stripemeter doctor``: checks a set-up end to end and says what to do."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import click
import httpx

from stripemeter.cli.session import FAILED, Session
from stripemeter.lib import clock

SKEW_SECONDS_MAX = 60
_SECRET_WORDS = ("SECRET", "KEY", "PASSWORD", "PEPPER", "TOKEN")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: ``state`` is ok, warn or bad; ``told`` says what to do."""

    state: str
    name: str
    told: str


@click.command()
@click.pass_obj
def doctor(session: Session) -> None:
    """Check the set-up end to end; exit 1 if something is bad."""
    worst = 0
    for check in _checks(session):
        colour = {"ok": "green", "warn": "yellow", "bad": "red"}[check.state]
        click.echo(f"{click.style(check.state.ljust(4), fg=colour)} {check.name}: {check.told}")
        worst = max(worst, {"ok": 0, "warn": 0, "bad": FAILED}[check.state])
    sys.exit(worst)


def _checks(session: Session) -> Iterator[Check]:
    try:
        answer = httpx.get(f"{session.url}/health/ready", timeout=10, trust_env=False)
    except httpx.TransportError as error:
        yield Check("bad", "service", f"{session.url} cannot be reached ({error}); is it running?")
        return
    yield from _service(answer)
    yield _clock(answer)
    try:
        metrics = session.call("GET", "/v1/metrics")["metrics"]
    except click.ClickException as error:
        yield Check("bad", "API key", f"{error.message}; make one with manage.py apikey create")
        return
    yield Check("ok", "API key", f"works for tenant {session.tenant}")
    yield from _mapped(session, metrics)
    for found in session.call("GET", "/v1/diagnosis")["findings"]:
        yield Check(found["state"], found["name"], found["told"])


def _service(answer: httpx.Response) -> Iterator[Check]:
    try:
        body = answer.json()
    except ValueError:
        yield Check("bad", "service", "does not answer as StripeMeter does; check the address")
        return
    details = body.get("details", {})
    for name, fine in body.get("checks", {}).items():
        told = details.get(name, "answers" if fine else "fails")
        yield Check("ok" if fine else "bad", name, told)
    if not body.get("checks"):
        state = "ok" if answer.status_code == 200 else "bad"
        yield Check(state, "service", body.get("status", "unknown"))


def _clock(answer: httpx.Response) -> Check:
    stated = answer.headers.get("Date")
    if not stated:
        return Check("warn", "clock", "the service sends no Date header")
    skew = abs((parsedate_to_datetime(stated) - clock.now()).total_seconds())
    if skew > SKEW_SECONDS_MAX:
        return Check(
            "bad", "clock", f"this machine and the service differ by {skew:.0f} s; use NTP"
        )
    return Check("ok", "clock", f"differs by {skew:.0f} s")


def _mapped(session: Session, metrics: list[dict[str, Any]]) -> Iterator[Check]:
    query = {"tenantId": session.tenant}
    mappings = [row for row in session.call("GET", "/v1/mappings", query=query) if row["active"]]
    by_metric = {row["metric"]: row for row in mappings}
    for metric in metrics:
        mapping = by_metric.get(metric["name"])
        if mapping is None:
            told = "is used but not mapped to a price: POST /v1/mappings"
            yield Check("warn", f"metric {metric['name']}", told)
        elif mapping["aggregation"] != metric["aggregation"]:
            told = f"counts {metric['aggregation']}, its mapping bills {mapping['aggregation']}"
            yield Check("bad", f"metric {metric['name']}", told)
        else:
            yield Check("ok", f"metric {metric['name']}", f"billed by {mapping['priceId']}")
    if not metrics:
        yield Check("warn", "metrics", "none yet: send an event, or POST /v1/metrics")


@click.command("explain-config")
def explain_config() -> None:
    """Print the variables of this shell that the service would read; secrets are masked."""
    prefixes = ("STRIPEMETER_", "STRIPE_", "DATABASE_", "REDIS_", "TENANT_", "PUSH_", "LOG_")
    for name in sorted(os.environ):
        if name.startswith(prefixes):
            secret = any(word in name for word in _SECRET_WORDS) or name.endswith("_URL")
            click.echo(f"{name}={'(set)' if secret else os.environ[name]}")
