"""``POST /v1/usage/projection``: what the period costs so far."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.alerting import CAPS
from billing.milestones import Milestone, milestones
from billing.outlook import LineOutlook, Outlook, outlook
from billing.pricing import Invoice, LineKind
from billing.pricing.numbers import major
from billing.projection import Line, Projection, billed_units, project
from billing.terms import Terms, bill_of, terms_of
from counters.api import freshness
from counters.selectors import period_of
from stripemeter.lib import clock
from stripemeter.lib.drf import DayField, ReferenceField, StrictSerializer, TextField
from stripemeter.lib.errors import invalid
from stripemeter.lib.instants import rfc3339
from stripemeter.lib.periods import Period
from stripemeter.tenancy.api_base import TenantView


class ProjectionInput(StrictSerializer):
    """Whose period. Without dates it is the running one."""

    tenantId = TextField()
    customerRef = ReferenceField()
    periodStart = DayField(required=False)
    periodEnd = DayField(required=False)


class ProjectionOutput(serializers.Serializer[Any]):
    """Money in major units. ``unpriced`` names metrics used but not priced."""

    customerRef = serializers.CharField()
    periodStart = serializers.DateField()
    periodEnd = serializers.DateField()
    lineItems = serializers.ListField(child=serializers.DictField())
    subtotal = serializers.DecimalField(max_digits=40, decimal_places=3, allow_null=True)
    credits = serializers.DecimalField(max_digits=40, decimal_places=3)
    commitments = serializers.DecimalField(max_digits=40, decimal_places=3)
    discounts = serializers.DecimalField(max_digits=40, decimal_places=3)
    tax = serializers.DecimalField(max_digits=40, decimal_places=3)
    applied = serializers.ListField(child=serializers.DictField())
    total = serializers.DecimalField(max_digits=40, decimal_places=3, allow_null=True)
    currency = serializers.CharField(allow_null=True)
    totals = serializers.ListField(child=serializers.DictField())
    unpriced = serializers.ListField(child=serializers.CharField())
    freshness = serializers.DictField()
    forecast = serializers.DictField()


class ProjectionView(TenantView):
    """A read, though it is a POST."""

    scope_area = "usage"
    #: Callers of the predecessor hold write scopes for it; reading is all it takes.
    required_scopes = ("project:read", "usage:read", "project:write", "usage:write")

    @extend_schema(
        operation_id="projectUsage",
        request=ProjectionInput,
        responses=ProjectionOutput,
        tags=["Usage"],
    )
    def post(self, request: Request) -> Response:
        """The cost of the customer's period so far, line by line."""
        body = ProjectionInput(data=request.data)
        self.check_tenant(request.data)
        body.is_valid(raise_exception=True)
        data = body.validated_data
        now = clock.now()
        period = self._period(data, now)
        projection = project(
            tenant_id=self.principal.tenant_id, customer_ref=data["customerRef"], period=period
        )
        tenant_id = self.principal.tenant_id
        expected = outlook(projection, tenant_id=tenant_id, now=now)
        terms = terms_of(tenant_id=tenant_id, customer_ref=projection.customer_ref)
        return Response(
            {
                **shown(projection, bill=bill_of(projection, terms), now=now),
                "forecast": {
                    **shown_outlook(expected),
                    **shown_bill(projection, expected, terms),
                    "milestones": [
                        _shown_milestone(each)
                        for each in milestones(projection, expected, tenant_id=tenant_id)
                    ],
                },
            }
        )

    def _period(self, data: dict[str, Any], now: datetime) -> Period:
        start, end = data.get("periodStart"), data.get("periodEnd")
        instant = now if start is None else _midnight(start)
        if start is not None and end is not None and end <= start:
            raise invalid("periodEnd", "must lie after periodStart")
        period = period_of(
            tenant_id=self.principal.tenant_id,
            customer_ref=data["customerRef"],
            instant=instant,
        )
        if start is not None and period.start.date() != start:
            raise invalid("periodStart", "is not the first day of a billing period")
        last_day = (period.end - timedelta(microseconds=1)).date()
        if start is not None and end not in {None, last_day, period.end.date()}:
            raise invalid("periodEnd", f"the billing period ends on {last_day}")
        return period


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


def shown(projection: Projection, *, bill: Invoice | None, now: datetime) -> dict[str, Any]:
    """The projection as the wire shows it; ``bill`` is what the terms make of it."""
    currencies = projection.currencies
    # Amounts of different currencies are never added up.
    currency = currencies[0] if len(currencies) == 1 else None
    subtotal = projection.subtotal(currency) if currency else None if currencies else Decimal(0)
    priced = {line.usage.name for line in projection.lines if line.rated is not None}
    last_day = (projection.period.end - timedelta(microseconds=1)).date()
    return {
        "customerRef": projection.customer_ref,
        "periodStart": projection.period.start.date().isoformat(),
        "periodEnd": last_day.isoformat(),
        "startsAt": rfc3339(projection.period.start),
        "endsAt": rfc3339(projection.period.end),
        "lineItems": [_shown_line(line) for line in projection.lines],
        "subtotal": subtotal,
        **_after_terms(bill, subtotal),
        "currency": currency,
        "totals": [
            {"currency": name, "subtotal": projection.subtotal(name)} for name in currencies
        ],
        "unpriced": [metric.name for metric in projection.usage if metric.name not in priced],
        "freshness": freshness(projection.usage, now=now),
    }


