"""Every kind of scripted fault, as a caller of the SDK meets it."""

import threading

import pytest
import stripe

from tests.sandbox.builders import make_customer, make_meter, send, total

EVENTS = "/v1/billing/meter_events"


@pytest.fixture
def meter(client):
    return make_meter(client)


@pytest.fixture
def customer(client) -> str:
    return make_customer(client)


def outcomes(sandbox) -> list[str]:
    return [line["outcome"] for line in sandbox.journal()]


@pytest.mark.parametrize(
    ("kind", "options", "error", "status", "code"),
    [
        ("rate_limit", {"reason": "global-rate"}, stripe.RateLimitError, 429, "rate_limit"),
        ("rate_limit", {}, stripe.RateLimitError, 429, "rate_limit"),
        ("lock_timeout", {}, stripe.RateLimitError, 429, "lock_timeout"),
        ("conflict", {}, stripe.APIError, 409, "idempotency_key_in_use"),
        ("unauthorized", {}, stripe.AuthenticationError, 401, None),
        ("forbidden", {}, stripe.PermissionError, 403, None),
        ("error_503", {}, stripe.APIError, 503, None),
        ("bad_request", {"code": "x", "message": "m"}, stripe.InvalidRequestError, 400, "x"),
    ],
)
def test_refusals_before_the_call_is_read_apply_nothing_and_keep_the_key_usable(
    sandbox, client, meter, customer, kind, options, error, status, code
):
    sandbox.fault(kind, path=EVENTS, options=options)
    with pytest.raises(error) as caught:
        send(client, customer, "1", identifier="a", key="a")
    assert caught.value.http_status == status
    assert caught.value.error.code == code if code else True
    reason = caught.value.headers.get("stripe-rate-limited-reason")
    assert reason == options.get("reason")
    send(client, customer, "1", identifier="a", key="a")
    assert outcomes(sandbox) == ["applied"]


def test_retry_advice_is_sent_when_scripted(sandbox, client, meter, customer):
    sandbox.fault("lock_timeout", options={"retry_after": 7, "should_retry": True})
    with pytest.raises(stripe.RateLimitError) as caught:
        send(client, customer, "1")
    assert caught.value.headers["retry-after"] == "7"
    assert caught.value.headers["stripe-should-retry"] == "true"


@pytest.mark.parametrize(
    ("kind", "applied"),
    [("drop_before", 0), ("hang_before", 0), ("drop_after", 1), ("hang_after", 1)],
)
def test_a_cut_connection_leaves_the_caller_without_an_answer(
    sandbox, client, meter, customer, kind, applied
):
    sandbox.fault(kind, path=EVENTS, seconds=0.05)
    with pytest.raises(stripe.APIConnectionError):
        send(client, customer, "1", identifier="a", key="a")
    assert len(outcomes(sandbox)) == applied
    answer = send(client, customer, "1", identifier="a", key="a")
    replayed = answer.last_response.headers.get("idempotent-replayed")
    assert replayed == ("true" if applied else None)
    assert total(client, meter.id, customer, sandbox.now()) == 1.0


@pytest.mark.parametrize("kind", ["truncated", "html", "empty"])
def test_a_mangled_answer_is_no_answer_though_the_event_counts(
    sandbox, client, connect, meter, customer, kind
):
    sandbox.fault(kind, path=EVENTS)
    unchecked = connect(http_client=stripe.RequestsClient(timeout=5))
    with pytest.raises((stripe.APIError, stripe.APIConnectionError)):
        send(unchecked, customer, "1", identifier="a")
    assert outcomes(sandbox) == ["applied"]


def test_an_answer_can_name_another_event(sandbox, client, meter, customer):
    sandbox.fault("wrong_id", path=EVENTS)
    assert send(client, customer, "1", identifier="a").identifier == "a_of_another"


@pytest.mark.parametrize("kind", ["slow", "slow_answer"])
def test_a_slow_call_is_answered_late(sandbox, client, meter, customer, kind):
    sandbox.fault(kind, path=EVENTS, seconds=0.2)
    send(client, customer, "1")
    assert outcomes(sandbox) == ["applied"]


def test_a_silently_lost_event_is_accepted_and_missing(sandbox, client, meter, customer):
    sandbox.fault("lose")
    send(client, customer, "5", identifier="a")
    send(client, customer, "1", identifier="b")
    assert outcomes(sandbox) == ["lost", "applied"]
    assert total(client, meter.id, customer, sandbox.now()) == 1.0
    with pytest.raises(stripe.InvalidRequestError, match="already exists"):
        send(client, customer, "5", identifier="a")


def test_a_duplicated_event_and_a_foreign_write_raise_the_sum(sandbox, client, meter, customer):
    sandbox.fault("duplicate", identifier="a")
    sandbox.fault("foreign_write", identifier="b", options={"value": "100"})
    send(client, customer, "5", identifier="a")
    send(client, customer, "1", identifier="b")
    assert outcomes(sandbox) == ["applied", "duplicated", "applied", "foreign"]
    assert total(client, meter.id, customer, sandbox.now()) == 111.0


