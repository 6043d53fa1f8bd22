"""Mappings and customer links over the API: strict, bound to the tenant, never billing twice."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from billing.models import PriceMapping, Push, PushCursor, StripeAccount
from billing.services import mappings
from stripemeter.lib import clock
from stripemeter.lib.errors import Conflict
from stripemeter.tenancy.models import AuditEntry
from stripemeter.tenancy.recognition import forget_cached_keys
from tests.builders.billing import NOW, World, at, use
from tests.builders.tenancy import Caller, make_caller

URL = "/v1/mappings"


@pytest.fixture(autouse=True)
def _no_cached_keys() -> None:
    forget_cached_keys()


@pytest.fixture
def acme(db: None) -> Caller:
    return make_caller("acme")


@pytest.fixture
def globex(db: None) -> Caller:
    return make_caller("globex")


def send(caller: Caller, method: str, path: str, body: Any = None, **headers: str) -> Any:
    return Client().generic(
        method,
        path,
        b"" if body is None else json.dumps(body).encode(),
        "application/json",
        headers={**caller.headers, **headers},
    )


def new(**fields: Any) -> dict[str, Any]:
    return {
        "tenantId": "acme",
        "metric": "requests",
        "aggregation": "sum",
        "stripeAccount": "acct_1A",
        "priceId": "price_1A",
        "subscriptionItemId": "si_1A",
        **fields,
    }


def test_a_mapping_is_created_read_changed_and_deleted(acme, globex):
    created = send(acme, "POST", URL, new(currency="USD"))
    assert created.status_code == 201
    body = created.json()
    assert body["currency"] == "usd"
    assert (body["active"], body["shadow"], body["pushSemantics"]) == (True, False, "increment")
    assert body["stripeMeterEventName"] == "requests"
    path = f"{URL}/{body['id']}"
    changed = send(acme, "PUT", path, {"currency": "eur"}, **{"If-Match": created["ETag"]})
    assert changed.status_code == 200
    assert changed.json()["version"] == 2
    assert send(acme, "PUT", path, {"active": False}, **{"If-Match": '"1"'}).status_code == 412
    assert send(acme, "PUT", path, {}).status_code == 400
    assert [row["id"] for row in send(acme, "GET", URL).json()] == [body["id"]]
    assert send(acme, "DELETE", path).status_code == 204
    assert send(acme, "DELETE", path).status_code == 204
    assert send(acme, "GET", URL).json() == []
    kept = send(acme, "GET", path).json()
    assert kept["endedAt"]
    assert kept["active"] is False
    entries = AuditEntry.objects.filter(object_type="mapping").order_by("sequence")
    actions = entries.values_list("action", flat=True)
    assert list(actions) == ["mapping.created", "mapping.updated", "mapping.deleted"]


def test_a_second_active_mapping_is_a_conflict_and_a_later_segment_is_not(acme):
    assert send(acme, "POST", URL, new()).status_code == 201
    again = send(acme, "POST", URL, new(priceId="price_2"))
    assert again.status_code == 409
    assert again.json()["code"] == "mapping_overlap"
    path = f"{URL}/{PriceMapping.objects.get().pk}"
    assert send(acme, "PUT", path, {"effectiveTo": "2026-12-01T00:00:00Z"}).status_code == 200
    later = new(priceId="price_2", effectiveFrom="2026-12-01T00:00:00Z")
    assert send(acme, "POST", URL, later).status_code == 201


def test_foreign_and_unknown_mappings_answer_alike(acme, globex):
    foreign = send(globex, "POST", URL, new(tenantId="globex")).json()["id"]
    unknown = "018f0000-0000-7000-8000-000000000000"
    for method, body in (("GET", None), ("PUT", {"active": False}), ("DELETE", None)):
        answers = [send(acme, method, f"{URL}/{each}", body) for each in (foreign, unknown)]
        assert [each.status_code for each in answers] == [404, 404]
        assert {each.json()["detail"] for each in answers} == {"No such mapping"}
    assert send(acme, "GET", f"{URL}/nonsense").status_code == 404
    assert send(acme, "POST", URL, new(tenantId="globex")).status_code == 403
    assert send(acme, "GET", f"{URL}?tenantId=globex").status_code == 403
    assert PriceMapping.objects.get().active


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"aggregation": "avg"}, "aggregation"),
        ({"aggregation": ["sum"]}, "aggregation"),
        ({"priceId": "1A"}, "priceId"),
        ({"priceId": None}, "priceId"),
        ({"stripeAccount": "acct_../x"}, "stripeAccount"),
        ({"stripeAccount": "acct_1\r\nStripe-Account: acct_2"}, "stripeAccount"),
        ({"subscriptionItemId": "price_1"}, "subscriptionItemId"),
        ({"currency": "usdd"}, "currency"),
        ({"currency": "zzz"}, "currency"),
        ({"active": "false"}, "active"),
        ({"shadow": True}, "shadowStripeAccount"),
        ({"id": "018f0000-0000-7000-8000-000000000000"}, "id"),
        ({"version": 99}, "version"),
        ({"effectiveFrom": "2026-12-01T10:00:00Z"}, "effectiveFrom"),
        ({"unitFactor": 0}, "unitFactor"),
        ({"aggregation": "sum", "pushSemantics": "event_count"}, "pushSemantics"),
        ({"aggregation": "max", "pushSemantics": "window_total"}, "pushSemantics"),
        ({"aggregation": "count", "pushSemantics": "event_count"}, "valueDecimals"),
        ({"localPrice": {"model": "nonsense", "currency": "USD"}}, "localPrice"),
        (
            {
                "shadow": True,
                "shadowStripeAccount": "acct_1A",
                "shadowPriceId": "price_1A",
                "shadowSubscriptionItemId": "si_1A",
            },
            "shadowPriceId",
        ),
    ],
)
def test_what_cannot_be_billed_is_refused_with_its_field(acme, change, field):
    answer = send(acme, "POST", URL, new(**change))
    assert answer.status_code == 400
    assert field in {error["field"] for error in answer.json()["errors"]}
    assert not PriceMapping.objects.exists()


def refused_meter(answer: Any) -> str:
    """Why the answer refuses a mapping for its meter."""
    error = answer.json()["errors"][0]
    found = answer.status_code, error["field"], error["code"]
    assert found == (400, "pushSemantics", "meter_formula_refused")
    return str(error["detail"])


def test_a_meter_that_adds_up_otherwise_is_refused_when_it_is_mapped(world):
    caller = make_caller(world.acme)
    single = {"aggregation": "count", "pushSemantics": "event_count", "valueDecimals": 0}
    for number, (formula, window, said) in enumerate([
        ("sum", None, {"aggregation": "max", "pushSemantics": "level"}),
        ("last", None, {"aggregation": "sum"}),
        ("count", None, {"aggregation": "count"}),
        ("sum", None, single),
        ("sum", "day", {"aggregation": "sum", "pushSemantics": "hour_total"}),
        ("sum", "hour", {"aggregation": "max"}),
    ]):  # fmt: skip
        name = f"metric_{number}"
        world.meter(name, formula=formula, **({"event_time_window": window} if window else {}))
        body = new(metric=name, stripeAccount="default", **said)
        assert f"the meter is {formula}" in refused_meter(send(caller, "POST", URL, body))
        # The same terms for a meter that nobody made yet, then a change towards the wrong one.
        made = send(caller, "POST", URL, {**body, "stripeMeterEventName": "not_made_yet"})
        assert made.status_code == 201
        path = f"{URL}/{made.json()['id']}"
        answer = send(caller, "PUT", path, {"stripeMeterEventName": name})
        assert f"the meter is {formula}" in refused_meter(answer)
        assert send(caller, "PUT", path, {"currency": "usd"}).status_code == 200


def test_the_meter_of_the_shadow_side_is_looked_at_as_well(world):
    caller = make_caller(world.acme)
    world.meter("requests", mode="test", formula="last")
    made = send(caller, "POST", URL, new(stripeAccount="default"))
    assert made.status_code == 201
    shadow = {"shadow": True, "shadowStripeAccount": "default", "shadowPriceId": "price_2"}
    answer = send(caller, "PUT", f"{URL}/{made.json()['id']}", shadow)
    assert "Shadow: requests" in refused_meter(answer)


def test_a_meter_that_cannot_be_read_holds_no_mapping_up(world, settings):
    caller = make_caller(world.acme)
    world.meter("seats", formula="last")
    body = new(metric="seats", stripeAccount="default")
    world.sandbox.fault("error_503", path="/v1/billing/meters", count=1)
    made = send(caller, "POST", URL, body)
    assert made.status_code == 201
    assert send(caller, "DELETE", f"{URL}/{made.json()['id']}").status_code == 204
    settings.STRIPE_SECRET_KEY = ""
    assert send(caller, "POST", URL, body).status_code == 201


def test_another_tenants_account_tells_nothing_of_its_meters(world):
    world.meter("seats", formula="last")
    StripeAccount.objects.update_or_create(
        account="default", mode="live", defaults={"owner": world.globex}
    )
    answer = send(
        make_caller(world.acme), "POST", URL, new(metric="seats", stripeAccount="default")
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "account_not_available")


def test_read_keys_may_not_write_and_bad_filters_are_refused(acme):
    reader = make_caller("acme", scopes=["mappings:read"])
    assert send(reader, "POST", URL, new()).status_code == 403
    assert send(reader, "GET", URL).status_code == 200
    assert send(acme, "GET", f"{URL}?active=maybe").status_code == 400
    assert send(acme, "PATCH", URL, []).status_code == 405


def test_an_account_bound_to_another_tenant_cannot_be_used(acme, globex):
    StripeAccount.objects.create(account="acct_1A", mode="live", owner=globex.tenant)
    answer = send(acme, "POST", URL, new())
    assert answer.status_code == 400
    assert answer.json()["code"] == "account_not_available"


def test_what_decides_where_pushed_usage_went_cannot_change(world: World):
    caller = make_caller(world.acme)
    mapping = world.mapping(stripe_account="default")
    world.use(5)
    world.push()
    path = f"{URL}/{mapping.pk}"
    for change in ({"aggregation": "max"}, {"stripeMeterEventName": "x"}, {"unitFactor": 2}):
        answer = send(caller, "PUT", path, change)
        assert answer.status_code == 409, answer.json()
        assert answer.json()["code"] == "usage_pushed"
    assert send(caller, "PUT", path, {"subscriptionItemId": "si_new"}).status_code == 200


def test_the_price_of_a_running_period_with_pushed_usage_stays(world: World):
    actor = mappings.Actor(world.acme.pk, "test", world.now)
    mapping = world.mapping(price_id="price_old")

    def change(**changes: Any) -> PriceMapping:
        return mappings.update_mapping(actor=actor, mapping_id=mapping.pk, changes=changes)

    assert change(price_id="price_older").price_id == "price_older"
    world.use(5)
    world.push()
    with pytest.raises(Conflict, match="effectiveFrom") as refused:
        change(price_id="price_new", currency="usd")
    assert refused.value.code == "price_change_loss"
    # The safe sequence: one segment per price.
    december = at(1, 0, month=12)
    change(effective_to=december)
    following = mappings.create_mapping(
        actor=actor,
        metric="requests",
        values={
            "aggregation": "sum",
            "stripe_account": "default",
            "price_id": "price_new",
            "effective_from": december,
        },
    )
    assert following.price_id == "price_new"
    # Once the period is over its price is history, and the mapping may go on with another.
    actor = mappings.Actor(world.acme.pk, "test", at(2, 0, month=12))
    assert change(price_id="price_new").price_id == "price_new"


def test_a_new_mapping_cannot_bill_again_what_a_deleted_one_pushed(world: World):
    caller = make_caller(world.acme)
    mapping = world.mapping()
    world.use(5)
    world.push()
    assert send(caller, "DELETE", f"{URL}/{mapping.pk}").status_code == 204
    again = new(stripeAccount="default")
    answer = send(caller, "POST", URL, again)
    assert answer.status_code == 409
    assert answer.json()["code"] == "usage_pushed_elsewhere"
    later = send(caller, "POST", URL, {**again, "effectiveFrom": "2026-11-21T00:00:00Z"})
    assert later.status_code == 201
    world.move(days=1)
    use(world.acme, 3, ts=NOW + timedelta(days=1, hours=-1), now=world.now)
    world.push()
    assert world.at_stripe() == 8


def test_customer_links_are_made_listed_and_removed(acme, globex):
    body = {"tenantId": "acme", "customerRef": "Käufer 7", "stripeCustomerId": "cus_A1"}
    made = send(acme, "POST", "/v1/customers", body)
    assert made.status_code == 201
    assert send(acme, "POST", "/v1/customers", body).status_code == 200
    taken = {**body, "customerRef": "other"}
    assert send(acme, "POST", "/v1/customers", taken).json()["code"] == "stripe_customer_taken"
    assert send(acme, "POST", "/v1/customers", {**body, "mode": "both"}).status_code == 400
    bad = {**body, "stripeCustomerId": "cus_../x"}
    assert send(acme, "POST", "/v1/customers", bad).status_code == 400
    assert send(globex, "GET", "/v1/customers").json()["customers"] == []
    found = send(acme, "GET", "/v1/customers?limit=1").json()
    assert [each["customerRef"] for each in found["customers"]] == ["Käufer 7"]
    link = made.json()["id"]
    assert send(globex, "DELETE", f"/v1/customers/{link}").status_code == 404
    assert send(acme, "DELETE", f"/v1/customers/{link}").status_code == 204
    assert send(acme, "GET", "/v1/customers").json()["customers"] == []


def test_a_link_cannot_move_once_usage_was_pushed(world: World):
    caller = make_caller(world.acme)
    world.mapping()
    world.use(5)
    world.push()
    body = {"customerRef": "c1", "stripeCustomerId": "cus_Other"}
    answer = send(caller, "POST", "/v1/customers", body)
    assert answer.status_code == 409
    assert answer.json()["code"] == "usage_pushed"


def test_pushes_are_listed_and_run_on_demand(world: World):
    caller = make_caller(world.acme)
    other = make_caller(world.globex)
    world.now = clock.now()
    world.mapping()
    world.use(5)
    ran = send(caller, "POST", "/v1/pushes/run", {"tenantId": "acme"})
    assert ran.status_code == 202
    assert ran.json()["planned"] == 1
    listed = send(caller, "GET", "/v1/pushes").json()
    assert [each["state"] for each in listed["pushes"]] == ["pending"]
    assert listed["counts"] == {"pending": 1}
    world.move(seconds=60)
    world.push()
    listed = send(caller, "GET", "/v1/pushes?state=acknowledged").json()
    assert [each["value"] for each in listed["pushes"]] == [5]
    assert send(other, "GET", "/v1/pushes").json()["pushes"] == []
    assert send(caller, "GET", "/v1/pushes?state=lost").status_code == 400
    assert send(other, "POST", "/v1/pushes/run", {"tenantId": "acme"}).status_code == 403


def test_held_cursors_are_released_over_the_api_and_accounts_by_command(world: World):
    caller, other = make_caller(world.acme), make_caller(world.globex)
    world.now = clock.now()
    mapping = world.mapping()
    world.use(5)
    world.sandbox.fault("bad_request", path="/v1/billing/meter_events")
    world.push()
    assert PushCursor.objects.get().held_at is not None
    path = f"{URL}/{mapping.pk}/release"
    assert send(other, "POST", path, {}).status_code == 404
    assert send(caller, "POST", path, {"mode": "both"}).status_code == 400
    assert send(caller, "POST", path, {}).json() == {"released": 1}
    call_command("stripe_account", "halt", "all", "--reason", "restored a backup")
    world.move(minutes=1)
    assert world.push().outcomes == {}
    call_command("stripe_account", "resume", "default")
    call_command("stripe_account", "list")
    world.settle()
    assert world.at_stripe() == 5
    push = Push.objects.get(state="rejected")
    settle = f"/v1/pushes/{push.id}/settle"
    assert send(caller, "POST", settle, {"verdict": "acknowledged"}).status_code == 409
    assert send(other, "POST", settle, {"verdict": "acknowledged"}).status_code == 404
    assert send(caller, "POST", settle, {"verdict": "maybe"}).status_code == 400