def _after_terms(bill: Invoice | None, subtotal: Decimal | None) -> dict[str, Any]:
    """From the subtotal to the total; ``credits`` holds commitments too, as it always did."""
    if bill is None:
        nothing = Decimal(0)
        return {
            "credits": nothing, "commitments": nothing, "discounts": nothing, "tax": nothing,
            "fees": nothing, "applied": [], "total": subtotal, "amountDue": subtotal,
        }  # fmt: skip
    places = bill.exponent
    fees = sum(line.amount_minor for line in bill.lines if line.kind is not LineKind.USAGE)
    return {
        "fees": major(fees, places),
        "credits": bill.credits,
        "commitments": major(bill.commitment_minor, places),
        "discounts": bill.discounts,
        "tax": bill.tax,
        "applied": [taken.as_dict(places) for taken in bill.taken],
        "total": bill.total,
        "amountDue": bill.amount_due,
    }


def _shown_line(line: Line) -> dict[str, Any]:
    shown_line: dict[str, Any] = {
        "metric": line.usage.name,
        "quantity": line.quantity,
        "billedUnits": line.billed_units,
        "unitPrice": line.unit_price,
        "total": line.amount,
        "priceId": line.mapping.price_id,
        "currency": line.price.currency if line.price else None,
        "breakdown": [],
    }
    if line.rated is not None and line.price is not None:
        exponent = line.price.exponent
        shown_line["breakdown"] = [
            {
                "tier": row.tier,
                "kind": row.kind,
                "units": row.units,
                "unitPrice": major(row.unit_amount, exponent),
                "flatFee": major(row.flat_amount, exponent),
                "subtotal": major(row.amount, exponent),
            }
            for row in line.rated.rows
        ]
    return shown_line


def shown_outlook(expected: Outlook) -> dict[str, Any]:
    """The expected bill as the wire shows it; every number in it is an estimate."""
    return {
        "total": expected.total,
        "low": expected.low,
        "high": expected.high,
        "level": Decimal("0.8"),
        "currency": expected.currency,
        "lineItems": [_shown_outlook_line(line) for line in expected.lines],
    }


def shown_bill(projection: Projection, expected: Outlook, terms: Terms) -> dict[str, Any]:
    """The expected total after terms; the subtotal is the usage as priced."""
    if expected.total is None:
        return {"subtotal": None}

    def total(of: Callable[[LineOutlook], Decimal | None]) -> Decimal | None:
        quantities = {
            line.line.mapping.pk: (line.line.mapping, of(line)) for line in expected.lines
        }
        units = {
            key: max(billed_units(quantity, mapping), Decimal(0))
            for key, (mapping, quantity) in quantities.items()
            if quantity is not None
        }
        bill = bill_of(projection, terms, units=units) if len(units) == len(quantities) else None
        return None if bill is None else bill.total

    return {
        "subtotal": expected.total,
        "total": total(lambda line: line.forecast.total),
        "low": total(lambda line: line.forecast.interval.low if line.forecast.interval else None),
        "high": total(lambda line: line.forecast.interval.high if line.forecast.interval else None),
    }


def _shown_milestone(found: Milestone) -> dict[str, Any]:
    when = found.reached
    days = {"on": when.on, "earliest": when.earliest, "latest": when.latest}
    return {
        "alertConfigId": str(found.rule.pk),
        "kind": "cap" if found.rule.action in CAPS else "budget",
        "action": found.rule.action,
        "metric": found.metric,
        "limit": found.limit,
        "currency": found.currency,
        "already": when.already,
        **{name: day.isoformat() if day else None for name, day in days.items()},
    }


def _shown_outlook_line(line: LineOutlook) -> dict[str, Any]:
    found = line.forecast
    test = found.back_test
    return {
        "metric": line.line.usage.name,
        "quantity": found.total,
        "low": found.interval.low if found.interval else None,
        "high": found.interval.high if found.interval else None,
        "total": line.total,
        "totalLow": line.low,
        "totalHigh": line.high,
        "method": found.method,
        "confidence": found.confidence,
        "note": found.note,
        "backTest": None
        if test is None
        else {"wape": test.wape, "mape": test.mape, "origins": test.origins},
        "nextTierOn": line.next_tier.on.isoformat()
        if line.next_tier and line.next_tier.on
        else None,
    }
