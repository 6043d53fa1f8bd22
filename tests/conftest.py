"""What every test stands on: an environment, a database, Redis, and processes on demand.

`make test` needs nothing installed but the virtualenv. `TEST_DATABASE_URL` (of a
superuser) points the run at another PostgreSQL server.
"""

# The environment is laid out before anything imports Django's settings.
from tests.support.environment import destroy, prepare

RUN = prepare()

import os  # noqa: E402

import django  # noqa: E402

django.setup()
# Workers lay out an environment of their own before they read settings.
del os.environ["DJANGO_SETTINGS_MODULE"]

import contextlib  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import ExitStack  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import hypothesis  # noqa: E402
import psycopg  # noqa: E402
import pytest  # noqa: E402

from billing.stripe_sandbox.process import SandboxProcess  # noqa: E402
from stripemeter.runtime.postgres import APP_ROLE, OWNER_ROLE  # noqa: E402
from tests.support import network, processes  # noqa: E402
from tests.support.cluster import Cluster, raw_connection  # noqa: E402

hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("large", deadline=None, max_examples=2_000, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_configure(config: pytest.Config) -> None:
    """Keep tests on this machine, and load the large profile when large tests are asked for."""
    network.stay_at_home()
    if _asked_for(config, "large"):
        hypothesis.settings.load_profile("large")


def pytest_unconfigure() -> None:
    """The process that laid out the run takes it away."""
    if RUN.is_controller:
        Cluster(RUN).drop_all()
        destroy(RUN.folder)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Large tests run when asked for by `-m large`; tests against real Stripe need its key."""
    without_key = pytest.mark.skip(reason="STRIPE_TEST_SECRET_KEY of a real account is not set")
    not_asked = pytest.mark.skip(reason="large size: run with -m large")
    for item in items:
        if item.get_closest_marker("large") and not _asked_for(config, "large"):
            item.add_marker(not_asked)
        if item.get_closest_marker("live_stripe") and "STRIPEMETER_LIVE_TEST_KEY" not in os.environ:
            item.add_marker(without_key)


def _asked_for(config: pytest.Config, marker: str) -> bool:
    return marker in str(config.getoption("markexpr", ""))


# --- database --------------------------------------------------------------------------


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The database server of this run, with its migrated template."""
    cluster = Cluster(RUN)
    cluster.ensure()
    return cluster


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None, django_db_blocker: Any, cluster: Cluster
) -> Iterator[None]:
    """This worker's database: a copy of the template. Settings already point at it."""
    from django.db import connections
    from django.test import TransactionTestCase

    cluster.make_database(RUN.database)
    original = TransactionTestCase._fixture_teardown
    # Django's flush would run as the application role, which may not empty the ledger.
    TransactionTestCase._fixture_teardown = lambda _self: _reset(cluster)  # type: ignore[method-assign]
    yield
    TransactionTestCase._fixture_teardown = original  # type: ignore[method-assign]
    with django_db_blocker.unblock():
        connections.close_all()
    cluster.drop_database(RUN.database)


def _reset(cluster: Cluster) -> None:
    from django.db import connections

    from ledger.services.registry import forget_cached_metrics

    connections["default"].rollback()
    cluster.reset(RUN.database)
    forget_cached_metrics()


@pytest.fixture
def second_connection(
    transactional_db: None,
) -> Iterator[Callable[..., "psycopg.Connection[Any]"]]:
    """Opens raw psycopg connections to the test database: `second_connection()`.

    They act as the application role; `second_connection(owner=True)` as the owner. Data
    made through Django are visible, since the test commits (no wrapping transaction).
    """
    with ExitStack() as stack:

        def connect(*, owner: bool = False) -> "psycopg.Connection[Any]":
            return stack.enter_context(raw_connection(RUN, OWNER_ROLE if owner else APP_ROLE))

        yield connect


@pytest.fixture
def superuser(transactional_db: None, cluster: Cluster) -> Iterator["psycopg.Connection[Any]"]:
    """An autocommit superuser connection to the test database, to break things with."""
    with cluster.connect(RUN.database) as connection:
        yield connection


@pytest.fixture(autouse=True, scope="session")
def _requests_leave_connections_wide() -> None:
    """After a request of Django's test client, the test itself sees all tenants again."""
    from django.core.signals import request_finished

    from stripemeter.lib import rowsecurity

    request_finished.connect(lambda **_: rowsecurity.widen(), weak=False)


@pytest.fixture(autouse=True)
def _nobody_is_throttled_for_the_test_before() -> None:
    """Bad credentials are counted per address, and every test comes from the same one."""
    import redis

    from stripemeter.lib import redisclient
    from stripemeter.lib.ratelimit import limiter

    limiter.forget()
    with contextlib.suppress(redis.RedisError):
        redisclient.client().delete("ratelimit:bad-key:127.0.0.1")


# --- processes -------------------------------------------------------------------------


@pytest.fixture
def start_process(
    transactional_db: None, tmp_path: Path
) -> Iterator[Callable[..., processes.ServerProcess]]:
    """Starts real processes on the test database; whatever is left is killed at the end."""
    started: list[processes.ServerProcess] = []

    def start(command: list[str], **options: Any) -> processes.ServerProcess:
        log = tmp_path / f"process-{len(started)}.log"
        process = processes.ServerProcess(command, log, **options)
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def web(transactional_db: None, tmp_path: Path) -> Iterator[processes.HttpProcess]:
    """A real web server (granian) on the test database: `web.url`, `web.kill()`, `web.start()`."""
    process = processes.HttpProcess(processes.granian, tmp_path / "web.log", health="/health/live")
    process.start()
    yield process
    process.stop(patience_s=3)


@pytest.fixture(scope="session")
def sandbox_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    """One Stripe sandbox per worker, over real HTTP; tests take `sandbox`."""
    folder = tmp_path_factory.mktemp("sandbox")
    database, log = folder / "stripe.sqlite3", folder / "sandbox.log"
    with SandboxProcess(db=str(database), log=log) as process:
        yield process


@pytest.fixture
def sandbox(
    sandbox_process: SandboxProcess, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> SandboxProcess:
    """An empty Stripe, which settings and every process started by the test talk to."""
    if sandbox_process.process is None or sandbox_process.process.poll() is not None:
        sandbox_process.start()  # an earlier test killed it
    sandbox_process.reset()
    for name in ("STRIPE_API_BASE", "STRIPE_METER_EVENTS_BASE"):
        monkeypatch.setenv(name, sandbox_process.url)
        setattr(settings, name, sandbox_process.url)
    settings.STRIPE_API_HOST = sandbox_process.url
    return sandbox_process
