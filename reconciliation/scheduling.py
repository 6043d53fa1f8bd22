"""Where the read budget goes: Stripe rations reads, so a run reads what is riskiest.

25 reads a second and endpoint, 500 a month per transaction with a floor of 10,000
(docs.stripe.com/rate-limits). While the allowance covers all cursors, all are read.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import LiteralString
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import Sum

from reconciliation.models import ReadBudget
from reconciliation.selectors import targets
from reconciliation.selectors.targets import Key, Scope

CLOSING = timedelta(hours=48)
STALE = timedelta(days=7)
#: A scheduled run spends this many times its even share of what is left of the month.
SHARES = 4


@dataclass(frozen=True, slots=True)
class Risk:
    """What speaks for reading one customer on one meter now."""

    mapping_id: UUID
    customer_ref: str
    mode: str
    period_end: datetime
    pushed_at: datetime | None
    checked_at: datetime | None
    has_finding: bool
    units: Decimal

    def reasons(self, now: datetime) -> list[str]:
        """Why it should be read, riskiest first; empty if nothing has happened."""
        found = []
        if self.has_finding:
            found.append("open finding")
        if now - CLOSING <= self.period_end <= now + CLOSING:
            found.append("period closes")
        if self.checked_at is None:
            found.append("never read")
        elif self.pushed_at is not None and self.pushed_at > self.checked_at:
            found.append("pushed since")
        elif now - self.checked_at > STALE:
            found.append("not read for a week")
        return found

    def rank(self, now: datetime) -> tuple[int, Decimal]:
        """Larger is riskier; equal risks are ordered by the units at stake."""
        weights = {
            "open finding": 8,
            "period closes": 4,
            "never read": 3,
            "pushed since": 2,
            "not read for a week": 1,
        }
        return sum(weights[reason] for reason in self.reasons(now)), abs(self.units)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will read."""

    chosen: list[Risk]
    left_out: int
    allowance: int | None

    def lines(self, now: datetime, *, limit: int = 20) -> list[str]:
        """The plan in words."""
        budget = "no limit" if self.allowance is None else f"{self.allowance} reads"
        head = f"budget: {budget}; reading {len(self.chosen)}, leaving out {self.left_out}"
        rows = [
            f"  {each.customer_ref} ({each.mode}): {', '.join(each.reasons(now)) or 'in turn'}"
            for each in self.chosen[:limit]
        ]
        more = len(self.chosen) - limit
        return [head, *rows, *([f"  and {more} more"] if more > 0 else [])]


def choose(risks: Iterable[Risk], *, allowance: int | None, now: datetime) -> Plan:
    """The riskiest cursors that the allowance covers."""
    ordered = sorted(risks, key=lambda each: each.rank(now), reverse=True)
    if allowance is None:
        return Plan(ordered, 0, None)
    return Plan(ordered[:allowance], max(len(ordered) - allowance, 0), allowance)


def allowance_of(now: datetime, *, requested: bool) -> int | None:
    """How many reads one run may make now; None where there is no monthly limit.

    A run that a person asked for may use all that is left of the month.
    """
    monthly = settings.STRIPE_READS_PER_MONTH
    if not monthly:
        return None
    month = date(now.year, now.month, 1)
    used = ReadBudget.objects.filter(month=month).aggregate(all=Sum("reads"))["all"] or 0
    left = max(monthly - used, 0)
    if requested:
        return left
    following = (month + timedelta(days=32)).replace(day=1)
    month_end = datetime(following.year, following.month, 1, tzinfo=UTC)
    seconds_left = int((month_end - now).total_seconds())
    runs_left = max(seconds_left // settings.RECONCILIATION_INTERVAL_SECONDS, 1)
    return min(left, SHARES * -(-left // runs_left))


_RISKS: LiteralString = """
SELECT t.mapping_id, t.customer_ref, t.mode, max(t.period_end), max(p.settled_at),
       max(l.checked_at), bool_or(f.id IS NOT NULL), coalesce(sum(t.units), 0)
FROM (
    SELECT k.tenant_id, k.mapping_id, k.customer_ref, k.mode, k.period_start, k.period_end,
           (SELECT sum(s.intended) FROM billing_pushslice s
            WHERE (s.tenant_id, s.mapping_id, s.customer_ref, s.period_start, s.mode)
                = (k.tenant_id, k.mapping_id, k.customer_ref, k.period_start, k.mode)) AS units
    FROM billing_pushcursor k
    WHERE k.tenant_id = %(tenant)s
      AND (%(customer)s::text IS NULL OR k.customer_ref = %(customer)s)
      AND (%(horizon)s::timestamptz IS NULL OR k.period_end > %(horizon)s)
) t
LEFT JOIN LATERAL (
    SELECT settled_at FROM billing_push p
    WHERE (p.tenant_id, p.mapping_id, p.customer_ref, p.period_start, p.mode)
        = (t.tenant_id, t.mapping_id, t.customer_ref, t.period_start, t.mode)
    ORDER BY p.sequence DESC LIMIT 1) p ON true
LEFT JOIN LATERAL (
    SELECT checked_at FROM reconciliation_reportline l
    WHERE (l.tenant_id, l.period_start, l.mapping_id, l.customer_ref, l.mode)
        = (t.tenant_id, t.period_start, t.mapping_id, t.customer_ref, t.mode)
    ORDER BY l.checked_at DESC LIMIT 1) l ON true
LEFT JOIN reconciliation_finding f ON f.tenant_id = t.tenant_id AND f.closed_at IS NULL
     AND f.state = 'open' AND f.mapping_id = t.mapping_id
     AND f.customer_ref = t.customer_ref AND f.mode = t.mode
GROUP BY 1, 2, 3
"""


def risks_of(scope: Scope) -> list[Risk]:
    """One entry per customer and mapping that was ever pushed."""
    with connection.cursor() as cursor:
        cursor.execute(_RISKS, scope.parameters())
        return [Risk(*row) for row in cursor.fetchall()]


def plan_of(scope: Scope, *, requested: bool) -> Plan:
    """What a run over ``scope`` will read."""
    allowance = allowance_of(scope.now, requested=requested)
    return choose(risks_of(scope), allowance=allowance, now=scope.now)


def chosen_for(scope: Scope, *, requested: bool) -> set[Key] | None:
    """Targets to look at; None for all of them, which is the case within the allowance."""
    allowance = allowance_of(scope.now, requested=requested)
    if allowance is None:
        return None
    _, reads = targets.count(scope)
    if reads <= allowance:
        return None
    chosen = choose(risks_of(scope), allowance=allowance, now=scope.now).chosen
    lanes = {(each.mapping_id, each.customer_ref, each.mode) for each in chosen}
    keys: set[Key] = set()
    after: tuple[UUID, str] | None = None
    while True:
        page, after = targets.page(scope, after=after)
        keys.update(
            each.key for each in page if (each.mapping_id, each.customer_ref, each.mode) in lanes
        )
        if after is None:
            return keys
