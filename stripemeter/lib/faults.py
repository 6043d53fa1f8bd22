"""Named crash points: no-ops unless a fault test switches them on.

``STRIPEMETER_FAULT_POINTS`` holds ``name=action`` pairs with commas. Actions: ``kill`` (SIGKILL
to this process), ``raise`` (`InjectedFault`), ``sleep:SECONDS``. ``name=action@N`` fires at the
N-th pass only. Production refuses to start with any of them set.
"""

import os
import signal
import time
from collections import Counter

_passes: Counter[str] = Counter()


class InjectedFault(RuntimeError):
    """Raised by a fault point whose action is ``raise``."""


def point(name: str) -> None:
    """Do what the environment asks for at the fault point ``name``; normally nothing."""
    configured = os.environ.get("STRIPEMETER_FAULT_POINTS")
    if configured:
        _fire(name, configured)


def _fire(name: str, configured: str) -> None:
    for item in configured.split(","):
        wanted, _, action = item.strip().partition("=")
        if wanted != name:
            continue
        _passes[name] += 1
        action, _, at = action.partition("@")
        if at and _passes[name] != int(at):
            continue
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif action == "raise":
            raise InjectedFault(name)
        elif action.startswith("sleep:"):
            time.sleep(float(action.partition(":")[2]))
