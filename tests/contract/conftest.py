"""One live server for the whole module, with tenant acme, its key and something of everything."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from stripemeter.tenancy.recognition import forget_cached_keys
from tests.builders.tenancy import Caller, make_caller
from tests.support.cluster import Cluster
from tests.support.processes import HttpProcess, granian


@dataclass(frozen=True, slots=True)
class Live:
    """A running server and a key that may do everything in tenant acme."""

    server: HttpProcess
    caller: Caller

    @property
    def url(self) -> str:
        """Base address."""
        return self.server.url

    @property
    def headers(self) -> dict[str, str]:
        """The key, as a header."""
        return self.caller.headers


@pytest.fixture(scope="module")
def live(
    django_db_setup: None,
    django_db_blocker: Any,
    cluster: Cluster,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Live]:
    """A web server on this worker's database; every row is gone afterwards."""
    forget_cached_keys()
    log = tmp_path_factory.mktemp("contract") / "web.log"
    server = HttpProcess(granian, log, health="/health/live", env={"TENANT_RATE_LIMIT": "10000000"})
    with django_db_blocker.unblock():
        make_caller("globex")
        caller = make_caller("acme")
        try:
            server.start()
            yield Live(server, caller)
        finally:
            server.stop(patience_s=3)
            cluster.reset(cluster.run.database)
            forget_cached_keys()
