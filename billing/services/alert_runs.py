"""Looks at what has changed and lets the alert rules speak.

Work is a customer's period whose counters have moved since it was last looked at; money also
once an hour, since prices and forecasts move by themselves. Late events and corrections move
counters like any other event, so their effect is seen in the same way.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, LiteralString

from django.db import connection, transaction
from django.db.models import Q

from billing import alerting
from billing.alerting import Type, Verdict
from billing.caps import cap_currency
from billing.models import AlertRule, AlertState
from billing.outlook import outlook
from billing.projection import PriceBook, Projection, price_book, priced
from billing.services import alert_states
from counters.models import Counter, DailyRollup
from counters.selectors.usage import MetricUsage, totals_of
from ledger.models import Metric
from stripemeter.lib.periods import Period
from stripemeter.tenancy.models import Tenant

#: Ended periods are looked at that long: late usage may still cross a threshold in them.
GRACE = timedelta(days=3)
#: Money is looked at again after this time, whether usage moved or not.
PRICED_FOR = timedelta(hours=1)
BATCH = 200
_LOCK_CLASS = 0x414C5254

_WORK: LiteralString = """
SELECT c.customer_ref, c.period_start, max(c.period_end), sum(c.revision)::bigint,
       p.priced_at IS NULL OR p.priced_at < %(stale)s
FROM counters_counter c
LEFT JOIN billing_alertprogress p
  ON p.tenant_id = c.tenant_id AND p.customer_ref = c.customer_ref
 AND p.period_start = c.period_start
WHERE c.tenant_id = %(tenant)s AND c.period_end > %(since)s AND c.period_start <= %(now)s
  AND (%(customers)s::text[] IS NULL OR c.customer_ref = ANY(%(customers)s::text[]))
GROUP BY c.customer_ref, c.period_start, p.revision, p.priced_at
HAVING p.revision IS DISTINCT FROM sum(c.revision)::bigint
    OR (%(money)s AND (p.priced_at IS NULL OR p.priced_at < %(stale)s))
ORDER BY 1, 2 LIMIT %(limit)s
"""
_NOTE: LiteralString = """
INSERT INTO billing_alertprogress
    (tenant_id, customer_ref, period_start, revision, evaluated_at, priced_at)
SELECT %(tenant)s, u.customer_ref, u.period_start, u.revision, %(now)s,
       CASE WHEN u.priced THEN %(now)s::timestamptz END
FROM unnest(%(customers)s::text[], %(starts)s::timestamptz[], %(revisions)s::bigint[],
            %(priced)s::bool[]) AS u(customer_ref, period_start, revision, priced)
ON CONFLICT (tenant_id, customer_ref, period_start) DO UPDATE
SET revision = excluded.revision, evaluated_at = excluded.evaluated_at,
    priced_at = coalesce(excluded.priced_at, billing_alertprogress.priced_at)
"""


@dataclass(frozen=True, slots=True)
class Work:
    """A customer's period that has to be looked at."""

    customer_ref: str
    period: Period
    revision: int
    #: Whether forecasts are due as well.
    forecast: bool


def evaluate_alerts(*, now: datetime, tenant_id: int | None = None) -> int:
    """Look at every tenant with rules; how many notices were given. Safe to run at once."""
    rules = AlertRule.objects.filter(enabled=True, deleted_at__isnull=True)
    if tenant_id is not None:
        rules = rules.filter(tenant_id=tenant_id)
    told = 0
    for found in rules.order_by("tenant_id").values_list("tenant_id", flat=True).distinct():
        while True:
            looked, said = _evaluate_some(found, now)
            told += said
            if looked < BATCH:
                break
    return told


