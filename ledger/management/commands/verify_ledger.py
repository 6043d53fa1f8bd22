"""``manage.py verify_ledger``: was any sealed event altered, removed or slipped in?"""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ledger.services import seals
from ledger.services.seals import Head


class Command(BaseCommand):
    """Exit code 0 if every seal holds, 1 if not."""

    help = "Recompute every seal of the ledger from its events."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Whose ledger, and heads kept elsewhere."""
        parser.add_argument("--tenant", help="only this tenant")
        parser.add_argument("--anchor", type=Path, help="heads that `manage.py seal` wrote down")

    def handle(self, *args: Any, **options: Any) -> None:
        """Verify, print, and exit."""
        anchors = _anchors(options["anchor"], options["tenant"]) if options["anchor"] else []
        verified = seals.verify_ledger(tenant_key=options["tenant"], anchors=anchors)
        for found in verified.breaks or []:
            self.stdout.write(f"{found.tenant} seal {found.sequence}: {found.reason}")
        self.stdout.write(
            f"{verified.seals} seals over {verified.events} events, {len(anchors)} anchors: "
            f"{len(verified.breaks or [])} broken"
        )
        if verified.breaks:
            raise SystemExit(1)


def _anchors(path: Path, tenant: str | None) -> list[Head]:
    try:
        heads = seals.read_anchors(path)
    except ValueError as error:
        raise CommandError(str(error)) from error
    return [head for head in heads if tenant in {None, head.tenant}]
