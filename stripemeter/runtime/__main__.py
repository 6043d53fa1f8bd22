"""`python -m stripemeter.runtime clean | watch PID LOG | probe URL`: for make and containers."""

import os
import sys
import time
import urllib.request
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


def probe(url: str) -> int:
    """0 when ``url`` gives 200, asked under a host name that the service allows."""
    host = os.environ.get("STRIPEMETER_ALLOWED_HOSTS", "").split(",")[0].strip()
    headers = {"Host": host} if host not in {"", "*"} else {}
    try:
        urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5).close()  # noqa: S310
    except OSError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


def main(arguments: list[str]) -> int:
    """Run one of the commands."""
    match arguments:
        case ["clean"]:
            clean(os.environ)
            return 0
        case ["watch", pid, log]:
            return watch(int(pid), Path(log))
        case ["probe", url]:
            return probe(url)
    print(__doc__, file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
