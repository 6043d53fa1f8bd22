"""The commands that hold prices against Stripe, and forecasts against the past."""

import io
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command

from billing.services.mappings import Actor, create_mapping
from stripemeter.lib import clock
from tests.builders.ledger import fold, make_event, store
from tests.builders.tenancy import make_tenant


@pytest.mark.django_db
def test_our_totals_are_the_previews_of_stripe(sandbox: Any) -> None:
    acme = make_tenant("acme")
    tiers = [{"upTo": 100, "unitPrice": "0.013", "flatPrice": "2"},
             {"upTo": None, "unitPrice": "0.0077"}]  # fmt: skip
    values = {
        "aggregation": "sum", "stripe_account": "default", "price_id": "price_1",
        "local_price": {"model": "graduated", "currency": "USD", "tiers": tiers},
    }  # fmt: skip
    create_mapping(actor=Actor(acme.pk, "t", clock.now()), metric="calls", values=values)
    said = io.StringIO()
    call_command("verify_pricing", tenant="acme", quiet=True, stdout=said)
    assert said.getvalue().strip() == "56 previews of 9 prices, 0 differ"


@pytest.mark.django_db
def test_the_error_table_has_a_row_per_metric_and_cut(capsys: pytest.CaptureFixture[str]) -> None:
    acme = make_tenant("acme")
    now = clock.now()
    for back in range(36, 0, -1):
        then = now - timedelta(days=back)
        event = make_event(100 + (then.weekday() < 5) * 50, ts=then, idempotencyKey=str(uuid4()))
        store(acme, event, now=then)
        fold(then)
    call_command("backtest_forecast", tenant="acme")
    said = capsys.readouterr().out
    assert "Back-test of acme: 5 weeks" in said or "Back-test of acme: 4 weeks" in said
    assert said.count("api_calls") == 3
    assert "all" in said