def test_usage_from_the_dashboard_is_written_by_the_control_api(sandbox, client, meter, customer):
    fields = {"event_name": "api_calls", "customer": customer, "value": "7"}
    sandbox.control("POST", "foreign", fields)
    assert total(client, meter.id, customer, sandbox.now()) == 7.0


def test_summaries_lag_as_long_as_they_are_told_to(sandbox, client, meter, customer):
    sandbox.set_clock(int(sandbox.now()), freeze=True)
    sandbox.configure(summary_lag_seconds=600)
    send(client, customer, "1")
    sandbox.fault("summary_lag", seconds=3600)
    send(client, customer, "10")
    seen = []
    for step in (0, 600, 3000):
        sandbox.advance(step)
        seen.append(total(client, meter.id, customer, sandbox.now()))
    assert seen == [0.0, 1.0, 11.0]


def test_a_fault_strikes_only_what_it_matches_and_as_often_as_it_says(sandbox, client, meter):
    chosen, other = make_customer(client), make_customer(client)
    sandbox.fault("lock_timeout", customer=chosen, identifier="x*", skip=1, count=2)
    send(client, other, "1", identifier="x0")
    send(client, chosen, "1", identifier="y0")
    send(client, chosen, "1", identifier="x1")
    for name in ("x2", "x3"):
        with pytest.raises(stripe.RateLimitError):
            send(client, chosen, "1", identifier=name)
    send(client, chosen, "1", identifier="x4")
    fault = sandbox.control("GET", "faults")["faults"][0]
    assert (fault["seen"], fault["struck"]) == (4, 2)


def test_a_seeded_probability_repeats_itself(sandbox, client, meter, customer):
    def run() -> list[bool]:
        sandbox.clear_faults()
        sandbox.fault("lock_timeout", path=EVENTS, probability=0.4, seed=7, count=None)
        hits = []
        for _ in range(20):
            try:
                send(client, customer, "1")
                hits.append(False)
            except stripe.RateLimitError:
                hits.append(True)
        return hits

    first = run()
    assert first == run()
    assert 0 < sum(first) < 20


def test_unknown_kinds_and_fields_of_faults_are_refused(sandbox):
    with pytest.raises(ValueError, match="unknown kind"):
        sandbox.fault("explode")
    with pytest.raises(ValueError, match="unknown fields"):
        sandbox.fault("lose", colour="red")


def test_rate_limits_name_their_reason(sandbox, client, meter, customer):
    sandbox.configure(rate_limit_global=5)
    reached = [_limit_reason(client) for _ in range(50)]
    assert "global-rate" in reached


def _limit_reason(client) -> str | None:
    try:
        client.v1.customers.list()
    except stripe.RateLimitError as error:
        return error.headers["stripe-rate-limited-reason"]
    return None


def test_live_meter_events_have_a_limit_of_their_own(sandbox, connect):
    from tests.sandbox.conftest import LIVE_KEY

    live = connect(LIVE_KEY)
    make_meter(live)
    customer = make_customer(live)
    sandbox.configure(rate_limit_global=1, rate_limit_meter_events=1000)
    for number in range(20):
        send(live, customer, "1", identifier=str(number))
    assert len(sandbox.journal()) == 20


def test_one_call_at_a_time_per_customer_and_meter(sandbox, connect, client, meter, customer):
    sandbox.configure(latency_ms=300)
    other = make_customer(client)
    refused: list[str] = []

    def push(target: str, name: str) -> None:
        try:
            send(connect(), target, "1", identifier=name)
        except stripe.RateLimitError as error:
            refused.append(error.error.code)

    threads = [
        threading.Thread(target=push, args=(target, f"n{number}"))
        for number, target in enumerate((customer, customer, other))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == ["lock_timeout"]
    assert sandbox.stats()["overlapping_calls"] == 1
    assert len(sandbox.journal()) == 2


def test_the_same_key_in_flight_twice_is_a_conflict(sandbox, connect, client):
    sandbox.configure(latency_ms=300)
    codes: list[str] = []

    def create() -> None:
        try:
            connect().v1.customers.create({}, {"idempotency_key": "same"})
        except stripe.APIError as error:
            codes.append(error.error.code)

    threads = [threading.Thread(target=create) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == ["idempotency_key_in_use"]
    assert len(client.v1.customers.list().data) == 1


def test_control_refuses_what_it_does_not_know(sandbox):
    for method, name, body in (
        ("GET", "nothing", None),
        ("POST", "settings", {"colour": 1}),
        ("POST", "clock", {"when": 1}),
        ("DELETE", "faults/fault_99999", None),
        ("POST", "foreign", {"event_name": "api_calls"}),
        ("GET", "journal?limit=many", None),
        ("POST", "clock", {"now": "tomorrow"}),
    ):
        with pytest.raises(ValueError, match="40"):
            sandbox.control(method, name, body)
