"""Shadow pushes go to the test account only, beside live ones, with cursors of their own."""

from decimal import Decimal
from typing import Any

import pytest
from prometheus_client import REGISTRY

from billing.models import CustomerLink, PriceMapping, Push, PushCursor
from billing.services import mappings
from billing.stripe import client
from stripemeter.lib.errors import Conflict
from tests.builders.billing import World, at


@pytest.fixture
def shadowed(world: World) -> PriceMapping:
    world.meter(mode="test")
    world.customer(mode="test")
    return world.mapping(
        shadow=True, shadow_stripe_account="default", shadow_price_id="price_shadow"
    )


def keys_used(world: World) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {"live": set(), "test": set()}
    for line in world.calls():
        found[line["world"].partition(":")[0]].add(line["customer"])
    return found


def counted(name: str, **labels: str) -> float:
    """A counter of acme's shadow pushes of ``requests``."""
    found = {"tenant": "acme", "metric": "requests", **labels}
    return REGISTRY.get_sample_value(f"shadow_usage_{name}", found) or 0.0


def test_both_sides_are_pushed_side_by_side_each_to_its_own_account(world, shadowed):
    before = counted("posts_total")
    world.use(5)
    world.settle()
    assert world.at_stripe() == world.at_stripe(mode="test") == Decimal(5)
    used = keys_used(world)
    assert used["live"] == {world.customers[world.acme.pk, "c1", "live"]}
    assert used["test"] == {world.customers[world.acme.pk, "c1", "test"]}
    assert set(PushCursor.objects.values_list("mode", flat=True)) == {"live", "test"}
    assert counted("posts_total") == before + 1


def test_toggling_mid_period_loses_and_repeats_nothing(world, shadowed):
    for number, shadow in enumerate([True, False, True, False, True]):
        PriceMapping.objects.update(shadow=shadow)
        world.use(number + 1)
        world.settle()
    assert world.at_stripe() == world.at_stripe(mode="test") == Decimal(15)
    live = Push.objects.filter(mode="live").values_list("value", flat=True)
    assert sorted(live) == [1, 2, 3, 4, 5]


def test_the_shadow_price_of_a_running_period_stays_and_a_segment_changes_it(world, shadowed):
    actor = mappings.Actor(world.acme.pk, "test", world.now)

    def change(**changes: Any) -> PriceMapping:
        return mappings.update_mapping(actor=actor, mapping_id=shadowed.pk, changes=changes)

    assert change(shadow_price_id="price_first").shadow_price_id == "price_first"
    world.use(5)
    world.settle()
    for price in ("price_other", None):
        with pytest.raises(Conflict, match="shadowPriceId") as refused:
            change(shadow=False, shadow_price_id=price)
        assert refused.value.code == "price_change_loss"
    # Off and on again is no change of price; the safe sequence is one segment per price.
    change(shadow=False)
    change(shadow=True)
    midnight = at(21, 0)
    change(effective_to=midnight)
    mappings.create_mapping(
        actor=actor,
        metric="requests",
        values={
            "aggregation": "sum",
            "stripe_account": "default",
            "price_id": "price_1",
            "shadow": True,
            "shadow_stripe_account": "default",
            "shadow_price_id": "price_other",
            "effective_from": midnight,
        },
    )
    world.move(days=1)
    world.use(3)
    world.settle()
    assert world.at_stripe() == world.at_stripe(mode="test") == Decimal(8)


def test_without_a_test_key_shadow_is_skipped_and_live_is_untouched(world, shadowed, settings):
    settings.STRIPE_TEST_SECRET_KEY = ""
    skipped = counted("post_failures_total", reason="no_test_key")
    world.use(5)
    report = world.push()
    assert counted("post_failures_total", reason="no_test_key") == skipped + 1
    assert report.skipped == {"test": "STRIPE_TEST_SECRET_KEY is not set"}
    assert world.at_stripe() == Decimal(5)
    assert keys_used(world)["test"] == set()
    assert not Push.objects.filter(mode="test").exists()


@pytest.mark.parametrize(
    ("name", "value", "skipped"),
    [
        ("STRIPE_TEST_SECRET_KEY", "sk_live_for_tests_only", "test"),
        ("STRIPE_SECRET_KEY", "sk_test_for_tests_only", "live"),
    ],
)
def test_a_key_of_the_other_mode_is_never_used(
    world: World, shadowed: Any, settings: Any, name: str, value: str, skipped: str
):
    setattr(settings, name, value)
    world.use(5)
    report = world.push()
    assert list(report.skipped) == [skipped]
    assert keys_used(world)[skipped] == set()


def test_an_answer_from_the_wrong_mode_halts_the_account(world, monkeypatch, settings):
    # As if a proxy led the live key to the test side: prefixes cannot tell, livemode does.
    monkeypatch.setitem(client._PREFIXES, "live", ("sk_test_",))
    world.mapping()
    world.use(5)
    world.meter(mode="test")
    settings.STRIPE_SECRET_KEY = settings.STRIPE_TEST_SECRET_KEY
    customer = world.customer("c2", mode="test")
    CustomerLink.objects.filter(customer_ref="c1", tenant=world.acme).update(
        stripe_customer_id=customer
    )
    world.push()
    assert world.account().halted_at is not None
    assert Push.objects.get().state == "needs_review"


def test_a_shadow_outage_does_not_touch_live(world, shadowed):
    world.sandbox.fault("error_503", world="test:*", count=None)
    world.use(5)
    world.settle(rounds=3)
    assert world.at_stripe() == Decimal(5)
    assert world.at_stripe(mode="test") == Decimal(0)
    world.sandbox.clear_faults()
    world.settle()
    assert world.at_stripe(mode="test") == Decimal(5)