@transaction.atomic
def _evaluate_some(tenant_id: int, now: datetime) -> tuple[int, int]:
    """One batch of one tenant; (customer-periods looked at, notices given)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [_LOCK_CLASS, tenant_id])
        row = cursor.fetchone()
    if row is None or not row[0]:
        return 0, 0  # another worker looks at this tenant
    tenant = Tenant.objects.get(pk=tenant_id)
    rules = list(
        AlertRule.objects.filter(tenant_id=tenant_id, enabled=True, deleted_at__isnull=True)
    )
    alert_states.close_old(tenant_id=tenant_id, before=now - GRACE, now=now)
    said = _end_snoozes(tenant, now)
    work = _work(tenant_id, rules, now)
    if work:
        said += _Look(tenant, rules, work, now).run()
        _note(tenant_id, work, now)
    return len(work), said


def _work(tenant_id: int, rules: list[AlertRule], now: datetime) -> list[Work]:
    named = {rule.customer_ref for rule in rules}
    with connection.cursor() as cursor:
        cursor.execute(
            _WORK,
            {
                "tenant": tenant_id,
                "since": now - GRACE,
                "now": now + timedelta(hours=1),
                "stale": now - PRICED_FOR,
                "customers": None if None in named else sorted(n for n in named if n is not None),
                "money": any(rule.type in alerting.OF_MONEY for rule in rules),
                "limit": BATCH,
            },
        )
        return [
            Work(ref, Period(start, end), revision, stale)
            for ref, start, end, revision, stale in cursor.fetchall()
        ]


def _note(tenant_id: int, work: list[Work], now: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            _NOTE,
            {
                "tenant": tenant_id,
                "now": now,
                "customers": [each.customer_ref for each in work],
                "starts": [each.period.start for each in work],
                "revisions": [each.revision for each in work],
                "priced": [each.forecast for each in work],
            },
        )


def _end_snoozes(tenant: Tenant, now: datetime) -> int:
    over = AlertState.objects.select_for_update(of=("self",)).filter(
        tenant_id=tenant.pk, status=AlertState.Status.SNOOZED, snoozed_until__lte=now
    )
    ended = list(over.select_related("rule")[:BATCH])
    for state in ended:
        alert_states.wake_up(state, tenant_key=tenant.key, now=now)
    return len(ended)


class _Look:
    """One batch of customer-periods with everything their rules need, read at once."""

    def __init__(
        self, tenant: Tenant, rules: list[AlertRule], work: list[Work], now: datetime
    ) -> None:
        self.tenant, self.rules, self.work, self.now = tenant, rules, work, now
        self.usage = self._read_usage()
        kinds = {rule.type for rule in rules}
        self.book: PriceBook | None = None
        if kinds & alerting.OF_MONEY:
            self.book = price_book(tenant_id=tenant.pk)
        self.days = self._read_days() if Type.SPIKE in kinds else {}
        self.states = self._read_states()

    def run(self) -> int:
        """Let the rules speak; how many notices were given."""
        return sum(self._settle(work, self._verdicts(work)) for work in self.work)

    # --- reading ---------------------------------------------------------------------------

    def _read_usage(self) -> dict[tuple[str, datetime], list[MetricUsage]]:
        counters = Counter.objects.filter(
            tenant_id=self.tenant.pk,
            customer_ref__in={each.customer_ref for each in self.work},
            period_start__in={each.period.start for each in self.work},
        )
        rows = list(counters)
        metrics = Metric.objects.in_bulk({row.metric_id for row in rows})
        found: dict[tuple[str, datetime], list[MetricUsage]] = {}
        for row in rows:
            metric = metrics[row.metric_id]
            found.setdefault((row.customer_ref, row.period_start), []).append(
                MetricUsage(
                    row.metric_id, metric.name, metric.aggregation, metric.unit,
                    metric.configured, totals_of(row), Decimal(row.adjusted), 0,
                    row.watermark, row.folded_at,
                )
            )  # fmt: skip
        return found

    def _read_days(self) -> dict[tuple[str, int], list[Any]]:
        since = self.now.date() - timedelta(days=alerting.BASELINE_DAYS_MAX)
        found: dict[tuple[str, int], list[Any]] = {}
        for row in DailyRollup.objects.filter(
            tenant_id=self.tenant.pk,
            customer_ref__in={each.customer_ref for each in self.work},
            day__gte=since,
        ):
            found.setdefault((row.customer_ref, row.metric_id), []).append(row)
        return found

    def _read_states(self) -> dict[tuple[Any, ...], AlertState]:
        known = AlertState.objects.select_for_update(of=("self",)).select_related("rule")
        rows = known.filter(
            Q(bucket_start__in={each.period.start for each in self.work})
            | Q(bucket_start=_day(self.now).start),
            tenant_id=self.tenant.pk,
            customer_ref__in={each.customer_ref for each in self.work},
        )
        return {(s.customer_ref, s.rule_id, s.metric, s.bucket_start, s.threshold): s for s in rows}

    # --- judging ---------------------------------------------------------------------------

    def _verdicts(self, work: Work) -> Iterable[Verdict]:
        usage = self.usage.get((work.customer_ref, work.period.start), [])
        for metric in usage:
            for rule in self._rules(work, metric.metric_id):
                if rule.type == Type.THRESHOLD:
                    yield Verdict(rule, metric.name, metric.total, *_bounds(work.period))
                elif rule.type == Type.SPIKE and work.period.start <= self.now < work.period.end:
                    yield from self._spike(work, rule, metric)
        if self.book is not None:
            yield from self._money(work, priced(work.customer_ref, work.period, usage, self.book))

    def _rules(self, work: Work, metric_id: int | None) -> list[AlertRule]:
        return alerting.narrowest(self.rules, customer_ref=work.customer_ref, metric_id=metric_id)

    def _spike(self, work: Work, rule: AlertRule, metric: MetricUsage) -> Iterable[Verdict]:
        rows = self.days.get((work.customer_ref, metric.metric_id), [])
        daily = alerting.series_of([(r.day, totals_of(r).of(metric.aggregation)) for r in rows])
        factor = alerting.spike_factor(daily, today=self.now.date(), config=rule.config)
        if factor is not None:
            yield Verdict(rule, metric.name, factor, *_bounds(_day(self.now)))

    def _money(self, work: Work, projection: Projection) -> Iterable[Verdict]:
        lines = {line.usage.metric_id: line.usage.name for line in projection.lines}
        wanted = [(None, ""), *lines.items()]
        chosen = [
            (rule, metric_id, name)
            for metric_id, name in wanted
            for rule in self._rules(work, metric_id)
            if rule.type in alerting.OF_MONEY
        ]
        for rule, metric_id, name in chosen:
            if rule.type != Type.BUDGET:
                continue
            currency = cap_currency(rule, projection)
            if currency is not None:
                cost = sum(
                    (
                        line.amount
                        for line in projection.lines
                        if line.amount is not None and line.price is not None
                        and line.price.currency == currency
                        and metric_id in {None, line.usage.metric_id}
                    ),
                    Decimal(0),
                )  # fmt: skip
                yield Verdict(rule, name, cost, *_bounds(work.period), unit=currency)
        expecting = [each for each in chosen if each[0].type == Type.FORECASTED_BUDGET]
        if expecting and work.forecast and work.period.start <= self.now < work.period.end:
            yield from self._expected(work, projection, expecting)

    def _expected(
        self, work: Work, projection: Projection, rules: list[tuple[AlertRule, int | None, str]]
    ) -> Iterable[Verdict]:
        expected = outlook(projection, tenant_id=self.tenant.pk, now=self.now)
        for rule, metric_id, name in rules:
            currency = cap_currency(rule, projection)
            totals = [
                line.total
                for line in expected.lines
                if line.line.price is not None
                and line.line.price.currency == currency
                and metric_id in {None, line.line.usage.metric_id}
            ]
            known = [total for total in totals if total is not None]
            if currency is not None and known:
                total = sum(known, Decimal(0))
                yield Verdict(rule, name, total, *_bounds(work.period), unit=currency)

    # --- speaking --------------------------------------------------------------------------

    def _settle(self, work: Work, verdicts: Iterable[Verdict]) -> int:
        said, key = 0, self.tenant.key
        for verdict in verdicts:
            state = self.states.get((work.customer_ref, *verdict.key))
            if state is None:
                if verdict.is_met:
                    said += alert_states.trigger(
                        verdict, tenant_key=key, customer_ref=work.customer_ref, now=self.now
                    )
            # A forecast goes up and down; taking its word back each time would be noise.
            elif state.withdrawn == verdict.is_met and verdict.rule.type != Type.FORECASTED_BUDGET:
                alert_states.revise(state, verdict, tenant_key=key, now=self.now)
                said += 1
        return said


def _bounds(period: Period) -> tuple[datetime, datetime]:
    return period.start, period.end


def _day(now: datetime) -> Period:
    start = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return Period(start, start + timedelta(days=1))
