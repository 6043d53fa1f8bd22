"""`manage.py up`: starts everything on this machine, in order, and stops it again.

Runs without Django, whose start alone would take seconds.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from pathlib import Path

from stripemeter.runtime import env
from stripemeter.runtime.parts import WEB_PORT, Children, Parts, migrations_digest
from stripemeter.runtime.processes import RuntimeProblem, port_is_free, wait_until
from stripemeter.runtime.supervisor import (
    Supervisor,
    answers,
    celery_command,
    refusal,
    stream,
    web_command,
)

ROOT = Path(__file__).resolve().parents[2]
READY_TIMEOUT_S = 300
#: Two people, since what one asks for another has to approve.
_SIGN_IN = "sign in at /admin/ as owner@demo.example or maintainer@demo.example; password: {}"


def main(arguments: Sequence[str]) -> int:
    """Start, supervise until the end, stop; the exit code."""
    parser = ArgumentParser(prog="manage.py up", description=__doc__)
    parser.add_argument("--demo", action="store_true", help="open demo tenant with demo data")
    options = parser.parse_args(arguments)
    if os.environ.get("STRIPEMETER_ENV") == "production":
        return _refuse("`up` is for one machine; production runs the parts one by one.")
    signal.signal(signal.SIGTERM, _stop_starting)
    folder = env.runtime_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with _only_one(folder) as alone:
        if not alone:
            url = env.read_values(folder / "runtime.env").get("STRIPEMETER_PUBLIC_URL", "?")
            _say(f"StripeMeter already runs in this folder: {url}")
            return 0
        try:
            return _run(demo=options.demo)
        except RuntimeProblem as problem:
            return _refuse(str(problem))
        except KeyboardInterrupt:
            return 130


def _refuse(reason: str) -> int:
    print(reason, file=sys.stderr, flush=True)  # noqa: T201
    return 1


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def _run(*, demo: bool) -> int:
    environ = dict(os.environ)
    environ.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling anew costs seconds at each start
    parts = Parts.of(environ)
    children = Children(parts.folder)
    for name in children.end():
        _say(f"ended {name}, left over from a run that was killed")
    port = _web_port(environ)
    try:
        _say("starting PostgreSQL and Redis")
        offered = _offered(parts, port, demo=demo)
        values = {n: v for n, v in offered.items() if not env.is_set(environ, n)}
        env.write_values(
            parts.folder / "runtime.env",
            values,
            comment="Written by `manage.py up`: later commands in this checkout read it.",
        )
        environ |= values
        _migrate(parts, environ)
        supervisor = _supervise(parts, children, environ, port=port, demo=demo)
        return supervisor.run()
    finally:
        children.end()
        parts.stop_servers()
        _say("stopped")


def _migrate(parts: Parts, environ: dict[str, str]) -> None:
    """Migrate unless this database already stands at exactly these migrations."""
    embedded = "postgres" not in parts.outside
    marker = (parts.postgres.home if embedded else parts.folder) / "migrated"
    wanted = migrations_digest(ROOT)
    with contextlib.suppress(OSError):
        if embedded and marker.read_text() == wanted:
            return
    _say("migrating the database")
    command = [sys.executable, "manage.py", "migrate", "--noinput", "--skip-checks", "-v", "0"]
    done = subprocess.run(command, cwd=ROOT, env=environ, check=False)  # noqa: S603
    if done.returncode != 0:
        raise RuntimeProblem("manage.py migrate failed, see above.")
    marker.write_text(wanted)


def _offered(parts: Parts, port: int, *, demo: bool) -> dict[str, str]:
    """Start the servers; the variables of the processes, for all that nobody set outside."""
    metrics = parts.folder / "metrics"
    metrics.mkdir(exist_ok=True)
    for stale in metrics.glob("*.db"):
        stale.unlink(missing_ok=True)
    static = parts.folder / "static"  # empty: outside production files are served as they are
    static.mkdir(exist_ok=True)
    values = {
        "STRIPEMETER_STATIC_ROOT": str(static),
        "STRIPEMETER_ENV": "demo" if demo else "development",
        "STRIPEMETER_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "PROMETHEUS_MULTIPROC_DIR": str(metrics),
        **parts.setting_secrets(),
        **parts.start_servers(),
        **parts.stripe_values(),
    }
    if demo:
        values["STRIPEMETER_OPEN_DEMO_TENANT"] = "demo"
    return values


def _supervise(
    parts: Parts, children: Children, environ: dict[str, str], *, port: int, demo: bool
) -> Supervisor:
    def after_start() -> None:
        _announce(supervisor, f"http://127.0.0.1:{port}")
        if demo:
            _load_demo_data(supervisor, parts, environ)
            supervisor.say(_SIGN_IN.format(parts.secrets["DEMO_PASSWORD"]))

    supervisor = Supervisor(ROOT, children, after_start=after_start)
    watch = [sys.executable, "-m", "stripemeter.runtime", "watch"]
    if "postgres" not in parts.outside:
        server = parts.postgres
        supervisor.add("postgres", [*watch, str(server.pid()), str(server.log_file)], environ)
    if "redis" not in parts.outside:
        broker = parts.redis
        supervisor.add("redis", [*watch, str(broker.pid()), str(broker.log_file)], environ)
    if "stripe" not in parts.outside:
        sandbox = [
            sys.executable, "-m", "billing.stripe_sandbox",
            "--port", str(parts.sandbox_port), "--db", str(parts.folder / "stripe.sqlite3"),
        ]  # fmt: skip
        supervisor.add("stripe", sandbox, environ)
    supervisor.add("web", web_command(port), environ)
    worker = {
        **environ,
        # SIGTERM ends it as SIGQUIT does: tasks get some seconds, then go back to the queue.
        "REMAP_SIGTERM": "SIGQUIT",
        "PYTHONWARNINGS": "ignore:You're running the worker with superuser",
    }
    supervisor.add("worker", celery_command("worker", "--loglevel", "WARNING"), worker)
    supervisor.add("beat", celery_command("beat", "--loglevel", "WARNING"), environ)
    return supervisor


def _announce(supervisor: Supervisor, url: str) -> None:
    """Say where everything is, as soon as it is ready."""
    if wait_until(lambda: answers(f"{url}/health/ready"), timeout_s=READY_TIMEOUT_S, step_s=0.25):
        supervisor.say(
            f"StripeMeter is ready:\n"
            f"  API         {url}/v1/    (reference: {url}/docs)\n"
            f"  operators   {url}/admin/\n"
            f"  health      {url}/health/ready\n"
            f"  Ctrl-C stops everything"
        )
    else:
        supervisor.say(f"not ready after {READY_TIMEOUT_S} s: {refusal(f'{url}/health/ready')}")


def _load_demo_data(supervisor: Supervisor, parts: Parts, environ: dict[str, str]) -> None:
    """Make the demo data, once per runtime folder."""
    marker = parts.folder / "demo-data"
    if marker.exists() or not any(ROOT.glob("**/management/commands/demo_data.py")):
        return
    command = [sys.executable, "manage.py", "demo_data", "--skip-checks"]
    environ = {**environ, "STRIPEMETER_DEMO_PASSWORD": parts.secrets["DEMO_PASSWORD"]}
    code = stream(command, lambda line: supervisor.say(line, name="demo"), cwd=ROOT, env=environ)
    if code == 0:
        marker.touch()
    else:
        supervisor.say(f"manage.py demo_data failed with exit code {code}", name="demo")


def _web_port(environ: dict[str, str]) -> int:
    port = int(environ.get("STRIPEMETER_PORT") or WEB_PORT)
    if not port_is_free(port):
        raise RuntimeProblem(
            f"Port {port} is taken by another program: set STRIPEMETER_PORT to a free one."
        )
    return port


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[bool]:
    """Whether we are the only supervisor of this folder.

    A POSIX record lock: forked children do not inherit it, and it dies with its holder.
    """
    with (folder / "up.lock").open("a") as handle:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _stop_starting(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt
