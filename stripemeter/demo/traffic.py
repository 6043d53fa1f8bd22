"""Believable usage: weekdays, hours, growth, one spiky customer, retries and late events.

Everything follows from the seed and the day, so that two runs on one day send the same.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

from stripemeter.demo.catalog import DAYS, SEED, SPIKY, DemoMetric, DemoTenant
from stripemeter.lib.instants import rfc3339

#: Share of a day's use per weekday, Monday first.
_WEEKDAYS = (1.1, 1.2, 1.2, 1.15, 1.0, 0.45, 0.35)
_GROWTH_PER_DAY = 1.008
_LATE_SHARE = 0.002
_RETRY_SHARE = 0.08


@dataclass(frozen=True, slots=True)
class Traffic:
    """A tenant's events in the order they are sent, and the batches that are sent twice."""

    batches: list[list[dict[str, Any]]]
    retried: list[int]


def traffic(tenant: DemoTenant, *, now: datetime, batch: int = 1_000) -> Traffic:
    """Thirty days of the tenant's events up to ``now``, late ones at the end."""
    events = sorted(_events(tenant, now), key=lambda event: (event["ts"], event["idempotencyKey"]))
    chance = Random(f"{SEED}:late:{tenant.key}")
    prompt: list[dict[str, Any]] = []
    late: list[dict[str, Any]] = []
    for event in events:
        (late if chance.random() < _LATE_SHARE else prompt).append(event)
    ordered = prompt + late
    batches = [ordered[at : at + batch] for at in range(0, len(ordered), batch)]
    retry = Random(f"{SEED}:retry:{tenant.key}")
    return Traffic(batches, [n for n in range(len(batches)) if retry.random() < _RETRY_SHARE])


def _events(tenant: DemoTenant, now: datetime) -> Iterator[dict[str, Any]]:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    for rank, customer in enumerate(tenant.customers):
        # A few large customers and many small ones, as customers are.
        weight = 60 / (rank + 2) ** 1.1
        for metric in tenant.metrics:
            chance = Random(f"{SEED}:{tenant.key}:{customer}:{metric.name}")
            for day in range(DAYS, -1, -1):
                start = midnight - timedelta(days=day)
                level = weight * _WEEKDAYS[start.weekday()] * _GROWTH_PER_DAY ** (DAYS - day)
                yield from _day(tenant, customer, metric, start, now, level, chance)


def _day(
    tenant: DemoTenant,
    customer: str,
    metric: DemoMetric,
    start: datetime,
    now: datetime,
    level: float,
    chance: Random,
) -> Iterator[dict[str, Any]]:
    for number, (offset, quantity, meta) in enumerate(_readings(customer, metric, level, chance)):
        moment = start + offset
        if moment >= now:
            continue
        event: dict[str, Any] = {
            "tenantId": tenant.key,
            "metric": metric.name,
            "customerRef": customer,
            "quantity": quantity,
            "ts": rfc3339(moment),
            "idempotencyKey": f"demo:{metric.name}:{customer}:{start:%Y%m%d}:{number}",
            "source": "sdk",
        }
        if meta:
            event["meta"] = meta
        yield event


_Reading = tuple[timedelta, int, dict[str, str]]


def _readings(
    customer: str, metric: DemoMetric, level: float, chance: Random
) -> Iterator[_Reading]:
    """What one customer reports of one metric in one day."""
    if metric.aggregation == "sum":
        burst = 25 if customer == SPIKY and chance.random() < 0.07 else 1
        for hour in range(24):
            daylight = 0.25 + max(0.0, math.sin((hour - 5) / 24 * 2 * math.pi))
            calls = int(level * 40 * burst * daylight * chance.uniform(0.6, 1.4))
            if calls:
                yield _moment(hour, chance), calls, {"region": chance.choice(("eu", "us"))}
    elif metric.aggregation == "count":
        for _ in range(min(12, int(level / 3 * chance.uniform(0.3, 2)))):
            yield _moment(chance.randrange(7, 20), chance), 1, {}
    elif metric.aggregation == "max":
        for hour in (3, 9, 13, 17, 21):
            yield _moment(hour, chance), 2 + int(level * chance.uniform(0.5, 2)), {}
    elif metric.aggregation == "unique":
        population = max(3, int(level * 4))
        for _ in range(min(10, population)):
            user = f"user-{chance.randrange(population)}"
            yield _moment(chance.randrange(6, 22), chance), 1, {"user": user}
    else:
        # Levels that go down as well as up.
        yield _moment(8, chance), max(0, int(level / 2) + chance.randrange(-2, 4)), {}


def _moment(hour: int, chance: Random) -> timedelta:
    return timedelta(
        hours=hour, minutes=chance.randrange(60), milliseconds=chance.randrange(60_000)
    )
