"""Idempotency keys, API keys, modes and connected accounts."""

import pytest
import stripe

from tests.sandbox.builders import make_customer, make_meter, send, total
from tests.sandbox.conftest import LIVE_KEY

DAY = 86_400


def test_the_same_key_and_parameters_replay_the_stored_answer(sandbox, client):
    meter, customer = make_meter(client), make_customer(client)
    first = send(client, customer, "1", identifier="a", key="key-a")
    again = send(client, customer, "1", identifier="a", key="key-a")
    assert again.to_dict() == first.to_dict()
    assert again.last_response.headers["idempotent-replayed"] == "true"
    assert again.last_response.headers["original-request"] == first.last_response.request_id
    assert total(client, meter.id, customer, sandbox.now()) == 1.0


def test_the_same_key_with_other_parameters_is_an_idempotency_error(client):
    make_meter(client)
    customer = make_customer(client)
    send(client, customer, "1", key="key-a")
    with pytest.raises(stripe.IdempotencyError, match="same parameters"):
        send(client, customer, "2", key="key-a")
    with pytest.raises(stripe.IdempotencyError, match="same endpoint"):
        client.v1.customers.create({}, {"idempotency_key": "key-a"})


def test_a_500_after_applying_is_replayed_until_another_key_is_used(sandbox, client):
    meter, customer = make_meter(client), make_customer(client)
    sandbox.fault("error_500_after", path="/v1/billing/meter_events")
    with pytest.raises(stripe.APIError) as caught:
        send(client, customer, "3", identifier="a", key="key-a")
    assert caught.value.http_status == 500
    with pytest.raises(stripe.APIError) as caught:
        send(client, customer, "3", identifier="a", key="key-a")
    assert caught.value.headers["idempotent-replayed"] == "true"
    with pytest.raises(stripe.InvalidRequestError, match="already exists with identifier a"):
        send(client, customer, "3", identifier="a", key="key-b")
    assert total(client, meter.id, customer, sandbox.now()) == 3.0


def test_a_500_before_applying_leaves_the_identifier_free_for_another_key(sandbox, client):
    meter, customer = make_meter(client), make_customer(client)
    sandbox.fault("error_500_before", path="/v1/billing/meter_events")
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            send(client, customer, "3", identifier="a", key="key-a")
    send(client, customer, "3", identifier="a", key="key-b")
    assert total(client, meter.id, customer, sandbox.now()) == 3.0


def test_a_validation_error_leaves_the_key_usable(client):
    make_meter(client)
    customer = make_customer(client)
    with pytest.raises(stripe.InvalidRequestError):
        send(client, customer, "many", key="key-a")
    send(client, customer, "1", key="key-a")


def test_keys_are_forgotten_after_24_hours(sandbox, client):
    make_meter(client)
    customer = make_customer(client)
    send(client, customer, "1", identifier="a", key="key-a")
    sandbox.advance(DAY + 60)
    send(client, customer, "2", identifier="a", key="key-a")
    assert [line["value"] for line in sandbox.journal()] == ["1", "2"]


@pytest.mark.parametrize("key", ["", "nonsense", "pk_test_0123456789", "sk_other_0123456789"])
def test_malformed_keys_are_refused(connect, key):
    with pytest.raises(stripe.AuthenticationError):
        connect(key or "x").v1.customers.list()


def test_a_revoked_key_is_refused_and_the_others_work_on(sandbox, connect):
    sandbox.control("POST", "keys", {"revoke": "sk_test_gone00000000000000000"})
    with pytest.raises(stripe.AuthenticationError):
        connect("sk_test_gone00000000000000000").v1.customers.list()
    connect("rk_test_stays0000000000000000").v1.customers.list()


def test_test_and_live_are_separate_worlds(connect):
    test, live = connect(), connect(LIVE_KEY)
    make_customer(test)
    assert live.v1.customers.list().data == []
    assert live.v1.customers.create({}).livemode is True


def test_connected_accounts_and_keys_of_other_accounts_see_their_own_objects(connect):
    own, connected = connect(), connect(stripe_account="acct_connected1")
    other = connect("sk_test_51AbCdEfGhIjKlMnOpQrStUvWxYz0123456789")
    make_customer(connected)
    assert own.v1.customers.list().data == []
    assert other.v1.customers.list().data == []
    assert len(connected.v1.customers.list().data) == 1
    assert connected.v1.accounts.retrieve_current().id == "acct_connected1"
    assert other.v1.accounts.retrieve_current().id == "acct_1AbCdEfGhIjKlMnO"


def test_the_answer_names_the_request_and_echoes_the_version(client):
    answer = client.v1.customers.list().last_response
    assert answer.request_id.startswith("req_")
    assert answer.headers["stripe-version"] == "2026-08-26.dahlia"


def test_an_unknown_url_is_a_404_of_stripes_shape(client):
    with pytest.raises(stripe.InvalidRequestError, match="Unrecognized request URL"):
        client.raw_request("get", "/v1/nothing", stripe_version="2025-02-24.acacia")
