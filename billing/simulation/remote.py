"""What-if on the history that a service has, over its API: for `stripemeter sim whatif`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Protocol

from billing.pricing.errors import InvalidField
from billing.simulation.files import pretty_json, read_document
from billing.simulation.whatif import CustomerDelta
from billing.simulation.whatif_files import csv_lines

POLL_SECONDS: Final = 1.0
_PASSED_ON: Final = {
    "prices": "prices", "fixed_fee": "fixedFee", "fixedFee": "fixedFee",
    "minimum_spend": "minimumSpend", "minimumSpend": "minimumSpend", "coupons": "coupons",
    "currency": "currency",
}  # fmt: skip


class Caller(Protocol):
    """What a command's session offers."""

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, **more: Any) -> Any:
        """One request; the answer's JSON."""


def ask(session: Caller, proposed: Path, *, since: str | None, until: str | None) -> Any:
    """Put the question and wait for its answer. Raises `PricingError` for a bad file."""
    document = read_document(proposed)
    if not isinstance(document, dict):
        raise InvalidField("must be a price set", path=str(proposed))
    body = {_PASSED_ON[name]: value for name, value in document.items() if name in _PASSED_ON}
    body |= {name: day for name, day in (("from", since), ("to", until)) if day}
    run = session.call("POST", "/v1/simulations/whatif", body)
    while run["status"] in {"pending", "running"}:
        time.sleep(POLL_SECONDS)
        run = session.call("GET", f"/v1/simulations/whatif/{run['id']}")
    if run["status"] == "failed":
        raise InvalidField(run["error"], path="prices")
    return run


def customers(session: Caller, run: Any) -> Iterator[CustomerDelta]:
    """Every customer of the answer, largest increase first."""
    offset: int | None = 0
    places = int(run["result"]["exponent"])
    while offset is not None:
        query = {"limit": 1_000, "offset": offset}
        path = f"/v1/simulations/whatif/{run['id']}/customers"
        page = session.call("GET", path, query=query)
        for row in page["customers"]:
            yield CustomerDelta(
                row["customer"],
                row["periods"],
                _minor(row["before"], places),
                _minor(row["after"], places),
            )
        offset = page["nextOffset"]


def _minor(amount: Any, places: int) -> int:
    return int(Decimal(str(amount)).scaleb(places))


def rises_more_than(item: CustomerDelta, percent: Decimal) -> bool:
    """Whether the customer pays more by more than ``percent``; from nothing counts as more."""
    return item.delta_minor > 0 and item.delta_minor * 100 > percent * item.before_minor


def as_text(run: Any, rows: list[CustomerDelta], form: str) -> str:
    """The answer as a table, JSON or CSV."""
    result = run["result"]
    if form == "json":
        return pretty_json({key: run[key] for key in run}).decode()
    if form == "csv":
        places = int(result["exponent"])
        return "".join(csv_lines(rows, currency=result["currency"], places=places))
    revenue = result["revenue"]
    lines = [
        f"{result['customerPeriods']} customer-periods from {run['from']} to {run['to']}",
        f"revenue {revenue['before']} -> {revenue['after']} {result['currency']} "
        f"({revenue['delta']}, {revenue['percent']} %)",
        f"{result['losers']} pay more, {result['winners']} pay less, "
        f"{result['unchanged']} the same",
    ]
    for title, items in (("largest increases", run["losers"]), ("largest savings", run["winners"])):
        if items:
            lines.append(f"{title}:")
        lines += [
            f"  {row['customer']}: {row['before']} -> {row['after']} ({row['percent']} %)"
            for row in items[:10]
        ]
    if result["cliffs"]:
        lines.append("just below a cliff:")
    lines += [
        f"  {row['customer']} {row['period']}: {row['quantity']} {row['metric']}, "
        f"jump of {row['jump']} after {row['at']}"
        for row in result["cliffs"][:10]
    ]
    if result["leftOut"]:
        lines.append(f"left out: {', '.join(result['leftOut'])}")
    return "\n".join(lines) + "\n"
