"""Legacy usage records: kept per subscription item, for API 2025-02-24.acacia."""

from __future__ import annotations

from decimal import Decimal

from billing.stripe_sandbox.engine import Sandbox, World
from billing.stripe_sandbox.store import Doc


def records_of(sandbox: Sandbox, world: World, item: str) -> list[Doc]:
    """Returns the records of an item, in the order received."""
    holder = sandbox.store.get(world.name, "usage_records_of", item)
    return list(holder["records"]) if holder else []


def usage_between(sandbox: Sandbox, world: World, item: str, start: int, end: int) -> Decimal:
    """Returns the usage of [start, end): at one timestamp `set` replaces, `increment` adds."""
    by_moment: dict[int, Decimal] = {}
    for record in records_of(sandbox, world, item):
        moment = record["timestamp"]
        if not start <= moment < end:
            continue
        present = by_moment.get(moment, Decimal())
        added = Decimal(record["quantity"])
        by_moment[moment] = added if record["action"] == "set" else present + added
    return sum(by_moment.values(), Decimal())
