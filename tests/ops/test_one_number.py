"""One customer's number: on the dashboard, in the API, in the widget and in the export."""

import csv
import io
import json
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse

from reconciliation.services import exports
from stripemeter.lib import clock
from stripemeter.lib.periods import utc_month
from tests.builders.ledger import fold, make_event, store
from tests.builders.tenancy import make_caller
from tests.ops.conftest import Office

REF = "cus_digits"
EXACT, SHOWN = "300000000000.579", "300,000,000,000.579"


@pytest.mark.django_db(transaction=True)  # the export reads on a connection of its own
def test_the_number_is_the_same_everywhere_digit_for_digit(office: Office) -> None:
    now = clock.now()
    for place, quantity in enumerate(("100000000000.123", "200000000000.456")):
        event = make_event(quantity, ts=now, idempotencyKey=f"digits-{place}", customerRef=REF)
        store(office.acme, event, now=now)
    fold(now)
    caller, client = make_caller(office.acme), Client()
    usage = client.get(
        "/v1/usage/current",
        {"tenantId": "acme", "customerRef": REF, "decimals": "string"},
        headers=caller.headers,
    )
    assert usage.status_code == 200, usage.content
    assert usage.json()["metrics"][0]["current"] == EXACT
    body = json.dumps({"customerRef": REF, "origins": ["https://app.example.com"]})
    minted = client.post(
        "/v1/widget/sessions", body, content_type="application/json", headers=caller.headers
    ).json()
    token = {"Authorization": f"Bearer {minted['token']}"}
    assert f'"current": {EXACT}'.replace(" ", "") in client.get(
        "/widget/usage", headers=token
    ).content.decode().replace(" ", "")
    assert (
        f"<strong>{SHOWN}</strong>"
        in client.get("/widget/usage/body", headers=token).content.decode()
    )
    page = office.sign_in("viewer").get(
        reverse("ops:customer-metric"), {"ref": REF, "metric": "api_calls"}
    )
    assert f">{SHOWN}</a>" in page.content.decode()
    export = exports.request_export(
        tenant_id=office.acme.pk, period=utc_month(now), file_format="csv", actor="ada", now=now
    )
    claimed = exports.claim(now=now, export_id=export.pk)
    done = exports.execute(claimed, clock=lambda: now + timedelta(seconds=1))
    rows = list(csv.reader(io.StringIO(b"".join(exports.content(done, "usage.csv")).decode())))
    line = next(row for row in rows if REF in row)
    assert line[rows[0].index("total")] == EXACT
