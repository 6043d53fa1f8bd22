"""Every published bad request, sent to a live server: `make badinputs`.

A case whose route or object does not exist yet is skipped as "not built"; a check that has
no function yet fails its case.
"""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axes.models import AccessAttempt
from django.conf import settings
from django.urls import Resolver404, resolve

from tests.badinputs import catalogue, checks, outcomes, world
from tests.badinputs.catalogue import Case
from tests.badinputs.filling import Filler, NotBuilt
from tests.badinputs.sending import Answer, send
from tests.support import processes

CASES = catalogue.load()
assert outcomes  # registers its checks
BY_ID = {case.id: case for case in CASES}
RATE_LIMIT, RATE_WINDOW = 400, 10
pytestmark = [
    pytest.mark.skipif(not CASES, reason=f"NO CATALOGUE OF BAD INPUTS at {catalogue.path()}"),
    pytest.mark.xdist_group("badinputs"),
]


class Stage:
    """A live server, the world in its database, and what was run."""

    def __init__(self, server: processes.HttpProcess, calls: Path) -> None:
        self.server = server
        self.calls, self.seen = calls, 0
        #: Redis, and nothing else: PostgreSQL is called by libpq, outside Python's view.
        place = urlsplit(settings.REDIS_URL)
        self.own = {f"{place.hostname}:{place.port}", place.path}
        self.world = world.World(server.url)
        self.filler = Filler(self.world.known, server.url)
        self.runs: dict[str, checks.Run] = {}

    def run(self, case: Case) -> checks.Run:
        """Send ``case`` after those it names, each of them once, whatever the order of tests."""
        if case.id not in self.runs:
            for other in case.after:
                self.run(BY_ID[other])
            self.runs[case.id] = self._run(case)
        return self.runs[case.id]

    def _run(self, case: Case) -> checks.Run:
        if case.area == "admin-login":
            AccessAttempt.objects.all().delete()  # the case before may have locked us out
        for text in (case.path, case.body, *map(str, case.headers.values())):
            self.filler.fill(text)  # makes the objects it names, before the snapshot
        before, events = world.snapshot(), _events()
        answers = self._send(case)
        plain = None
        if "same_result_as_without" in case.check and case.path.startswith("/v1"):
            # Read at once: the next case may add what is listed.
            path = case.path.split("?")[0] + f"?tenantId={self.world.tenants['A'].key}"
            plain = self.world.api("GET", path)
        called = self.calls.read_text().splitlines() if self.calls.exists() else []
        run = checks.Run(
            case,
            answers,
            self.world,
            before,
            world.snapshot(),
            events,
            _events(),
            self.server.output(),
            [line for line in called[self.seen :] if line not in self.own],
            plain,
        )
        self.seen = len(called)
        waits = [int(answer.header("Retry-After") or 0) for answer in answers]
        if max(waits) and case.area != "admin-login":
            time.sleep(max(waits) + 0.5)  # the next case finds its buckets full again
        return run

    def _send(self, case: Case) -> list[Answer]:
        url = self.server.url
        if case.parallel:
            with ThreadPoolExecutor(case.parallel) as pool:
                fixed = Filler(self.filler.values, url)
                fixed.t0 = self.filler.t0
                once = fixed.fill(case.body)
                same = Case(**{**_fields(case), "body": once})
                return list(pool.map(lambda _: send(url, same, self.filler), range(case.parallel)))
        times = _times(case.repeat)
        if "eventually:429" in case.check:
            return self._send_until_limited(case, times)
        return [send(url, case, self.filler) for _ in range(times)]

    def _send_until_limited(self, case: Case, times: int) -> list[Answer]:
        """The case ``times`` over; again, if the window ended on the way: machines can be slow."""
        answers: list[Answer] = []
        with ThreadPoolExecutor(8) as pool:
            for _ in range(3):
                answers += pool.map(
                    lambda _: send(self.server.url, case, self.filler), range(times)
                )
                if any(answer.status == 429 for answer in answers):
                    break
        return answers


#: Runs in every process of the server: writes down whom it connects to.
_LISTENER = """
import os, sys

def heard(event, arguments):
    if event == "socket.connect":
        place = arguments[1]
        name = place if isinstance(place, str) else f"{place[0]}:{place[1]}"
        with open(os.environ["BADINPUTS_CALLS"], "a") as file:
            file.write(name + "\\n")

sys.addaudithook(heard)
"""


def _fields(case: Case) -> dict[str, Any]:
    return {name: getattr(case, name) for name in Case.__slots__}


def _events() -> int:
    from ledger.models import Event

    return Event.objects.count()


def _times(repeat: Any) -> int:
    if isinstance(repeat, int):
        return repeat
    match = re.fullmatch(r"([A-Z_]+)([-+][0-9]+)?", repeat)
    assert match, repeat
    known = {"TENANT_RATE_LIMIT": RATE_LIMIT}
    return known.get(match[1], getattr(settings, match[1], 0)) + int(match[2] or 0)


@pytest.fixture(scope="module")
def stage(
    django_db_setup: None, django_db_blocker: Any, cluster: Any, tmp_path_factory: Any
) -> Iterator[Stage]:
    from tests.conftest import RUN

    folder: Path = tmp_path_factory.mktemp("badinputs")
    calls = folder / "calls.txt"
    (folder / "sitecustomize.py").write_text(_LISTENER)
    server = processes.HttpProcess(
        processes.granian,
        folder / "web.log",
        health="/health/live",
        env={
            "TENANT_RATE_LIMIT": str(RATE_LIMIT),
            "TENANT_RATE_LIMIT_WINDOW": str(RATE_WINDOW),
            "LOG_LEVEL": "DEBUG",
            "PYTHONPATH": str(folder),
            "BADINPUTS_CALLS": str(calls),
            "GRANIAN_HTTP1_HEADER_READ_TIMEOUT": "5000",
        },
    )
    with django_db_blocker.unblock():
        server.start()
        try:
            yield Stage(server, calls)
        finally:
            server.stop(patience_s=3)
            from django.db import connections

            connections.close_all()
            cluster.reset(RUN.database)


def _is_built(case: Case) -> bool:
    path = case.path.split("?")[0]
    if ".." in path or 404 in case.expect_status or case.path.startswith("/admin/login"):
        return True
    ids = {"x", "00000000-0000-7000-8000-000000000000"}
    forms = {re.sub(r"\{\{[^}]*\}\}", one, path) for one in ids}
    return any(_resolves(form) for form in {*forms, *(form.rstrip("/") for form in forms)})


def _resolves(path: str) -> bool:
    try:
        match = resolve(path)
    except Resolver404:
        return False
    return "catch_all" not in getattr(match.func, "__name__", "")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_input(stage: Stage, case: Case) -> None:
    if not _is_built(case):
        pytest.skip(f"not built: {case.method} {case.path.split('?')[0]}")
    try:
        run = stage.run(case)
    except NotBuilt as missing:
        pytest.skip(f"not built: {missing}")
    wrong, unknown = checks.verify(run)
    assert not unknown, f"checks that nobody wrote: {unknown}"
    assert not wrong, f"{case.note}\n" + "\n".join(wrong)


def test_the_server_is_well_afterwards(stage: Stage) -> None:
    assert stage.world.control()
    assert stage.world.control(key="KEY_B")
    assert "request.failed" not in stage.server.output()
