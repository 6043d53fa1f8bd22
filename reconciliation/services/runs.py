"""Runs: asked for once, carried out by whoever comes, written page by page.

A run is a row before anything happens. Whoever carries it out holds a lease that every
page renews; after a crash another worker starts it again under a higher attempt, and what
the first one still writes is refused.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Q

from reconciliation import metrics, pairing, scheduling
from reconciliation.facts import Policy
from reconciliation.gathering import DRIFT, PARITY, Assessment, Begun, Gatherer
from reconciliation.models import ReadBudget, ReportLine, Run
from reconciliation.models.runs import ACTIVE
from reconciliation.money import Prices
from reconciliation.reading import StripeReader
from reconciliation.selectors import targets
from reconciliation.selectors.snapshot import snapshot
from reconciliation.selectors.targets import Scope
from reconciliation.services import findings
from reconciliation.services.findings import new_id
from stripemeter.lib import strictjson
from stripemeter.lib.faults import point
from stripemeter.lib.logs import get_logger
from stripemeter.tenancy import audit
from stripemeter.tenancy.models import Tenant

log = get_logger(__name__)

LEASE = timedelta(minutes=5)
ATTEMPTS_MAX = 5
#: Runs older than this lose their lines, unless a line is the newest of its cursor or a
#: certificate rests on the run.
LINES_KEPT = timedelta(days=35)


class Superseded(Exception):
    """Another worker took the run over."""


def policy() -> Policy:
    """The patience that settings ask for."""
    return Policy(
        settling=timedelta(seconds=settings.RECONCILIATION_SETTLING_SECONDS),
        push_grace=timedelta(seconds=3 * settings.PUSH_INTERVAL_SECONDS),
    )


def request_run(
    *,
    tenant_id: int,
    actor: str,
    now: datetime,
    metric_id: int | None = None,
    customer_ref: str | None = None,
    period_from: datetime | None = None,
    period_to: datetime | None = None,
) -> tuple[Run, bool]:
    """A queued run, or the one that is already under way; and whether it is new."""
    for _ in range(3):
        try:
            with transaction.atomic():
                run = Run.objects.create(
                    id=new_id(),
                    tenant_id=tenant_id,
                    requested_by=actor,
                    requested_at=now,
                    metric_id=metric_id,
                    customer_ref=customer_ref,
                    period_from=period_from,
                    period_to=period_to,
                )
                audit.record(
                    tenant_id=tenant_id,
                    actor=actor,
                    action="reconciliation.requested",
                    object_type="reconciliation_run",
                    object_id=run.pk,
                    now=now,
                )
                return run, True
        except IntegrityError:
            active = Run.objects.filter(tenant_id=tenant_id, status__in=ACTIVE).first()
            if active is not None:
                return active, False
    raise RuntimeError("runs come and go too fast")


def claim(*, now: datetime, run_id: UUID | None = None) -> Run | None:
    """Take a queued run, or one whose worker died; None if there is nothing to do."""
    with transaction.atomic():
        waiting = Run.objects.select_for_update(skip_locked=True).filter(
            Q(status=Run.Status.QUEUED) | Q(status=Run.Status.RUNNING, lease_until__lt=now)
        )
        if run_id is not None:
            waiting = waiting.filter(pk=run_id)
        run = waiting.order_by("requested_at").first()
        if run is None:
            return None
        run.attempt += 1
        run.started_at = run.started_at or now
        run.lease_until = now + LEASE
        run.status = Run.Status.FAILED if run.attempt > ATTEMPTS_MAX else Run.Status.RUNNING
        if run.status == Run.Status.FAILED:
            run.error, run.finished_at = "given up after several attempts", now
        if run.attempt > 1:
            ReportLine.objects.filter(tenant_id=run.tenant_id, run_id=run.pk).delete()
        for counter in ("cursors", "parity", "settling", "drifting", "skipped", "stripe_reads"):
            setattr(run, counter, 0)
        run.save()
        return run if run.status == Run.Status.RUNNING else None


def execute(run: Run, *, clock: Callable[[], datetime]) -> Run:
    """Carry a claimed run out; returns it as it ended."""
    with metrics.run_duration.time():
        try:
            _Execution(run, clock).carry_out()
            metrics.runs.labels("done").inc()
        except Superseded:
            log.warning("run.superseded", run=str(run.pk))
            metrics.runs.labels("superseded").inc()
        except Exception as error:
            metrics.runs.labels("failed").inc()
            _fail(run, error, clock())
            raise
    run.refresh_from_db()
    return run


def _fail(run: Run, error: Exception, now: datetime) -> None:
    """Give the run back: it is tried again when its lease ends, which is now."""
    message = f"{type(error).__name__}: {error}".splitlines()[0][:500]
    Run.objects.filter(pk=run.pk, attempt=run.attempt, status=Run.Status.RUNNING).update(
        error=message, lease_until=now
    )


def scope_of(run: Run, now: datetime) -> Scope:
    """What ``run`` looks at."""
    return Scope(
        tenant_id=run.tenant_id,
        now=now,
        metric_id=run.metric_id,
        customer_ref=run.customer_ref,
        period_from=run.period_from,
        period_to=run.period_to,
    )


@dataclass(slots=True)
class _Execution:
    """One attempt at a run."""

    run: Run
    clock: Callable[[], datetime]
    checked: set[tuple[Any, ...]] = field(default_factory=set)
    held_back: list[Assessment] = field(default_factory=list)
    spent: dict[tuple[str, str], int] = field(default_factory=dict)

    def carry_out(self) -> None:
        """Page by page through the scope, then pairs, then what is no longer seen."""
        now = self.clock()
        scope = scope_of(self.run, now)
        epsilon = Tenant.objects.values_list("epsilon", flat=True).get(pk=self.run.tenant_id)
        prices = Prices()
        chosen = scheduling.chosen_for(scope, requested=self.run.requested_by != "schedule")
        reader = StripeReader()
        try:
            gatherer = Gatherer(scope=scope, reader=reader, clock=self.clock, policy=policy())
            before: tuple[Begun, int] | None = None
            for begun, skipped in self._pages(gatherer, scope, chosen):
                # Stripe is read for this page while the one before it is written down.
                self._close(before, gatherer, prices, epsilon)
                before = begun, skipped
            self._close(before, gatherer, prices, epsilon)
        finally:
            reader.close()
        pairing.pair(self.held_back)
        self._write(self.held_back, prices, epsilon, reader, 0, final=True)
        self._finish(scope)

    def _pages(
        self, gatherer: Gatherer, scope: Scope, chosen: set[targets.Key] | None
    ) -> Iterator[tuple[Begun, int]]:
        """Each page of the scope with its reads under way, and how many cursors it leaves out."""
        after: tuple[UUID, str] | None = None
        while True:
            with snapshot():
                page, after = targets.page(scope, after=after)
                mine = targets.ours(page)
            kept = page if chosen is None else [each for each in page if each.key in chosen]
            yield gatherer.begin(kept, mine), len(page) - len(kept)
            if after is None:
                return

    def _close(
        self,
        begun: tuple[Begun, int] | None,
        gatherer: Gatherer,
        prices: Prices,
        epsilon: Any,
    ) -> None:
        """Assess a page and write it down."""
        if begun is None:
            return
        found = gatherer.finish(begun[0]) if begun[0].page else []
        self._write(found, prices, epsilon, gatherer.reader, begun[1])
        point("reconciliation.page_written")

    def _write(
        self,
        found: list[Assessment],
        prices: Prices,
        epsilon: Any,
        reader: StripeReader,
        skipped: int,
        *,
        final: bool = False,
    ) -> None:
        """Lines, findings and progress of a page, in one transaction."""
        ready = found
        if not final and len(self.held_back) < pairing.HELD_MAX:
            ready = [each for each in found if not pairing.can_pair(each)]
            self.held_back += [each for each in found if pairing.can_pair(each)]
        now = self.clock()
        statuses = [each.status for each in ready]
        with transaction.atomic():
            renewed = Run.objects.filter(
                pk=self.run.pk, attempt=self.run.attempt, status=Run.Status.RUNNING
            ).update(
                lease_until=now + LEASE,
                cursors=F("cursors") + len(ready),
                parity=F("parity") + statuses.count(PARITY),
                drifting=F("drifting") + statuses.count(DRIFT),
                settling=F("settling")
                + (len(statuses) - statuses.count(PARITY) - statuses.count(DRIFT)),
                skipped=F("skipped") + skipped,
                stripe_reads=reader.total_reads,
            )
            if not renewed:
                raise Superseded
            self._spend(reader, now)
            _write_lines(self.run, ready, now)
            findings.record_findings(
                run_id=self.run.pk,
                assessments=[each for each in ready if each.found],
                prices=prices,
                epsilon=epsilon,
                now=now,
            )
        self.checked.update(each.target.key[1:] for each in ready)

    def _spend(self, reader: StripeReader, now: datetime) -> None:
        """Book the reads since the last page on their accounts' months."""
        month = date(now.year, now.month, 1)
        for (mode, account), reads in sorted(reader.reads.items()):
            since = reads - self.spent.get((mode, account), 0)
            self.spent[mode, account] = reads
            if since:
                ReadBudget.objects.get_or_create(account=account, mode=mode, month=month)
                ReadBudget.objects.filter(account=account, mode=mode, month=month).update(
                    reads=F("reads") + since
                )

    def _finish(self, scope: Scope) -> None:
        now = self.clock()
        with transaction.atomic():
            findings.close_unseen(run_id=self.run.pk, scope=scope, checked=self.checked, now=now)
            done = Run.objects.filter(
                pk=self.run.pk, attempt=self.run.attempt, status=Run.Status.RUNNING
            ).update(status=Run.Status.DONE, finished_at=now, lease_until=None, error="")
            if not done:
                raise Superseded
        log.info("run.finished", run=str(self.run.pk), cursors=len(self.checked))


_COLUMNS: LiteralString = """
    tenant_id bigint, run_id uuid, mapping_id uuid, customer_ref text, period_start timestamptz,
    mode text, id uuid, period_end timestamptz, metric_id int, checked_at timestamptz,
    unit_factor numeric, ledger numeric, counter numeric, carry numeric, wanted numeric,
    acknowledged numeric, open numeric, stripe numeric, invoiced numeric, status text,
    causes jsonb, basis jsonb
"""
_NAMES: LiteralString = """
    tenant_id, run_id, mapping_id, customer_ref, period_start, mode, id, period_end, metric_id,
    checked_at, unit_factor, ledger, counter, carry, wanted, acknowledged, open, stripe, invoiced,
    status, causes, basis
"""
#: One document for the whole page: the ORM spends more on a page of lines than Stripe does on
#: answering it.
_LINES: LiteralString = (
    "INSERT INTO reconciliation_reportline (" + _NAMES + ") SELECT " + _NAMES
    + "FROM json_to_recordset(%s::json) AS line(" + _COLUMNS + ")"
)  # fmt: skip


def _write_lines(run: Run, found: list[Assessment], now: datetime) -> None:
    """The lines of a page. `claim` took away what an attempt before this one wrote."""
    if not found:
        return
    lines = [
        {
            "tenant_id": each.target.tenant_id,
            "run_id": run.pk,
            "mapping_id": each.target.mapping_id,
            "customer_ref": each.target.customer_ref,
            "period_start": each.target.period_start,
            "mode": each.target.mode,
            "id": new_id(),
            "period_end": each.target.period_end,
            "metric_id": each.target.metric_id,
            "checked_at": now,
            "unit_factor": each.target.unit_factor,
            "ledger": each.ledger,
            "counter": each.counter,
            "carry": each.carry,
            "wanted": each.wanted,
            "acknowledged": each.acknowledged,
            "open": each.open,
            "stripe": each.stripe,
            "invoiced": each.invoiced,
            "status": each.status,
            "causes": [{"cause": str(part.cause), "units": part.units} for part in each.found],
            "basis": each.basis | ({"unread": each.problem} if each.problem else {}),
        }
        for each in found
    ]
    document = strictjson.dumps(lines, decimals_as_text=True).decode()
    with connection.cursor() as cursor:
        cursor.execute(_LINES, [document])


