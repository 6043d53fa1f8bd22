"""Runs of the world, and what they said."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from reconciliation.models import Finding, ReportLine, Run
from reconciliation.services import runs
from tests.builders.billing import World


def reconcile(world: World, **fields: Any) -> Run:
    """One run over acme, carried out now."""
    tenant = fields.pop("tenant", world.acme)
    run, _ = runs.request_run(tenant_id=tenant.pk, actor="test", now=world.now, **fields)
    claimed = runs.claim(now=world.now, run_id=run.pk)
    assert claimed is not None
    return runs.execute(claimed, clock=world.clock)


def lines(run: Run) -> list[ReportLine]:
    """The lines of a run in a fixed order."""
    return list(ReportLine.objects.filter(run_id=run.pk).order_by("customer_ref", "period_start"))


def open_findings(world: World) -> list[tuple[str, str, Decimal]]:
    """Open findings as (cause, customer, units)."""
    rows = Finding.objects.filter(tenant=world.acme, state="open", closed_at__isnull=True)
    return sorted((each.cause, each.customer_ref, each.units) for each in rows)


def settled(world: World) -> None:
    """Let the settling window pass."""
    world.move(minutes=20)


HOUR = timedelta(hours=1)
