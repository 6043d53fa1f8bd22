"""What production refuses: the rules alone, without Django, read by settings and by checks.

Settings stop the process at once when a rule is broken, so no command and no worker
starts unsafely; `stripemeter.checks` shows the same rules to `manage.py check`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any
from urllib.parse import urlsplit

#: Settings that hold a secret, and the variable each comes from.
SECRETS = {
    "SECRET_KEY": "STRIPEMETER_SECRET_KEY",
    "API_KEY_PEPPER": "STRIPEMETER_API_KEY_PEPPER",
    "WIDGET_SIGNING_KEY": "STRIPEMETER_WIDGET_SIGNING_KEY",
}
SECRET_LENGTH_MIN = 32
#: Django's own deployment check asks this of its key.
DJANGO_KEY_LENGTH_MIN = 50
_DISTINCT_MIN = 10
_GIVEAWAYS = ("development", "changeme", "change-me", "insecure", "example", "for-tests")
#: `stripe listen` prints secrets of this shape: they sign test events only.
_CLI_WEBHOOK_SECRET = re.compile(r"whsec_[0-9a-f]{64}")
MAKE_ONE = "Make one with: python -c 'import secrets; print(secrets.token_urlsafe(48))'"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A broken rule: its check id, what is wrong, what to do."""

    id: str
    message: str
    hint: str


def refusals(values: Mapping[str, Any]) -> list[Refusal]:
    """Every rule that the settings in ``values`` break."""
    return [refusal for rule in _RULES for refusal in rule(values)]


def _debug(values: Mapping[str, Any]) -> Iterator[Refusal]:
    if values["DEBUG"]:
        yield Refusal("E001", "DEBUG is on", "Unset STRIPEMETER_DEBUG.")


def _secrets(values: Mapping[str, Any]) -> Iterator[Refusal]:
    for setting, variable in SECRETS.items():
        secret = values[setting]
        shortest = DJANGO_KEY_LENGTH_MIN if setting == "SECRET_KEY" else SECRET_LENGTH_MIN
        if len(secret) < shortest:
            yield Refusal("E002", f"{variable} is shorter than {shortest} characters", MAKE_ONE)
        elif len(set(secret)) < _DISTINCT_MIN or any(w in secret.lower() for w in _GIVEAWAYS):
            yield Refusal("E003", f"{variable} is a default or a guessable value", MAKE_ONE)


def _distinct_secrets(values: Mapping[str, Any]) -> Iterator[Refusal]:
    named = {variable: values[setting] for setting, variable in SECRETS.items()}
    named |= {f"STRIPE_WEBHOOK_SECRET[{i}]": s for i, s in enumerate(_webhook_secrets(values))}
    for (first, one), (second, other) in combinations(named.items(), 2):
        if one and one == other:
            yield Refusal("E004", f"{first} and {second} are the same secret", MAKE_ONE)


def _open_demo(values: Mapping[str, Any]) -> Iterator[Refusal]:
    if values["OPEN_DEMO_TENANT"]:
        yield Refusal(
            "E005",
            "The open demo is on: it answers without a key",
            "Unset STRIPEMETER_OPEN_DEMO_TENANT.",
        )


def _test_switches(values: Mapping[str, Any]) -> Iterator[Refusal]:
    if values["FAULT_POINTS"]:
        yield Refusal(
            "E006", "Fault points are on: they crash it", "Unset STRIPEMETER_FAULT_POINTS."
        )
    if values["CLOCK_OFFSET_FILE"]:
        yield Refusal("E007", "The clock is moved by a file", "Unset CLOCK_OFFSET_FILE.")


def _hosts(values: Mapping[str, Any]) -> Iterator[Refusal]:
    hosts = values["ALLOWED_HOSTS"]
    if not hosts or "*" in hosts:
        yield Refusal(
            "E008", "No host names, or every one, are allowed", "Set STRIPEMETER_ALLOWED_HOSTS."
        )
    if urlsplit(values["PUBLIC_URL"]).scheme != "https":
        yield Refusal(
            "E009", "The public address is not https", "Set STRIPEMETER_PUBLIC_URL=https://..."
        )


def _stripe_keys(values: Mapping[str, Any]) -> Iterator[Refusal]:
    live, test = values["STRIPE_SECRET_KEY"], values["STRIPE_TEST_SECRET_KEY"]
    if live and not live.startswith(("sk_live_", "rk_live_")):
        yield Refusal(
            "E010",
            "STRIPE_SECRET_KEY is no live key",
            "Test keys belong in STRIPE_TEST_SECRET_KEY.",
        )
    if test and not test.startswith(("sk_test_", "rk_test_")):
        yield Refusal(
            "E011",
            "STRIPE_TEST_SECRET_KEY is no test key",
            "Live keys belong in STRIPE_SECRET_KEY.",
        )


def _stripe_webhooks(values: Mapping[str, Any]) -> Iterator[Refusal]:
    secrets = _webhook_secrets(values)
    for secret in secrets:
        weak = len(secret) < SECRET_LENGTH_MIN or any(w in secret.lower() for w in _GIVEAWAYS)
        if weak or not secret.startswith("whsec_"):
            yield Refusal(
                "E012",
                "STRIPE_WEBHOOK_SECRET is no signing secret of Stripe (whsec_...)",
                "Copy it from the endpoint's page in Stripe's dashboard.",
            )
        elif values["STRIPE_SECRET_KEY"] and _CLI_WEBHOOK_SECRET.fullmatch(secret):
            yield Refusal(
                "E013",
                "A live key with a webhook secret of `stripe listen`, which signs test events",
                "Set STRIPE_WEBHOOK_SECRET to the live endpoint's signing secret.",
            )
    if values["STRIPE_SECRET_KEY"] and not secrets:
        yield Refusal(
            "E014",
            "A live key without STRIPE_WEBHOOK_SECRET: Stripe's refusals would go unheard",
            "Add an endpoint in Stripe's dashboard and set its signing secret.",
        )


def _stripe_address(values: Mapping[str, Any]) -> Iterator[Refusal]:
    for name in ("STRIPE_API_BASE", "STRIPE_METER_EVENTS_BASE"):
        parts = urlsplit(values[name])
        ours = parts.hostname or ""
        if parts.scheme != "https" or not (ours == "stripe.com" or ours.endswith(".stripe.com")):
            yield Refusal("E015", f"{name} does not lead to Stripe", f"Unset {name}.")


def _webhook_secrets(values: Mapping[str, Any]) -> list[str]:
    return list(values["STRIPE_WEBHOOK_SECRETS"])


_RULES: tuple[Callable[[Mapping[str, Any]], Iterator[Refusal]], ...] = (
    _debug,
    _secrets,
    _distinct_secrets,
    _open_demo,
    _test_switches,
    _hosts,
    _stripe_keys,
    _stripe_webhooks,
    _stripe_address,
)