_PRUNE = """
DELETE FROM reconciliation_reportline l USING reconciliation_run r
WHERE r.id = l.run_id AND r.status IN ('done', 'failed') AND l.checked_at < %(before)s
  AND NOT EXISTS (SELECT FROM reconciliation_periodclose c WHERE c.run_id = r.id)
  AND EXISTS (SELECT FROM reconciliation_reportline n
      WHERE (n.tenant_id, n.mapping_id, n.customer_ref, n.period_start, n.mode)
          = (l.tenant_id, l.mapping_id, l.customer_ref, l.period_start, l.mode)
        AND n.checked_at > l.checked_at)
"""


@transaction.atomic
def prune_lines(*, now: datetime) -> int:
    """Drop old lines that a newer line of the same cursor replaces; how many."""
    with connection.cursor() as cursor:
        cursor.execute(_PRUNE, {"before": now - LINES_KEPT})
        return int(cursor.rowcount)


def schedule_runs(*, now: datetime) -> int:
    """Queue a run for every tenant whose last one is older than the interval; how many."""
    since = now - timedelta(seconds=settings.RECONCILIATION_INTERVAL_SECONDS)
    due = (
        Tenant.objects.filter(is_active=True, price_mappings__isnull=False)
        .exclude(reconciliation_runs__requested_at__gt=since)
        .distinct()
    )
    queued = 0
    for tenant in due:
        _, is_new = request_run(tenant_id=tenant.pk, actor="schedule", now=now)
        queued += is_new
    return queued
