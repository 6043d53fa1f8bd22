"""A tenant as large as a real one: events, counters, pushes and reports by set-based SQL.

Counters come from the recompute service, so every total equals its events; what Stripe would
have acknowledged is written as if it had been sent. It bills nothing and talks to nobody.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import uuid_utils
from django.db import connection, transaction

from billing.models import Mode, PriceMapping, StripeAccount
from billing.services.accounts import ensure_accounts
from billing.services.mappings import Actor, create_mapping
from counters.services.adjustments import create_adjustment
from counters.services.metrics import MetricSettings, create_metric
from counters.services.recompute import Scope, recompute
from ledger.models import Metric
from reconciliation.models import Finding, Run
from stripemeter.lib.decimals import decimal_of
from stripemeter.lib.env import env_str
from stripemeter.lib.periods import Period, utc_month
from stripemeter.tenancy.models import Tenant

ACTOR = "demo_scale"
DAYS = 30
BATCH_EVENTS = 100
ANALYZE_EVERY = 8
CHUNK_EVENTS, CHUNK_CUSTOMERS = 400_000, 1_000
#: One customer in twenty has usage that Stripe was not told of.
UNPUSHED_ONE_IN = 20
FINDINGS, ADJUSTMENTS = 300, 200
#: Name, aggregation, cents a unit, and how many of ten events it gets.
METRICS = (
    ("api_calls", "sum", "0.02", 7),
    ("exports", "count", "25", 1),
    ("peak_connections", "max", "150", 1),
    ("seats", "last", "1200", 1),
)
_BEGINNING, _END = datetime(2000, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)

_BATCHES: LiteralString = """
SELECT array_agg(id) FROM (
    SELECT nextval('ledger_batch_seq') AS id FROM generate_series(1, %(count)s)) ids
"""
#: A stretch of time of every customer, in the order of time, as a ledger fills.
_EVENTS: LiteralString = """
INSERT INTO ledger_event
    (tenant_id, batch_id, ts, recorded_at, key, fingerprint, metric_id, customer_ref, quantity,
     source)
SELECT %(tenant)s, (%(batches)s::bigint[])[1 + e.place / %(batch_events)s], e.ts,
       least(e.ts + interval '2 seconds', %(now)s),
       ('0190cafe-0000-7000-8000-' || lpad(to_hex(%(base)s + e.place), 12, '0'))::uuid,
       md5((%(base)s + e.place)::text)::uuid, e.metric, e.customer,
       CASE e.kind WHEN 'sum' THEN 1 + e.number * 7919 %% 97 WHEN 'count' THEN 1
            ELSE 2 + e.number * 31 %% 59 END,
       'sdk'
FROM (
    SELECT row_number() OVER (ORDER BY t.ts, c.customer) - 1 AS place, c.customer, s AS number,
           (%(metrics)s::int[])[1 + s %% 10] AS metric, (%(kinds)s::text[])[1 + s %% 10] AS kind,
           t.ts
    FROM unnest(%(customers)s::text[], %(counts)s::int[]) AS c(customer, events)
    CROSS JOIN LATERAL generate_series(
        c.events::bigint * %(chunk)s / %(chunks)s,
        c.events::bigint * (%(chunk)s + 1) / %(chunks)s - 1
    ) AS s
    CROSS JOIN LATERAL (
        SELECT %(since)s::timestamptz
               + make_interval(secs => %(seconds)s::float8 * s / c.events) AS ts
    ) t
) e
ORDER BY e.place
"""
_LINKS: LiteralString = """
INSERT INTO billing_customerlink
    (tenant_id, customer_ref, mode, stripe_customer_id, created_at, created_by)
SELECT %(tenant)s, c, 'live', 'cus_scale' || md5(c), %(now)s, %(actor)s
FROM unnest(%(customers)s::text[]) AS c
"""
#: What a mapping bills of each of its counters, one row per slice (UTC day).
_SLICES: LiteralString = """
SELECT c.customer_ref, c.period_start, c.period_end, c.revision, s.day, s.units
FROM counters_counter c
CROSS JOIN LATERAL (
    SELECT r.day, CASE %(kind)s WHEN 'sum' THEN r.sum ELSE r.event_count END AS units
    FROM counters_dailyrollup r
    WHERE %(kind)s IN ('sum', 'count') AND r.tenant_id = c.tenant_id
      AND r.metric_id = c.metric_id AND r.customer_ref = c.customer_ref
      AND r.period_start = c.period_start
    UNION ALL
    SELECT least(c.period_end - interval '1 day', %(now)s)::date,
           CASE %(kind)s WHEN 'max' THEN c.max ELSE c.last END
    WHERE %(kind)s IN ('max', 'last')
) s
WHERE c.tenant_id = %(tenant)s AND c.metric_id = %(metric)s
  AND abs(hashtext(c.customer_ref)) %% %(one_in)s > 0 AND s.units > 0
