"""`python -m billing.stripe_sandbox --port 8787 --db .stripemeter/stripe.sqlite3`."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from billing.stripe_sandbox.server import serve


def main() -> None:
    """Parses the command line and serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="python -m billing.stripe_sandbox",
        description="A small stateful Stripe for demo and tests, on loopback.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=12111, help="port to listen on")
    parser.add_argument("--db", default=":memory:", help="SQLite file, or :memory:")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting, as in POST /_sandbox/settings (value is JSON, else text)",
    )
    parser.add_argument(
        "--clock-offset-file",
        type=Path,
        metavar="FILE",
        help="a file with seconds by which to move the clock, shared with other processes",
    )
    options = parser.parse_args()
    asyncio.run(
        serve(options.host, options.port, options.db, options.set, options.clock_offset_file)
    )


if __name__ == "__main__":
    main()
