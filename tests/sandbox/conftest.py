"""Fixtures: the sandbox in its own process, driven by the real `stripe` SDK over HTTP."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import stripe

from billing.stripe_sandbox.process import SandboxProcess
from tests.sandbox import description

VERSION = "2026-08-26.dahlia"
TEST_KEY = "sk_test_forTheSandboxOnly0000001"
LIVE_KEY = "sk_live_forTheSandboxOnly0000001"

NOT_DESCRIBED = ("/v1/account", "/v1/disputes")
"""Paths that the trimmed description leaves out."""


class CheckingClient(stripe.RequestsClient):
    """The SDK's own HTTP client; checks what goes over it against the description.

    Without the description it only passes on: `description_checked` tells so.
    """

    def __init__(self) -> None:
        super().__init__(timeout=30)
        self.sent = 0
        self.calls: list[tuple[str, str, Mapping[str, str], Any]] = []

    def request(self, method: str, url: str, headers: Any, post_data: Any = None) -> Any:
        self.calls.append((method, url, headers, post_data))
        content, status, answer_headers = super().request(method, url, headers, post_data)
        self.sent += 1
        if self._checks(url, headers):
            self._check(method, url, post_data, status, content)
        return content, status, answer_headers

    def _checks(self, url: str, headers: Mapping[str, str]) -> bool:
        outside = any(path in url for path in NOT_DESCRIBED) or "usage_record" in url
        return description.is_present() and not outside and headers["Stripe-Version"] == VERSION

    def _check(self, method: str, url: str, body: Any, status: int, content: Any) -> None:
        answer = content.encode() if isinstance(content, str) else content
        errors = description.answer_errors(method, url, status, answer)
        if status < 400:
            # A refused request may be wrong on purpose.
            errors += description.request_errors(method, url, body)
        assert not errors, f"{method} {url} -> {status}: {errors}\n{answer[:2000]}"


@pytest.fixture(scope="session", autouse=True)
def _say_when_nothing_is_checked() -> None:
    if not description.is_present():
        warnings.warn(
            f"{description.description_file()} is absent: the sandbox's requests and answers are "
            "NOT checked against Stripe's description",
            stacklevel=1,
        )


@pytest.fixture(scope="session")
def sandbox_of_the_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    log = tmp_path_factory.mktemp("sandbox") / "sandbox.log"
    with SandboxProcess(log=log) as process:
        yield process


@pytest.fixture
def sandbox(sandbox_of_the_run: SandboxProcess) -> SandboxProcess:
    """An empty sandbox in its own process."""
    sandbox_of_the_run.reset()
    return sandbox_of_the_run


ClientMaker = Callable[..., stripe.StripeClient]


@pytest.fixture
def connect(sandbox: SandboxProcess) -> ClientMaker:
    """Makes SDK clients: `connect(key=..., stripe_account=...)`."""

    def make(key: str = TEST_KEY, **options: Any) -> stripe.StripeClient:
        options.setdefault("stripe_version", VERSION)
        options.setdefault("http_client", CheckingClient())
        return stripe.StripeClient(key, base_addresses=sandbox.base_addresses, **options)

    return make


@pytest.fixture
def client(connect: ClientMaker) -> stripe.StripeClient:
    """An SDK client in test mode."""
    return connect()
