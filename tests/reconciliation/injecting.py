"""Each way in which Stripe and we can come to differ, made to happen in the sandbox."""

from tests.builders.billing import World


def live_world(world: World) -> str:
    """The sandbox's name for the live side of the default account."""
    return str(world.sandbox.journal()[0]["world"])


def foreign(world: World, value: int, *, ref: str = "c1", seconds_ago: int = 60) -> None:
    """Usage that somebody else wrote."""
    world.sandbox.control(
        "POST",
        "foreign",
        {
            "event_name": "requests",
            "customer": world.customers[world.acme.pk, ref, "live"],
            "value": str(value),
            "timestamp": int(world.now.timestamp()) - seconds_ago,
            "world": live_world(world),
        },
    )