"""
_PUSHES: LiteralString = (
    "WITH slices AS MATERIALIZED ("
    + _SLICES
    + """
), cursors AS (
    INSERT INTO billing_pushcursor
        (tenant_id, mapping_id, customer_ref, period_start, mode, period_end, seen_revision,
         next_sequence, held_reason, rejections)
    SELECT %(tenant)s, %(mapping)s, customer_ref, period_start, 'live', max(period_end),
           max(revision), count(*) + 1, '', 0
    FROM slices GROUP BY customer_ref, period_start
), sliced AS (
    INSERT INTO billing_pushslice
        (tenant_id, mapping_id, customer_ref, period_start, mode, day, intended)
    SELECT %(tenant)s, %(mapping)s, customer_ref, period_start, 'live', day, units FROM slices
)
INSERT INTO billing_push
    (tenant_id, id, mapping_id, customer_ref, period_start, mode, slice_day, sequence, account_id,
     semantics, target, stripe_customer_id, identifier, value, delta, carry, stamped_at, displaced,
     state, token, not_before, attempts, indeterminate, http_key, created_at, first_attempt_at,
     settled_at, stripe_request_id, error_code, error_message)
SELECT %(tenant)s,
       ('0190face-' || %(place)s || '000-7000-8000-' || lpad(to_hex(row_number() OVER ()), 12, '0'))
           ::uuid,
       %(mapping)s, customer_ref, period_start, 'live', day,
       row_number() OVER (PARTITION BY customer_ref, period_start ORDER BY day), %(account)s,
       %(semantics)s, %(target)s, 'cus_scale' || md5(customer_ref),
       'scale-' || %(place)s || '-' || row_number() OVER (), units, units, 0,
       day::timestamptz + interval '1 hour', false, 'acknowledged', 1, %(now)s, 1, false, 0,
       %(now)s, %(now)s, %(now)s, 'req_scale', '', ''
FROM slices
"""
)
_LINES: LiteralString = """
INSERT INTO reconciliation_reportline
    (tenant_id, run_id, mapping_id, customer_ref, period_start, mode, id, period_end, metric_id,
     checked_at, unit_factor, ledger, counter, carry, wanted, acknowledged, open, stripe, status,
     causes, basis)
SELECT k.tenant_id, %(run)s, k.mapping_id, k.customer_ref, k.period_start, 'live',
       gen_random_uuid(), k.period_end, %(metric)s, %(now)s, 1, p.units, p.units, 0, p.units,
       p.units, 0, p.units, 'parity', '[]', '{}'
FROM billing_pushcursor k
JOIN (SELECT customer_ref, period_start, sum(intended) AS units FROM billing_pushslice
      WHERE tenant_id = %(tenant)s AND mapping_id = %(mapping)s GROUP BY 1, 2) p
  USING (customer_ref, period_start)
