"""The published pricing cases of the predecessor (contract.md 4.3), as data.

A case: number, usage items as (config, quantity), further input, and what must come out.
Prices are written as `tiers("tiered", [1000, "0.10"], ...)`, a flat fee as a third member.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def tiers(model: str, *rows: list[Any]) -> dict[str, Any]:
    """A PriceConfig of tiers [up_to, unit price, flat price]; up_to None is the open tier."""
    listed = []
    for up_to, unit, *flat in rows:
        tier = {"upTo": up_to, "unitPrice": unit}
        if flat:
            tier["flatPrice"] = flat[0]
        listed.append(tier)
    return {"model": model, "currency": "USD", "tiers": listed}


def flat(unit: object, **more: object) -> dict[str, Any]:
    return {"model": "flat", "currency": "USD", "unitPrice": unit, **more}


def package(size: object, unit: object, **more: object) -> dict[str, Any]:
    return {"model": "package", "currency": "USD", "packageSize": size, "unitPrice": unit, **more}


@dataclass(frozen=True)
class Case:
    number: str
    items: list[tuple[dict[str, Any], object]]
    total: str
    more: dict[str, Any] = field(default_factory=dict)
    subtotal: str | None = None
    credits: str | None = None
    tax: str | None = None
    lines: list[str] | None = None
    rows: list[tuple[str, str]] | None = None
    shown_unit: str | None = None


A = [[1000, 0.10], [10000, 0.08], [None, 0.05]]
B = [[100, 1.00], [1000, 0.80], [None, 0.60]]
G = [[100, 0.50, 10], [1000, 0.30, 50], [None, 0.20, 100]]
E1 = [[1000, 0.10], [10000, 0.08], [50000, 0.05], [None, 0.03]]
M = [[10000, 0.01], [50000, 0.008], [None, 0.005]]

HOT = tiers("graduated", [100, 0.023, 5], [1000, 0.021, 15], [None, 0.018, 50])
COLD = tiers("graduated", [1000, 0.008, 2], [10000, 0.006, 8], [None, 0.004, 25])
ARCHIVE = flat(0.001)
RETRIEVAL = tiers("tiered", [10, 0], [100, 0.05], [None, 0.03])

COMMITMENT = {"startDate": "2024-01-01", "endDate": "2024-12-31"}


def commitment(amount: float, applied: float = 0) -> dict[str, Any]:
    return {"commitments": [{"amount": amount, "applied": applied, **COMMITMENT}]}


def credit_list(*amounts: float) -> dict[str, Any]:
    return {"credits": [{"amount": amount, "reason": "promo"} for amount in amounts]}


def series(
    number: str, price: dict[str, Any], quantities: list[object], totals: list[str]
) -> list[Case]:
    """One price at several quantities."""
    return [
        Case(f"{number}-{quantity}", [(price, quantity)], total)
        for quantity, total in zip(quantities, totals, strict=True)
    ]


CASES: list[Case] = [
    Case("1", [(tiers("tiered", *B), 50)], "50.00", rows=[("50", "50.00")]),
    Case(
        "2",
        [(tiers("tiered", *B), 1500)],
        "1120.00",
        rows=[("100", "100.00"), ("900", "720.00"), ("500", "300.00")],
    ),
    Case("8", [(tiers("volume", [None, 2.5]), 10)], "25.00"),
    Case("9", [(tiers("graduated", *G), 50)], "35.00"),
    Case("11", [(tiers("graduated", *G), 0)], "0", rows=[]),
    Case(
        "12",
        [(tiers("tiered", *A), 1500)],
        "130",
        {**credit_list(10), "taxRate": 0},
        subtotal="140",
        credits="10",
    ),
    Case(
        "13",
        [
            (tiers("volume", [1000, 0.10], [50000, 0.08], [None, 0.05]), 25000),
            (flat(0.02), 300),
        ],
        "2176.51",
        {"taxRate": 8.5},
        subtotal="2006",
        tax="170.51",
    ),
    Case(
        "15",
        [(tiers("tiered", [100, 0.10], [500, 0.08], [None, 0.05]), 350)],
        "30",
        shown_unit="0.09",
    ),
    Case("16", [(tiers("volume", [100, 0.10], [500, 0.07], [None, 0.04]), 250)], "17.50"),
    Case(
        "17",
        [(tiers("graduated", [100, 0.05, 10], [500, 0.03, 30], [None, 0.02, 100]), 150)],
        "46.50",
    ),
    Case("18", [(package(100, 5.00), 250)], "15", rows=[("3", "15.00")]),
    Case("19", [(flat(0.01), 1000)], "5", commitment(5), subtotal="10", credits="5"),
    Case("20", [(flat(0.01), 1000)], "5", credit_list(3, 2), subtotal="10", credits="5"),
    Case("22", [(flat(0.01, minimumCharge=5), 10)], "5"),
    Case("23", [(flat(0.01, maximumCharge=50), 10000)], "50"),
    Case("25", [(flat(0.01), -100)], "0", lines=["-1"]),
    Case("29", [(tiers("tiered", *M), 25000)], "220"),
    Case("30", [(tiers("tiered", *A), 15000)], "1070"),
    Case("31", [(tiers("volume", *A), 15000)], "750"),
    Case(
        "32",
        [(tiers("graduated", [1000, 0.05, 50], [10000, 0.03, 100], [None, 0.01, 200]), 15000)],
        "720",
    ),
    Case(
        "34",
        [
            (tiers("tiered", [10000, 0.01], [100000, 0.008], [None, 0.005]), 50000),
            (tiers("volume", [100, 0.5], [1000, 0.4], [None, 0.3]), 500),
            (flat(0.02), 8760),
        ],
        "795.20",
        lines=["420", "200", "175.20"],
    ),
    *series(
        "36", tiers("tiered", [1000, 0], [10000, 0.02], [None, 0.015]), [500, 5000], ["0", "80"]
    ),
    *series(
        "37",
        tiers("tiered", [10000, 0], [100000, 0.01], [None, 0.008]),
        [8000, 25000],
        ["0", "150"],
    ),
    Case(
        "39",
        [
            (tiers("volume", [100, 0.5], [1000, 0.35], [10000, 0.25], [None, 0.15]), 15000),
            (flat(0.025, minimumCharge=1), 744000),
        ],
        "17850",
        {**commitment(5000, 2500), **credit_list(500)},
        subtotal="20850",
        credits="3000",
        lines=["2250", "18600"],
    ),
    Case(
        "40",
        [(HOT, 50), (COLD, 200), (ARCHIVE, 0), (RETRIEVAL, 5)],
        "9.75",
        lines=["6.15", "3.60", "0", "0"],
    ),
    Case(
        "41",
        [(HOT, 500), (COLD, 2000), (ARCHIVE, 5000), (RETRIEVAL, 50)],
        "61.70",
        lines=["30.70", "24", "5", "2"],
    ),
    Case(
        "43",
        [
            (tiers("tiered", [100, 0.5], [1000, 0.35], [None, 0.25]), 5000),
            (tiers("graduated", [10, 0, 0], [100, 2, 50], [None, 1.5, 200]), 250),
            (tiers("volume", [100000, 0.0001], [1000000, 0.00008], [None, 0.00005]), 2500000),
            (tiers("tiered", [100, 0.09], [1000, 0.085], [None, 0.08]), 1500),
        ],
        "0",
        {**commitment(10000), **credit_list(1000, 500)},
        subtotal="2270.50",
        credits="3770.50",
        lines=["1365", "655", "125", "125.50"],
    ),
    *series(
        "44",
        tiers("tiered", [5000, 0.01], [50000, 0.008], [None, 0.005]),
        [2500, 15000, 75000, 300000],
        ["25", "130", "535", "1660"],
    ),
    *series(
        "45",
        tiers("volume", [5000, 0.012], [50000, 0.009], [None, 0.006]),
        [2500, 15000, 75000, 300000],
        ["30", "135", "450", "1800"],
    ),
    *series(
        "46",
        tiers("graduated", [10000, 0.005, 25], [100000, 0.003, 100], [None, 0.002, 400]),
        [2500, 15000, 75000, 300000],
        ["37.50", "190", "370", "1245"],
    ),
    *series(
        "47",
        tiers("tiered", *E1),
        [500, 5000, 25000, 100000, 0, 1000, 1001, 999.99, 1000000],
        ["50", "420", "1570", "4320", "0", "100", "100.08", "100.00", "31320"],
    ),
    *series(
        "48",
        tiers("volume", [100, 0.5], [1000, 0.35], [5000, 0.25], [None, 0.15]),
        [50, 500, 2500, 10000],
        ["25", "175", "625", "1500"],
    ),
    *series(
        "49",
        tiers("graduated", [100, 0.02, 5], [1000, 0.015, 15], [None, 0.01, 50]),
        [25, 250, 2500],
        ["5.50", "24.25", "100.50"],
    ),
    Case(
        "50",
        [
            (tiers("tiered", [5000, 0.01], [20000, 0.008], [None, 0.005]), 15000),
            (flat(0.025), 150),
            (tiers("volume", [100, 0.09], [1000, 0.07], [None, 0.05]), 500),
        ],
        "168.75",
        lines=["130", "3.75", "35"],
    ),
    Case(
        "51",
        [(tiers("volume", [500, 0.5], [2000, 0.4], [None, 0.3]), 1000)],
        "0",
        {**commitment(2000), **credit_list(100, 50), "taxRate": 8.5},
        subtotal="400",
        credits="550",
        tax="0",
    ),
    Case("54", [(flat(0.01), 1000)], "10"),
    *series("55a", flat(0.004), [1], ["0"]),
    *series("55b", flat(0.005), [1], ["0.01"]),
    Case("56", [(tiers("tiered", [1, 0.005], [2, 0.005], [None, 0.005]), 3)], "0.02"),
]
