"""`python -m stripemeter.runtime clean|watch`: what make and the supervisor ask for."""

import os
import sys
import time
from pathlib import Path

import psutil

from stripemeter.runtime.parts import clean


def watch(pid: int, log: Path) -> int:
    """Print what a server writes to its log until it ends."""
    with log.open(errors="replace") as lines:
        lines.seek(0, os.SEEK_END)
        while _lives(pid):
            said = lines.readline()
            if said:
                print(said, end="", flush=True)  # noqa: T201
            else:
                time.sleep(0.25)
        print(lines.read(), end="", flush=True)  # noqa: T201
    return 1


def _lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def main(arguments: list[str]) -> int:
    """Run one of the commands."""
    match arguments:
        case ["clean"]:
            clean(os.environ)
            return 0
        case ["watch", pid, log]:
            return watch(int(pid), Path(log))
    print(__doc__, file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