WHERE k.tenant_id = %(tenant)s AND k.mapping_id = %(mapping)s
"""


@dataclass
class Scale:
    """How much, and for whom."""

    tenant: Tenant
    events: int
    customers: int
    now: datetime
    say: Callable[[str], None]
    metrics: dict[str, Metric] = field(default_factory=dict)
    mappings: dict[str, PriceMapping] = field(default_factory=dict)

    def build(self) -> None:
        """Everything, in the order of the flow."""
        self._catalogue()
        chunks = max(1, self.events // CHUNK_EVENTS)
        done = 0
        for chunk in range(chunks):
            done += self._events(chunk, chunks, base=done)
            self.say(f"{done:,} of {self.events:,} events stored")
            if chunk % ANALYZE_EVERY == 0:
                self._vacuum()
        self._vacuum()
        self._count()
        self._pushes()
        self._vacuum()
        self._reports()
        self._waiting()
        self._vacuum()

    def _count(self) -> None:
        names, done = self.names(), 0
        for first in range(0, len(names), CHUNK_CUSTOMERS):
            some = tuple(names[first : first + CHUNK_CUSTOMERS])
            recompute(Scope(self.tenant.pk, self._metric_ids(), _BEGINNING, _END, some))
            done += len(some)
            self.say(f"{done:,} of {self.customers:,} customers counted")

    def _vacuum(self) -> None:
        """Statistics, visibility and summaries: after bulk loading the planner knows nothing.

        Only the owner of the tables may; without its address autovacuum does it, later.
        """
        owner = env_str("DATABASE_OWNER_URL")
        if owner and not connection.in_atomic_block:
            with psycopg.connect(owner, autocommit=True) as raw:
                raw.execute("VACUUM (ANALYZE)")

    def names(self) -> list[str]:
        """Customers, the largest first."""
        return [f"cust_{number:06}" for number in range(1, self.customers + 1)]

    def counts(self) -> list[int]:
        """Events per customer: one in a thousand has a hundred times as many as the others."""
        large = max(1, self.customers // 1_000)
        shares = large * 100 + (self.customers - large)
        each, rest = divmod(self.events, shares)
        counts = [each * 100] * large + [each] * (self.customers - large)
        counts[0] += rest
        return counts

    def _metric_ids(self) -> tuple[int, ...]:
        return tuple(metric.pk for metric in self.metrics.values())

    def _catalogue(self) -> None:
        actor = Actor(self.tenant.pk, ACTOR, self.now)
        for name, aggregation, cents, _ in METRICS:
            self.metrics[name] = create_metric(
                tenant_id=self.tenant.pk,
                name=name,
                settings=MetricSettings(aggregation=aggregation, unit=name),
                actor=ACTOR,
                now=self.now,
            )
            values: dict[str, Any] = {
                "aggregation": aggregation,
                "stripe_account": "default",
                "price_id": f"price_scale{name.replace('_', '')}",
                "push_semantics": "level" if aggregation == "last" else "increment",
                "stripe_meter_event_name": f"scale_{name}",
                "local_price": {
                    "model": "flat",
                    "currency": "USD",
                    "unitPrice": str(decimal_of(cents) / 100),
                },
            }
            self.mappings[name] = create_mapping(actor=actor, metric=name, values=values)
        self._execute(_LINKS, {"customers": self.names(), "actor": ACTOR})

    def _events(self, chunk: int, chunks: int, *, base: int) -> int:
        """Store one of ``chunks`` stretches of time; how many events it has."""
        by_ten = [(self.metrics[name].pk, kind) for name, kind, _, n in METRICS for _ in range(n)]
        counts = self.counts()
        total = sum(n * (chunk + 1) // chunks - n * chunk // chunks for n in counts)
        with connection.cursor() as cursor:
            cursor.execute(_BATCHES, {"count": total // BATCH_EVENTS + 1})
            row = cursor.fetchone()
        assert row is not None
        return self._execute(
            _EVENTS,
            {
                "batches": row[0],
                "batch_events": BATCH_EVENTS,
                "base": base,
                "chunk": chunk,
                "chunks": chunks,
                "metrics": [metric for metric, _ in by_ten],
                "kinds": [kind for _, kind in by_ten],
                "customers": self.names(),
                "counts": counts,
                "since": self.now - timedelta(days=DAYS),
                "seconds": timedelta(days=DAYS).total_seconds(),
            },
        )

    def _execute(self, statement: LiteralString, values: dict[str, Any]) -> int:
        with connection.cursor() as cursor:
            cursor.execute(statement, {"tenant": self.tenant.pk, "now": self.now, **values})
            return int(cursor.rowcount)

    @transaction.atomic
    def _pushes(self) -> None:
        ensure_accounts()
        account = StripeAccount.objects.get(account="default", mode=Mode.LIVE)
        rows = 0
        for place, (name, kind, _, _) in enumerate(METRICS, 1):
            mapping = self.mappings[name]
            rows += self._execute(
                _PUSHES,
                {
                    "kind": kind,
                    "metric": self.metrics[name].pk,
                    "mapping": mapping.pk,
                    "one_in": UNPUSHED_ONE_IN,
                    "place": str(place),
                    "account": account.pk,
                    "semantics": mapping.push_semantics,
                    "target": mapping.stripe_meter_event_name,
                },
            )
        self.say(f"{rows:,} pushes acknowledged, so to say")

    @transaction.atomic
    def _reports(self) -> None:
        run = Run.objects.create(
            id=_new_id(), tenant=self.tenant, status=Run.Status.DONE, requested_by=ACTOR,
            requested_at=self.now, started_at=self.now, finished_at=self.now,
        )  # fmt: skip
        for name, mapping in self.mappings.items():
            run.cursors += self._execute(
                _LINES, {"run": run.pk, "mapping": mapping.pk, "metric": self.metrics[name].pk}
            )
        run.parity = run.cursors
        run.save(update_fields=["cursors", "parity"])
        period = utc_month(self.now)
        causes = ("unpushed", "lost_at_stripe", "in_flight", "foreign_writer")
        Finding.objects.bulk_create(
            self._finding(run, ref, causes[number % len(causes)], number, period)
            for number, ref in enumerate(self.names()[:FINDINGS])
        )
        self.say(f"{run.cursors:,} cursors compared")

    def _finding(self, run: Run, ref: str, cause: str, number: int, period: Period) -> Finding:
        return Finding(
            id=_new_id(), tenant=self.tenant, mapping_id=self.mappings["api_calls"].pk,
            metric_id=self.metrics["api_calls"].pk, customer_ref=ref, period_start=period.start,
            period_end=period.end, mode=Mode.LIVE, cause=cause, units=1 + number,
            severity="critical" if number % 3 == 0 else "warning", first_run_id=run.pk,
            last_run_id=run.pk, opened_at=self.now, seen_at=self.now,
        )  # fmt: skip

    def _waiting(self) -> None:
        """Corrections that wait for an operator."""
        names = self.names()[:ADJUSTMENTS]
        period = utc_month(self.now)
        for number, ref in enumerate(names):
            create_adjustment(
                tenant_id=self.tenant.pk, metric="api_calls", customer_ref=ref,
                period_start=period.start, delta=decimal_of(-1 - number), reason="correction",
                actor=f"user:{ACTOR}", now=self.now, day=self.now.date(),
            )  # fmt: skip
        self.say(f"{len(names):,} corrections wait")


def _new_id() -> UUID:
    return UUID(bytes=uuid_utils.uuid7().bytes)
