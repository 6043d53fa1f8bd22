"""What tenants are told of, for tests."""

from typing import Any

from billing.models import Delivery
from billing.services.endpoints import create_endpoint
from billing.services.mappings import Actor
from stripemeter.lib import strictjson
from tests.builders.billing import World


def watch(world: World, *event_types: str) -> None:
    """Both tenants want to be told of these events."""
    for tenant in (world.acme, world.globex):
        create_endpoint(
            actor=Actor(tenant.pk, "test", world.now),
            url="https://hooks.example.com/in",
            event_types=list(event_types),
        )


def told_to_acme(world: World) -> list[tuple[str, dict[str, Any]]]:
    """Types and data of what acme is told, in order of time."""
    rows = Delivery.objects.filter(tenant=world.acme).order_by("created_at", "event_type")
    return [(row.event_type, strictjson.loads(row.body.encode())["data"]) for row in rows]
