"""``python -m tests.chaos.workers``: push workers to be killed and stopped at will.

One parent imports everything once and forks a worker for each line it reads, so that a new
one costs milliseconds. Each does what Celery's tasks do, over and over, as fast as it can.
"""

import os
import signal
import sys
import time

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "stripemeter.settings")
django.setup()

from django.db import connections  # noqa: E402

from billing.services import gate, inbox, settling  # noqa: E402
from billing.services.running import run_pushes  # noqa: E402
from stripemeter.lib import clock  # noqa: E402

PAUSE_SECONDS = 0.05


def work(parent: int) -> None:
    """Push, settle and process until killed, or until the parent is gone."""
    while os.getppid() == parent:
        try:
            run_pushes(clock=clock.now, seconds=1.0)
            settling.settle_unknown(now=clock.now())
            inbox.process_inbox(now=clock.now())
            gate.rederive(now=clock.now())
        except Exception as error:  # a worker of Celery's would log it and go on, too
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            connections.close_all()
        time.sleep(PAUSE_SECONDS)
    os._exit(0)


def main() -> None:
    """Fork a worker for each line and print its pid."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    parent = os.getpid()
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.dup2(2, 1)  # whatever is printed there is no pid
            work(parent)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
