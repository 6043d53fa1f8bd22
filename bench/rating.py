"""``python -m bench.rating``: pricing, what-if and forecast speed on one core, as one table.

Needs no database. The goal for what-if is 100,000 customer-periods within 30 s.
"""

from __future__ import annotations

import os
import platform
import random
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from billing.forecasting import ALL, choose, forecast, history_of
from billing.pricing import Coupon, Rater, RuleSet, price_from_config
from billing.simulation.whatif import PriceSet, UsageRow, what_if

CUSTOMERS, PERIODS, METRICS = 20_000, 5, ("calls", "storage", "seats")
CALLS = 100_000


def price(model: str, *tiers: tuple[int | None, str, int]) -> object:
    listed = [{"upTo": end, "unitPrice": unit, "flatPrice": flat} for end, unit, flat in tiers]
    config = {"model": model, "currency": "USD", "tiers": listed}
    return price_from_config(config, rules=RuleSet.STRIPE)


def timed(call: Callable[[], object], times: int = 1) -> tuple[float, float]:
    """Seconds on the clock and on the processor for one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        call()
    return (time.perf_counter() - wall) / times, (time.process_time() - cpu) / times


def price_sets() -> tuple[PriceSet, PriceSet]:
    current = {
        "calls": price("graduated", (1000, "0.01", 5), (10_000, "0.008", 0), (None, "0.005", 0)),
        "storage": price("volume", (100, "0.5", 0), (1000, "0.4", 0), (None, "0.3", 0)),
        "seats": price("volume", (10, "12", 0), (None, "9", 0)),
    }
    raised = price("graduated", (1000, "0.012", 5), (10_000, "0.007", 0), (None, "0.004", 0))
    coupons = (Coupon(percent_off=Decimal(10)),)
    return (
        PriceSet(current, minimum_spend_minor=1000, coupons=coupons),  # type: ignore[arg-type]
        PriceSet({**current, "calls": raised}, minimum_spend_minor=2000, coupons=coupons),  # type: ignore[dict-item]
    )


def main() -> None:
    """Measure once and print."""
    source = random.Random(1)
    current, proposed = price_sets()
    usage = [
        UsageRow(f"c{customer}", f"2025-{period:02}", metric, Decimal(source.randrange(20_000)))
        for period in range(1, PERIODS + 1)
        for customer in range(CUSTOMERS)
        for metric in METRICS
    ]
    rater = Rater(current.prices["calls"], RuleSet.STRIPE)
    quantities = [row.quantity for row in usage[:CALLS]]
    daily = {
        date(2025, 1, 1) + timedelta(index): Decimal(source.randrange(1000)) for index in range(180)
    }
    now = datetime(2025, 6, 30, 12, tzinfo=UTC)
    bounds = {"period_start": datetime(2025, 6, 15, tzinfo=UTC), "now": now}
    end = datetime(2025, 7, 15, tzinfo=UTC)

    history = history_of(daily, today=now.date())
    choose(history, horizon_days=15, methods=ALL)  # imports statsmodels
    rows = [
        (f"rate, {CALLS:,} amounts", timed(lambda: [rater.amount(q) for q in quantities])),
        (
            f"rate, {CALLS // 10:,} with breakdown",
            timed(lambda: [rater.rate(q) for q in quantities[: CALLS // 10]]),
        ),
        (
            f"what-if, {CUSTOMERS * PERIODS:,} customer-periods, {len(METRICS)} metrics",
            timed(lambda: what_if(usage, current=current, proposed=proposed)),
        ),
        (
            "forecast, 180 days, quick methods",
            timed(lambda: forecast(daily, so_far=Decimal(5000), period_end=end, **bounds), 20),
        ),
        (
            "choose, 180 days, all methods",
            timed(lambda: choose(history, horizon_days=15, methods=ALL)),
        ),
    ]
    print(f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")
    print(f"{'':<55} {'wall s':>10} {'cpu s':>10}")
    for name, (wall, cpu) in rows:
        print(f"{name:<55} {wall:>10.4f} {cpu:>10.4f}")


if __name__ == "__main__":
    main()
