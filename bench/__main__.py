"""``python -m bench``: ingest, freshness and reads, interleaved, as one table and as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"


def main() -> None:
    """Start an own database and web server, measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="per measurement and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one short round, to try it out")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seconds, arguments.rounds = 2.0, 1
    with ExitStack() as stack:
        from bench import parts

        started = parts.start(stack)
        import django

        django.setup()
        from bench import scenarios

        rows = scenarios.measure(started, seconds=arguments.seconds, rounds=arguments.rounds)
    report = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "seconds": arguments.seconds,
        "rounds": arguments.rounds,
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "ingest.json").write_text(json.dumps(report, indent=1) + "\n")
    print(scenarios.render(rows))


if __name__ == "__main__":
    main()
