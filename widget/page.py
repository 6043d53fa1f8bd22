"""Everything the customer's page shows, read once, in the customer's terms."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.utils.safestring import SafeString
from django.utils.translation import gettext

from billing.caps import CapState, caps_of
from billing.models import AlertState
from billing.outlook import LineOutlook, Outlook, outlook
from billing.pricing.numbers import major
from billing.projection import Line, Projection, project
from billing.selectors_alerts import alerts_of_customer
from counters.models import Adjustment
from counters.selectors import MetricUsage, period_of
from counters.selectors.daily import daily_usage
from counters.selectors.history import Point
from ledger.models import Metric, PendingBatch
from stripemeter.lib.charts import bars
from stripemeter.lib.decimals import plain
from stripemeter.lib.periods import Period
from widget.access import Viewer
from widget.templatetags.widget_format import day as spoken

#: A batch that waits longer than this to be folded is worth a word.
DELAYED = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class MetricCard:
    """One metric: its total, its price position, its days."""

    usage: MetricUsage
    line: Line | None
    outlook: LineOutlook | None
    days: list[tuple[date, Decimal]]
    #: Units at no charge before the first charged tier, if the price has such a tier.
    included: Decimal | None
    #: Corrections that wait for approval, not part of the total.
    waiting: Decimal

    @property
    def included_share(self) -> int | None:
        """Per cent of the included amount that is used, at most 100."""
        if not self.included:
            return None
        return int(min(self.usage.total / self.included * 100, Decimal(100)))

    @property
    def chart(self) -> SafeString:
        """The days of the period as bars."""
        shown = [(f"{day.isoformat()}: {plain(value)}", value) for day, value in self.days]
        return bars(
            shown,
            label=gettext("%(name)s per day") % {"name": self.usage.name},
            below=[spoken(self.days[0][0]), spoken(self.days[-1][0])] if self.days else [],
        )

    @property
    def next_unit_price(self) -> Decimal | None:
        """What the next unit costs, in major units."""
        if self.line is None or self.line.price is None or self.line.next_unit is None:
            return None
        return major(self.line.next_unit.marginal, self.line.price.exponent)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The tiers that make the amount, in major units; they add up to it."""
        if self.line is None or self.line.rated is None or self.line.price is None:
            return []
        exponent = self.line.price.exponent
        return [
            {
                "tier": row.tier,
                "kind": row.kind,
                "units": row.units,
                "amount": major(row.amount, exponent),
            }
            for row in self.line.rated.rows
        ]


@dataclass(frozen=True, slots=True)
class Page:
    """The customer's running period."""

    viewer: Viewer
    period: Period
    now: datetime
    projection: Projection
    outlook: Outlook
    cards: list[MetricCard]
    pending_events: int
    #: Counting is behind by more than a minute; the numbers include what waits.
    is_delayed: bool
    updated_at: datetime | None
    caps: list[CapState]
    notices: list[AlertState]

    @property
    def reached_caps(self) -> list[CapState]:
        """Caps that are reached, hard ones first."""
        reached = [cap for cap in self.caps if cap.exceeded]
        return sorted(reached, key=lambda cap: not cap.is_hard)

    @property
    def is_stopped(self) -> bool:
        """Whether a hard cap is reached: nothing more may be used until the period ends."""
        return any(cap.is_hard for cap in self.reached_caps)

    @property
    def last_day(self) -> date:
        """The last day of the period."""
        return (self.period.end - timedelta(microseconds=1)).date()

    @property
    def currency(self) -> str | None:
        """The currency of every priced metric, or None if there are several or none."""
        currencies = self.projection.currencies
        return currencies[0] if len(currencies) == 1 else None

    @property
    def cost(self) -> Decimal | None:
        """Cost so far in major units."""
        return self.projection.subtotal(self.currency) if self.currency else None


