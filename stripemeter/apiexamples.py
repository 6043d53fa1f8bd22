"""One example body for every operation that takes one; tests send each to a live server."""

from typing import Any

_ID = "0190a2f2-9203-7197-bfe0-c0fffa66b887"
_PRICE = {"model": "flat", "currency": "USD", "unitPrice": "0.01"}
_INPUTS = {
    "customerId": "cus_1",
    "periodStart": "2026-11-01",
    "periodEnd": "2026-11-30",
    "usageItems": [{"metric": "api_calls", "quantity": 1000, "priceConfig": _PRICE}],
}
_SCENARIO = {"name": "Thousand calls", "model": _PRICE, "inputs": _INPUTS}

REQUESTS: dict[str, Any] = {
    "createAdjustment": {
        "tenantId": "acme",
        "metric": "api_calls",
        "customerRef": "cus_1",
        "periodStart": "2026-11-01",
        "delta": -5,
        "reason": "correction",
        "requestId": "ticket-4711",
        "note": "Retried by mistake",
    },
    "approveAdjustment": {"tenantId": "acme", "note": "Checked against the ticket"},
    "rejectAdjustment": {"tenantId": "acme", "note": "Counted already"},
    "revertAdjustment": {"tenantId": "acme", "note": "Approved by mistake"},
    "createApiKey": {"tenantId": "acme", "name": "billing job", "scopes": ["usage:read"]},
    "revokeApiKey": {"tenantId": "acme"},
    "rotateApiKey": {"tenantId": "acme", "overlapSeconds": 3600},
    "setCalendar": {
        "tenantId": "acme",
        "customerRef": "cus_1",
        "anchor": "2026-01-31T00:00:00Z",
        "interval": "month",
    },
    "linkCustomer": {"customerRef": "cus_1", "stripeCustomerId": "cus_Nf1a", "mode": "test"},
    "createBackfill": {
        "tenantId": "acme",
        "metric": "api_calls",
        "periodStart": "2026-10-01",
        "reason": "Queue was down on the 3rd",
        "csvData": ("customerRef,quantity,ts,idempotencyKey\ncus_1,3,2026-10-03T12:00:00Z,old-1\n"),
    },
    "createMapping": {
        "tenantId": "acme",
        "metric": "api_calls",
        "aggregation": "sum",
        "stripeAccount": "acct_1Nf",
        "priceId": "price_1Nf",
        "stripeMeterEventName": "api_calls",
    },
    "updateMapping": {"tenantId": "acme", "active": False},
    "releaseMapping": {"tenantId": "acme", "mode": "test"},
    "createMetric": {
        "tenantId": "acme",
        "name": "storage_gb",
        "aggregation": "max",
        "unit": "GB",
    },
    "updateMetric": {"tenantId": "acme", "description": "Largest volume of the period"},
    "cancelOperation": {"tenantId": "acme"},
    "resumeOperation": {"tenantId": "acme"},
    "runPushes": {"tenantId": "acme"},
    "settlePush": {"tenantId": "acme", "verdict": "acknowledged", "note": "Seen in the dashboard"},
    "approveAdjustments": {"tenantId": "acme", "adjustmentIds": [_ID], "reason": "Month end"},
    "closePeriod": {"tenantId": "acme", "period": "2026-10"},
    "requestExport": {"tenantId": "acme", "period": "2026-10", "format": "csv"},
    "decideFinding": {"tenantId": "acme", "state": "accepted", "note": "Known"},
    "proposeRepairPlan": {"tenantId": "acme", "findingIds": [_ID], "dryRun": True},
    "runReconciliation": {"tenantId": "acme"},
    "replay": {
        "tenantId": "acme",
        "metrics": ["api_calls"],
        "since": "-PT24H",
        "until": "now",
        "mode": "dry-run",
    },
    "runScenarioBatch": {"tenantId": "acme", "name": "Price change", "scenarioIds": [_ID]},
    "runScenario": {"tenantId": "acme", "scenario": _SCENARIO},
    "createScenario": _SCENARIO,
    "updateScenario": _SCENARIO,
    "projectUsage": {"tenantId": "acme", "customerRef": "cus_1"},
    "mintWidgetSession": {
        "tenantId": "acme",
        "customerRef": "cus_1",
        "origins": ["https://app.example.com"],
        "ttlSeconds": 600,
    },
}
