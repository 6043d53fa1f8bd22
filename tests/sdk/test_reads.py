"""Reading usage: requests as the contract has them, numbers digit for digit."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from stripemeter.sdk import DeliveryFailed, InvalidEvent


def test_current_usage_is_exact(server, make_client):
    usage = make_client().get_usage()
    assert usage["api_calls"] == Decimal("12345678901234567890.123456789012")
    assert usage["never_used"] == 0
    assert (usage.period_start, usage.period_end) == ("2026-11-01", "2026-11-30")
    assert server.requests[0]["path"] == "/v1/usage/current?tenantId=acme&customerRef=c1"


def test_a_projection_takes_both_days_or_none(server, make_client):
    client = make_client()
    projection = client.get_projection("c2", date(2026, 11, 1), "2026-11-30")
    assert (projection.total, projection.currency) == (Decimal("2.5"), "USD")
    assert projection.line_items[0].unit_price == Decimal("0.5")
    assert b'"customerRef": "c2"' in server.requests[0]["body"]
    with pytest.raises(InvalidEvent):
        client.get_projection(period_start="2026-11-01")


def test_both_forms_of_history_are_spoken(server, make_client):
    client = make_client()
    start = datetime(2026, 11, 1, tzinfo=UTC)
    by_period = client.get_history("m", period_start=start, period_end="2026-11-30T00:00:00Z")
    by_series = client.get_history("m", since="-P1D", interval="hour")
    assert (by_period.total, by_series.total) == (3, 2)
    assert "periodStart=2026-11-01T00%3A00%3A00.000000Z" in server.requests[0]["path"]
    assert "since=-P1D&interval=hour" in server.requests[1]["path"]


@pytest.mark.parametrize(
    "window", [{}, {"period_start": "a"}, {"period_start": "a", "period_end": "b", "since": "c"}]
)
def test_the_forms_of_history_do_not_mix(make_client, window):
    with pytest.raises(InvalidEvent):
        make_client().get_history("m", **window)


def test_a_read_is_retried_like_a_write(server, make_client):
    server.faults.extend(["503", "html"])
    assert make_client().get_usage().customer_ref == "c1"
    server.faults.extend(["503"] * 4)
    with pytest.raises(Exception, match="503"):
        make_client().get_usage()


def test_a_server_that_is_not_there_is_a_delivery_failure(make_client):
    client = make_client(api_url="http://127.0.0.1:9", retry_attempts=1)
    with pytest.raises(DeliveryFailed, match="no answer"):
        client.get_usage()
