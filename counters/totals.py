"""From aggregates to the one number that a metric's aggregation asks for."""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from stripemeter.lib.decimals import EXACT

#: Aggregations whose days add up to the period.
ADDITIVE = frozenset({"sum", "count"})
#: Digits kept of an average, which is the one total that need not be exact.
AVERAGE_DECIMALS = 12


@dataclass(frozen=True, slots=True)
class Totals:
    """The aggregates of some events; a commutative monoid under `merge`."""

    sum: Decimal = Decimal(0)
    event_count: int = 0
    max: Decimal | None = None
    min: Decimal | None = None
    last: Decimal | None = None
    last_rank: tuple[datetime, int, UUID] | None = None
    unique_count: int = 0

    def merge(self, other: "Totals") -> "Totals":
        """The aggregates of both sets of events (unique members must not overlap)."""
        newest = self
        if other.last_rank is not None and (
            self.last_rank is None or other.last_rank > self.last_rank
        ):
            newest = other
        return replace(
            newest,
            sum=EXACT.add(self.sum, other.sum),
            event_count=self.event_count + other.event_count,
            max=_larger(self.max, other.max),
            min=_smaller(self.min, other.min),
            unique_count=self.unique_count + other.unique_count,
        )

    def of(self, aggregation: str) -> Decimal:
        """The number for ``aggregation``; zero where there are no events."""
        if aggregation == "sum":
            return self.sum
        if aggregation == "count":
            return Decimal(self.event_count)
        if aggregation == "unique":
            return Decimal(self.unique_count)
        if aggregation == "average":
            return self._average()
        value = {"max": self.max, "min": self.min, "last": self.last}[aggregation]
        return Decimal(0) if value is None else value

    def _average(self) -> Decimal:
        if not self.event_count:
            return Decimal(0)
        exact = EXACT.divide(self.sum, Decimal(self.event_count))
        return exact.quantize(Decimal(1).scaleb(-AVERAGE_DECIMALS), context=EXACT)


def _larger(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return max((value for value in (one, other) if value is not None), default=None)


def _smaller(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return min((value for value in (one, other) if value is not None), default=None)
