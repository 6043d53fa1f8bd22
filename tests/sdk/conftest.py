"""Fixtures of the client's tests: a contract server, and clients that retry without waiting."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stripemeter.sdk import RetryPolicy, StripeMeterClient
from tests.sdk import node
from tests.sdk.contract_server import ContractServer

# Retries without pauses: the tests are about what is sent again, not about how long it takes.
EAGER = RetryPolicy(pause_base=0.001, pause_max=0.002)


@pytest.fixture(scope="session")
def node_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built Node client."""
    return node.build(tmp_path_factory.mktemp("node"))


@pytest.fixture
def server() -> Iterator[ContractServer]:
    with ContractServer() as running:
        yield running


@pytest.fixture
def errors() -> list[tuple[Any, Any]]:
    """What `on_error` was told."""
    return []


@pytest.fixture
def make_client(
    server: ContractServer, errors: list[tuple[Any, Any]]
) -> Iterator[Callable[..., StripeMeterClient]]:
    """Make clients of tenant acme for customer c1; they are closed when the test ends."""
    made: list[StripeMeterClient] = []

    def make(**options: Any) -> StripeMeterClient:
        defaults: dict[str, Any] = {
            "api_url": server.url,
            "tenant_id": "acme",
            "customer_id": "c1",
            "api_key": "sm_test_key",
            "retry_policy": EAGER,
            "flush_interval": 3600.0,
            "on_error": lambda error, events: errors.append((error, list(events))),
        }
        made.append(StripeMeterClient(**{**defaults, **options}))
        return made[-1]

    yield make
    server.faults.clear()
    for client in made:
        client.close()
