"""Calendars and periods over the API."""

from typing import Any

from django.test import Client

from counters.models import BillingCalendar
from tests.builders.tenancy import Caller, make_caller

ANCHOR = {"anchor": "2026-01-31T00:00:00Z", "interval": "month"}


def put(caller: Caller, body: dict[str, Any]) -> Any:
    return Client().put("/v1/calendars", body, "application/json", headers=caller.headers)


def get(caller: Caller, path: str, **query: str) -> Any:
    return Client().get(path, query, headers=caller.headers)


def test_a_calendar_is_set_listed_used_and_taken_away(acme: Caller, globex: Caller) -> None:
    assert put(acme, {**ANCHOR, "customerRef": "cus_1"}).status_code == 200
    assert put(globex, {**ANCHOR, "interval": "day"}).status_code == 200
    listed = get(acme, "/v1/calendars").json()["calendars"]
    assert [(row["customerRef"], row["interval"]) for row in listed] == [("cus_1", "month")]
    query = {"since": "2026-02-01T00:00:00Z", "until": "2026-04-02T00:00:00Z"}
    periods = get(acme, "/v1/periods", customerRef="cus_1", **query).json()["periods"]
    assert [(row["start"][:10], row["end"][:10], row["state"]) for row in periods] == [
        ("2026-01-31", "2026-02-28", "open"),
        ("2026-02-28", "2026-03-31", "open"),
        ("2026-03-31", "2026-04-30", "open"),
    ]
    answer = Client().delete("/v1/calendars?customerRef=cus_1", headers=acme.headers)
    assert answer.status_code == 204
    months = get(acme, "/v1/periods", customerRef="cus_1", **query).json()["periods"]
    assert [row["start"][:10] for row in months] == ["2026-02-01", "2026-03-01", "2026-04-01"]
    assert BillingCalendar.objects.get().tenant_id == globex.tenant.pk
    again = Client().delete("/v1/calendars?customerRef=cus_1", headers=acme.headers)
    assert again.status_code == 404


def test_what_is_no_calendar_is_refused(acme: Caller) -> None:
    for change in (
        {"interval": "hour"},
        {"intervalCount": 0},
        {"intervalCount": 37},
        {"anchor": "2026-01-31"},
        {"zone": "Nowhere/Else"},
        {"customerRef": ""},
        {"colour": "red"},
    ):
        assert put(acme, {**ANCHOR, **change}).status_code == 400, change
    assert not BillingCalendar.objects.exists()


def test_reading_keys_cannot_set_and_foreign_tenants_are_refused(
    acme: Caller, globex: Caller
) -> None:
    reader = make_caller(acme.tenant, scopes=["project:read", "usage:write"])
    assert put(reader, ANCHOR).status_code == 403
    assert put(acme, {**ANCHOR, "tenantId": "globex"}).status_code == 403
    assert not BillingCalendar.objects.exists()


def test_a_range_that_would_hold_too_many_periods_is_refused(acme: Caller) -> None:
    put(acme, {**ANCHOR, "interval": "day"})
    query = {"since": "2000-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}
    answer = get(acme, "/v1/periods", customerRef="c", **query)
    assert answer.status_code == 400
    assert get(acme, "/v1/periods", customerRef="c", since="soon").status_code == 400
