"""The command tree."""

import os
import subprocess
import sys
from pathlib import Path

import click

from billing.simulation.cli import sim
from stripemeter.cli import doctor, files, objects
from stripemeter.cli.session import Session

ROOT = Path(__file__).resolve().parents[2]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--api-url", envvar="STRIPEMETER_URL", default="http://127.0.0.1:3000")
@click.option("--api-key", envvar="STRIPEMETER_API_KEY", default="", help="or STRIPEMETER_API_KEY")
@click.option("--tenant", envvar="STRIPEMETER_TENANT", default="demo", help="or STRIPEMETER_TENANT")
@click.pass_context
def main(context: click.Context, api_url: str, api_key: str, tenant: str) -> None:
    """Work with a StripeMeter service from the shell.

    Exit codes: 0 done, 1 refused or differing, 2 wrong use or unreachable.
    """
    context.obj = Session(api_url.rstrip("/"), api_key, tenant)


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def up(arguments: tuple[str, ...]) -> None:
    """Start everything on this machine (the same as `manage.py up`)."""
    command = [sys.executable, str(ROOT / "manage.py"), "up", *arguments]
    sys.exit(subprocess.call(command, cwd=ROOT, env=os.environ))  # noqa: S603  our own command


main.add_command(sim)
main.add_command(files.ingest)
main.add_command(files.replay)
main.add_command(files.backfill)
main.add_command(objects.apikey)
main.add_command(objects.adjustments)
main.add_command(objects.mappings)
main.add_command(objects.push)
main.add_command(objects.reconcile)
main.add_command(doctor.doctor)
main.add_command(doctor.explain_config)
