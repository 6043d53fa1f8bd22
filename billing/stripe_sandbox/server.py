"""Running the application: granian on the one event loop of this process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import Any

from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server.embed import Server

from billing.stripe_sandbox.app import Application
from billing.stripe_sandbox.engine import DEFAULT_SETTINGS, Sandbox


def _settings(pairs: list[str]) -> dict[str, Any]:
    """Returns the settings of `NAME=VALUE` arguments; leaves with a message when unknown."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        if name not in DEFAULT_SETTINGS:
            sys.exit(f"unknown setting {name}; known: {', '.join(sorted(DEFAULT_SETTINGS))}")
        try:
            settings[name] = json.loads(text)
        except ValueError:
            settings[name] = text
    return settings


async def serve(
    host: str, port: int, db: str, settings: list[str], clock_offset_file: Path | None = None
) -> None:
    """Serves until SIGTERM or SIGINT.

    One process and one thread for everything: state needs no locks, and a kill -9
    leaves no worker behind.
    """
    sandbox = Sandbox(db, clock_offset_file=clock_offset_file)
    sandbox.settings.update(_settings(settings))
    application = Application(sandbox)
    server = Server(
        application,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        log_access=False,
        log_level=LogLevels.error,
        websockets=False,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    sys.stderr.write(f"Stripe sandbox at http://{host}:{port}, data in {db}\n")
    background = asyncio.create_task(application.run_background())
    try:
        await server.serve()
    finally:
        background.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await background
        sandbox.store.close()
