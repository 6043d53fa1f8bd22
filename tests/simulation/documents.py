"""Scenario documents for the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FLAT = {"model": "flat", "currency": "USD", "unitPrice": 0.01}


def scenario(**changes: Any) -> dict[str, Any]:
    """A valid scenario: 1,000 units at 0.01 are 10.00."""
    document: dict[str, Any] = {
        "metadata": {"name": "basic flat"},
        "inputs": inputs(),
        "expected": {"total": 10},
    }
    return {**document, **changes}


def inputs(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "customerId": "cus_1",
        "periodStart": "2025-01-01",
        "periodEnd": "2025-02-01",
        "usageItems": [item()],
    }
    return {**given, **changes}


def item(quantity: object = 1000, **config: Any) -> dict[str, Any]:
    return {"metric": "api_calls", "quantity": quantity, "priceConfig": {**FLAT, **config}}


def write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path