def read_page(viewer: Viewer, *, now: datetime) -> Page:
    """The page of the viewer's customer at ``now``."""
    tenant_id, customer = viewer.tenant.pk, viewer.customer_ref
    period = period_of(tenant_id=tenant_id, customer_ref=customer, instant=now)
    whole = project(tenant_id=tenant_id, customer_ref=customer, period=period)
    projection = Projection(
        customer,
        period,
        [line for line in whole.lines if viewer.shows(line.usage.name)],
        [usage for usage in whole.usage if viewer.shows(usage.name)],
    )
    expected = outlook(projection, tenant_id=tenant_id, now=now)
    outlooks = {line.line.usage.metric_id: line for line in expected.lines}
    waiting = _waiting(tenant_id, customer, period)
    metrics = Metric.objects.in_bulk([usage.metric_id for usage in projection.usage])
    days = daily_usage(
        tenant_id=tenant_id,
        metrics=list(metrics.values()),
        customer_ref=customer,
        since=period.start,
        until=period.end,
    )
    cards = [
        _card(usage, days[usage.metric_id], outlooks.get(usage.metric_id), waiting, period)
        for usage in projection.usage
    ]
    newest = [usage.last_recorded_at for usage in projection.usage if usage.last_recorded_at]
    return Page(
        viewer=viewer,
        period=period,
        now=now,
        projection=projection,
        outlook=expected,
        cards=cards,
        pending_events=sum(usage.pending_events for usage in projection.usage),
        is_delayed=_is_delayed(tenant_id, now),
        updated_at=max(newest, default=None),
        caps=[
            cap
            for cap in caps_of(tenant_id=tenant_id, projection=whole)
            if cap.metric is None or viewer.shows(cap.metric)
        ],
        notices=[
            state
            for state in alerts_of_customer(tenant_id=tenant_id, customer_ref=customer, now=now)
            # Rules are the tenant's own business unless it says otherwise.
            if state.rule.config.get("showCustomer") is True
            and (not state.metric or viewer.shows(state.metric))
        ],
    )


def _is_delayed(tenant_id: int, now: datetime) -> bool:
    late = PendingBatch.objects.filter(tenant_id=tenant_id, recorded_at__lt=now - DELAYED)
    return late.exists()


def _waiting(tenant_id: int, customer: str, period: Period) -> dict[int, Decimal]:
    pending = Adjustment.objects.filter(
        tenant_id=tenant_id,
        customer_ref=customer,
        period_start=period.start,
        status=Adjustment.Status.PENDING,
    )
    found: dict[int, Decimal] = {}
    for metric_id, delta in pending.values_list("metric_id", "delta"):
        found[metric_id] = found.get(metric_id, Decimal(0)) + delta
    return found


def _card(
    usage: MetricUsage,
    points: list[Point],
    expected: LineOutlook | None,
    waiting: dict[int, Decimal],
    period: Period,
) -> MetricCard:
    line = expected.line if expected else None
    return MetricCard(
        usage=usage,
        line=line,
        outlook=expected,
        days=_every_day(points, period),
        included=_included(line),
        waiting=waiting.get(usage.metric_id, Decimal(0)),
    )


def _every_day(points: list[Point], period: Period) -> list[tuple[date, Decimal]]:
    values = {point.ts.date(): point.value for point in points}
    day, days = period.start.date(), []
    while day <= (period.end - timedelta(microseconds=1)).date():
        days.append((day, values.get(day, Decimal(0))))
        day += timedelta(days=1)
    return days


def _included(line: Line | None) -> Decimal | None:
    if line is None or line.price is None or not line.price.tiers:
        return None
    first = line.price.tiers[0]
    if first.up_to is None or first.unit_amount or first.flat_amount:
        return None
    return first.up_to * Decimal(line.mapping.unit_factor)


def as_json(page: Page) -> dict[str, Any]:
    """The page's numbers for `/widget/usage`: the same as on the page, digit for digit."""
    return {
        "customerRef": page.viewer.customer_ref,
        "period": {"start": page.period.start.date().isoformat(), "end": page.last_day.isoformat()},
        "currency": page.currency,
        "cost": page.cost,
        "projected": {
            "total": page.outlook.total,
            "low": page.outlook.low,
            "high": page.outlook.high,
        },
        "stopped": page.is_stopped,
        "resumesAt": page.period.end if page.is_stopped else None,
        "alerts": [
            *(
                {
                    "type": "hard_cap" if cap.is_hard else "soft_cap",
                    "severity": "critical" if cap.is_hard else "warning",
                    "metric": cap.metric,
                    "limit": cap.limit,
                    "current": cap.current,
                    "currency": cap.currency,
                }
                for cap in page.reached_caps
            ),
            *(
                {
                    "type": state.rule.type,
                    "severity": "warning" if state.severity == "warn" else state.severity,
                    "metric": state.metric or None,
                    "limit": state.threshold,
                    "current": state.value,
                    "currency": state.rule.config.get("currency"),
                }
                for state in page.notices
            ),
        ],
        "metrics": [
            {
                "name": card.usage.name,
                "unit": card.usage.unit,
                "current": card.usage.total,
                "included": card.included,
                "waiting": card.waiting,
                "amount": card.line.amount if card.line else None,
                "days": [{"day": day.isoformat(), "value": value} for day, value in card.days],
            }
            for card in page.cards
        ],
        "freshness": {
            "asOf": page.now,
            "lastUpdate": page.updated_at,
            "pendingEvents": page.pending_events,
            "delayed": page.is_delayed,
        },
    }
