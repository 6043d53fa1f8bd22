"""Reading usage: requests for the three read routes and their answers as typed values.

Numbers are Decimal, taken digit for digit from the JSON text. `raw` keeps the whole answer, so a
field that a newer server adds is reachable before this client knows it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from stripemeter.sdk.encoding import timestamp_text
from stripemeter.sdk.errors import InvalidEvent, StripeMeterError
from stripemeter.sdk.wire import Reply, Send, read_object

Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MetricUsage:
    """The exact total of one metric in the current period."""

    name: str
    current: Decimal
    limit: Decimal | None
    unit: str | None


@dataclass(frozen=True, slots=True)
class Usage:
    """Current usage of one customer. Period days are inclusive, as the server writes them."""

    customer_ref: str
    period_start: str
    period_end: str
    metrics: tuple[MetricUsage, ...]
    alerts: tuple[Raw, ...]
    raw: Raw = field(repr=False)

    def __getitem__(self, metric: str) -> Decimal:
        """Return the total of a metric; a metric without usage in the period is zero."""
        return next((m.current for m in self.metrics if m.name == metric), Decimal(0))


@dataclass(frozen=True, slots=True)
class LineItem:
    """One metric's cost, in major units of the projection's currency."""

    metric: str
    quantity: Decimal
    unit_price: Decimal | None
    total: Decimal


@dataclass(frozen=True, slots=True)
class Projection:
    """What the period costs. Money is in major units of `currency`.

    `subtotal`, `total` and `currency` are None when the lines are of several currencies: then
    `raw["totals"]` has one entry for each.
    """

    customer_ref: str
    period_start: str
    period_end: str
    line_items: tuple[LineItem, ...]
    subtotal: Decimal | None
    credits: Decimal
    total: Decimal | None
    currency: str | None
    raw: Raw = field(repr=False)


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """Usage of one bucket; `ts` is the bucket's start as the server wrote it."""

    ts: str
    value: Decimal


@dataclass(frozen=True, slots=True)
class UsageHistory:
    """Non-empty buckets, oldest first, and their total."""

    points: tuple[HistoryPoint, ...]
    total: Decimal
    raw: Raw = field(repr=False)


def usage_request(tenant_id: str, customer_ref: str) -> Send:
    """Ask for current usage."""
    params = {"tenantId": tenant_id, "customerRef": customer_ref}
    return Send("GET", "/v1/usage/current", params)


def read_usage(reply: Reply) -> Usage:
    """Read the answer to `usage_request`."""
    data = read_object(reply)
    period = _mapping(data.get("period"))
    return Usage(
        customer_ref=str(data.get("customerRef", "")),
        period_start=str(period.get("start", "")),
        period_end=str(period.get("end", "")),
        metrics=tuple(
            MetricUsage(
                name=str(row.get("name", "")),
                current=_number(row.get("current")),
                limit=_optional(row.get("limit")),
                unit=None if row.get("unit") is None else str(row["unit"]),
            )
            for row in _rows(data.get("metrics"))
        ),
        alerts=tuple(_rows(data.get("alerts"))),
        raw=data,
    )


def projection_body(
    tenant_id: str,
    customer_ref: str,
    period_start: date | str | None,
    period_end: date | str | None,
) -> dict[str, str]:
    """Return the body that asks for a projection; both period days or neither."""
    if (period_start is None) != (period_end is None):
        raise InvalidEvent("period_start and period_end go together")
    body = {"tenantId": tenant_id, "customerRef": customer_ref}
    if period_start is not None and period_end is not None:
        body |= {"periodStart": _day(period_start), "periodEnd": _day(period_end)}
    return body


def read_projection(reply: Reply) -> Projection:
    """Read the answer of the projection route."""
    data = read_object(reply)
    currency = data.get("currency")
    return Projection(
        customer_ref=str(data.get("customerRef", "")),
        period_start=str(data.get("periodStart", "")),
        period_end=str(data.get("periodEnd", "")),
        line_items=tuple(
            LineItem(
                metric=str(row.get("metric", "")),
                quantity=_number(row.get("quantity")),
                unit_price=_optional(row.get("unitPrice")),
                total=_number(row.get("total")),
            )
            for row in _rows(data.get("lineItems"))
        ),
        subtotal=_optional(data.get("subtotal")),
        credits=_number(data.get("credits", 0)),
        total=_optional(data.get("total")),
        currency=None if currency is None else str(currency),
        raw=data,
    )


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """One of the two documented forms of the history route; they do not mix.

    Periods: `period_start`, `period_end` (instants, both inclusive) and `step`. Series: `since`,
    `until` (instants, or relative text such as `-P1D`) and `interval`.
    """

    period_start: datetime | str | None = None
    period_end: datetime | str | None = None
    step: Literal["day", "month"] | None = None
    since: datetime | str | None = None
    until: datetime | str | None = None
    interval: Literal["minute", "hour", "day"] | None = None

    def params(self) -> dict[str, str]:
        """Return the query parameters; raises `InvalidEvent` for a mixture of both forms."""
        by_period = {
            "periodStart": _instant(self.period_start),
            "periodEnd": _instant(self.period_end),
            "step": self.step,
        }
        by_series = {
            "since": _instant(self.since),
            "until": _instant(self.until),
            "interval": self.interval,
        }
        wanted = [form for form in (by_period, by_series) if any(form.values())]
        if len(wanted) != 1:
            raise InvalidEvent(
                "give either period_start, period_end (and step) or since (until, interval)"
            )
        if wanted[0] is by_period and None in (by_period["periodStart"], by_period["periodEnd"]):
            raise InvalidEvent("period_start and period_end go together")
        return {name: value for name, value in wanted[0].items() if value is not None}


def history_request(
    tenant_id: str, metric: str, customer_ref: str | None, query: HistoryQuery
) -> Send:
    """Ask for the usage history of a metric, of one customer where one is given."""
    params = {"tenantId": tenant_id, "metric": metric, **query.params()}
    if customer_ref is not None:
        params["customerRef"] = customer_ref
    return Send("GET", "/v1/usage/history", params)


def read_history(reply: Reply) -> UsageHistory:
    """Read either form's answer."""
    data = read_object(reply)
    rows = data.get("series") if "series" in data else data.get("usage")
    points = tuple(
        HistoryPoint(str(row.get("ts", "")), _number(row.get("value"))) for row in _rows(rows)
    )
    totals = _mapping(data.get("totals"))
    total = totals.get("value")
    summed = sum((point.value for point in points), Decimal(0))
    return UsageHistory(points, summed if total is None else _number(total), data)


def _number(value: Any) -> Decimal:
    try:
        return Decimal(value)
    except (InvalidOperation, TypeError, ValueError) as error:
        raise StripeMeterError(f"the answer holds {value!r} where a number belongs") from error


def _optional(value: Any) -> Decimal | None:
    return None if value is None else _number(value)


def _rows(value: Any) -> list[Raw]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _mapping(value: Any) -> Raw:
    return value if isinstance(value, dict) else {}


def _day(value: date | str) -> str:
    if isinstance(value, datetime):
        raise InvalidEvent("a period is named by days, not by instants")
    return value.isoformat() if isinstance(value, date) else value


def _instant(value: datetime | str | None) -> str | None:
    if isinstance(value, datetime):
        return timestamp_text(value, now=value)
    return value
