"""One run of pushing: plan, claim, call, write down, until nothing is left to do now.

Any number of runs may work at once, in any number of processes: cursors, lanes and
tokens keep them apart. Threads make the calls; the database is touched by the caller's
thread only.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from billing import metrics
from billing.models import Mode, PriceMapping, StripeAccount
from billing.models.accounts import DEFAULT_ACCOUNT
from billing.services import accounts, anchors, delivery, gate, planning
from billing.services.delivery import Claimed, Tried
from billing.stripe.answers import Answer, Outcome
from billing.stripe.client import KeyMissing, KeyOfWrongMode, secret_key
from billing.stripe.driver import BULK_EVENTS_MAX, bulk_driver_for, driver_for
from stripemeter.lib import tracing
from stripemeter.lib.faults import point
from stripemeter.lib.logs import get_logger
from stripemeter.lib.metrics import bounded

log = get_logger(__name__)

#: Calls of one claim per thread: large enough to spread the claim's cost.
CALLS_PER_THREAD = 16
#: A claim for the stream takes this many times more: its batches hold a hundred.
BULK_CLAIM = 8
#: A call is not begun when its lease has less than this left (timeouts are 3 + 10 s).
LEASE_REST_MIN = timedelta(seconds=20)
#: What one run may leave for the next: merged remainders, increases behind decreases.
PASSES_MAX = 50
PAUSE_SECONDS = 0.05
#: Advisory lock class of planning runs.
_PLAN_LOCK = 0x504C414E


@dataclass(slots=True)
class Report:
    """What one run did."""

    planned: int = 0
    held: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    #: Modes that were left out, with the reason.
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def acknowledged(self) -> int:
        """Calls after which Stripe has the value."""
        return self.outcomes.get("accepted", 0) + self.outcomes.get("duplicate", 0)

    def count(self, outcome: str) -> None:
        """Add one call that ended in ``outcome``."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1


def run_pushes(
    *, clock: Callable[[], datetime], seconds: float, tenant_id: int | None = None
) -> Report:
    """Push for at most ``seconds`` (calls begun are finished); returns what was done."""
    report = Report()
    deadline = time.monotonic() + seconds
    accounts.ensure_accounts()
    gate.check(now=clock())
    delivery.give_up(now=clock())
    threads = settings.STRIPE_PUSH_THREADS
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="push") as pool:
        for _ in range(PASSES_MAX):
            if not _pass(pool, report, clock, deadline, tenant_id):
                break
    return report


def plan_now(*, tenant_id: int, now: datetime) -> tuple[int, dict[str, str]]:
    """Write the tenant's due intents, one page of them; (pushes, modes left out and why)."""
    report = Report()
    accounts.ensure_accounts()
    gate.check(now=now)
    ready = sendable_accounts(report, now=now)
    page = planning.plan_page(now=now, account_ids=[each.pk for each in ready], tenant_id=tenant_id)
    metrics.pushes_planned.inc(page.pushes)
    return page.pushes, report.skipped


def _pass(
    pool: ThreadPoolExecutor,
    report: Report,
    clock: Callable[[], datetime],
    deadline: float,
    tenant_id: int | None,
) -> bool:
    """Plan every cursor once and send what is due; whether anything was done."""
    done = planned_before = report.planned
    calls = 0
    after: planning.Position | None = None
    while time.monotonic() < deadline:
        ready = sendable_accounts(report, now=clock())
        page = _plan_alone(ready, clock(), after, tenant_id)
        if page is None:
            if not (sent := _send_due(pool, report, ready, clock, deadline)):
                time.sleep(PAUSE_SECONDS)
            calls += sent
            continue
        report.planned += page.pushes
        report.held += page.held
        metrics.pushes_planned.inc(page.pushes)
        point("push.intent_committed")
        calls += _send_due(pool, report, ready, clock, deadline)
        after = page.after
        if after is None:
            break
    done = report.planned - planned_before + calls
    return done > 0 and time.monotonic() < deadline


def _plan_alone(
    ready: list[StripeAccount],
    now: datetime,
    after: planning.Position | None,
    tenant_id: int | None,
) -> planning.Planned | None:
    """Plan one page, unless another run is planning just now (None): then send meanwhile.

    Only spares work: two planners on one page would wait for each other's cursors and
    then find them planned. What keeps them apart is the lock on the cursors.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s, 0)", [_PLAN_LOCK])
            row = cursor.fetchone()
        if row is None or not row[0]:
            return None
        return planning.plan_page(
            now=now, account_ids=[each.pk for each in ready], after=after, tenant_id=tenant_id
        )


def sendable_accounts(report: Report, *, now: datetime) -> list[StripeAccount]:
    """Accounts that may be sent to now; a mode without its key is left out, with a warning.

    A missing test key therefore skips shadow pushes and can never turn them live.
    """
    ready: list[StripeAccount] = []
    for account in StripeAccount.objects.order_by("pk"):
        if account.mode in report.skipped or not accounts.may_send(account, now=now):
            continue
        try:
            secret_key(account.mode)
        except (KeyMissing, KeyOfWrongMode) as error:
            report.skipped[account.mode] = str(error)
            log.warning("push.mode_skipped", mode=account.mode, reason=str(error))
            if account.mode == Mode.TEST:
                _count_skipped_shadow()
            continue
        ready.append(account)
    return ready


def _send_due(
    pool: ThreadPoolExecutor,
    report: Report,
    ready: list[StripeAccount],
    clock: Callable[[], datetime],
    deadline: float,
) -> int:
    """Claim and send until nothing is due; accounts take turns. How many calls were made."""
    calls = 0
    open_accounts = list(ready)
    while open_accounts and time.monotonic() < deadline:
        waiting = False
        for account in list(open_accounts):
            in_bulk = _goes_in_bulk(account, clock())
            wanted = settings.STRIPE_PUSH_THREADS * CALLS_PER_THREAD
            claim = delivery.claim(
                account_id=account.pk,
                wanted=wanted * BULK_CLAIM if in_bulk else wanted,
                now=clock(),
                per_call=BULK_CLAIM if in_bulk else 1,
            )
            if claim.pushes:
                anchors.raise_to(account.anchor, claim.epoch)
                calls += _send(pool, report, account, claim, clock, in_bulk)
            elif claim.waiting:
                waiting = True
            else:
                open_accounts.remove(account)
        if waiting:
            time.sleep(PAUSE_SECONDS)
    return calls


def _send(
    pool: ThreadPoolExecutor,
    report: Report,
    account: StripeAccount,
    claim: delivery.Claim,
    clock: Callable[[], datetime],
    in_bulk: bool,
) -> int:
    point("push.claimed")
    pushes = claim.pushes
    assert claim.lease_until is not None, "a claim with pushes has a lease"
    # By the claim's time, not by now: the process may have stood still since, for hours.
    give_back_at = claim.lease_until - LEASE_REST_MIN

    def call(some: list[Claimed]) -> list[Tried]:
        if len(some) > 1:
            return _call_in_bulk(some, account, clock, give_back_at)
        return [_call(some[0], account.account, clock, give_back_at)]

    tenants = {push.tenant_id for push in pushes}
    with tracing.span("billing.push", origins=tenants, calls=len(pushes), mode=account.mode):
        answered = pool.map(tracing.carried(call), _calls(pushes, in_bulk))
        tries = [each for some in answered for each in some]
    delivery.record(account_id=account.pk, tries=tries, now=clock())
    known = [each.push.identifier for each in tries if _known_before(each)]
    if known:
        reason = f"Stripe knows identifiers that are new here, such as {known[0]}"
        gate.close(account_id=account.pk, reason=reason, now=clock())
    for each in tries:
        report.count(str(each.answer.outcome) if each.answer else "not_sent")
    _observe(tries)
    return len(tries)


def _goes_in_bulk(account: StripeAccount, now: datetime) -> bool:
    """Whether the account's backlog is sent over the stream.

    Only to the key's own account (whether the stream takes connected ones is not
    documented), and not before its mode was proved: a stream's answer does not say it.
    """
    at_least = settings.STRIPE_BULK_FROM
    if not at_least or account.account != DEFAULT_ACCOUNT or account.livemode_checked_at is None:
        return False
    return delivery.backlog(account_id=account.pk, at_least=at_least, now=now)


def _calls(pushes: list[Claimed], in_bulk: bool) -> list[list[Claimed]]:
    """What goes out together. Alone: whatever the stream refuses, and every second try."""
    if not in_bulk:
        return [[each] for each in pushes]
    streamed = [each for each in pushes if _may_stream(each)]
    alone = [[each] for each in pushes if not _may_stream(each)]
    size = BULK_EVENTS_MAX
    return [streamed[at : at + size] for at in range(0, len(streamed), size)] + alone


def _may_stream(push: Claimed) -> bool:
    """A first try of a positive whole increment, for a cursor that was pushed before.

    Wrong customers and values are refused at once by v1 and late by the stream, so a
    cursor's first push goes over v1.
    """
    whole = push.value > 0 and push.value == push.value.to_integral_value()
    first = push.attempts == 1 and not push.indeterminate
    return push.semantics == "increment" and whole and first and push.sequence > 1


def _call_in_bulk(
    pushes: list[Claimed],
    account: StripeAccount,
    clock: Callable[[], datetime],
    give_back_at: datetime,
) -> list[Tried]:
    started_at = clock()
    if started_at >= give_back_at:
        return [Tried(each, None, started_at, started_at) for each in pushes]
    point("push.before_call")
    try:
        driver = bulk_driver_for(account.mode, account.account, settings.STRIPE_API_BASE)
        answer = driver.push_batch([each.event(account.account) for each in pushes], now=started_at)
    except Exception as error:  # a defect here must not lose the outcomes of the batch
        log.exception("push.call_failed", batch=len(pushes))
        answer = Answer(Outcome.UNKNOWN, code=type(error).__name__, message="call failed")
    point("push.after_call")
    if answer.outcome is Outcome.REFUSED:
        # One wrong event may have refused them all: each is asked about alone.
        answer = replace(answer, outcome=Outcome.UNKNOWN)
    finished_at = clock()
    return [Tried(each, answer, started_at, finished_at) for each in pushes]


def _known_before(tried: Tried) -> bool:
    """Whether Stripe knew an identifier at its first try: it was minted in a lost life."""
    known = {Outcome.DUPLICATE, Outcome.MISMATCH}
    first = not tried.push.indeterminate
    return first and tried.answer is not None and tried.answer.outcome in known


def _call(
    push: Claimed, account: str, clock: Callable[[], datetime], give_back_at: datetime
) -> Tried:
    started_at = clock()
    if started_at >= give_back_at:
        return Tried(push, None, started_at, started_at)
    point("push.before_call")
    try:
        with tracing.span("stripe.push", identifier=push.identifier, mode=push.mode):
            answer = driver_for(push.semantics).push(push.event(account))
    except Exception as error:  # a defect here must not lose the outcomes of the batch
        log.exception("push.call_failed", identifier=push.identifier)
        answer = Answer(Outcome.UNKNOWN, code=type(error).__name__, message="call failed")
    point("push.after_call")
    return Tried(push, answer, started_at, clock())


# --- metrics -----------------------------------------------------------------------------


def _observe(tries: list[Tried]) -> None:
    names: dict[UUID, tuple[str, str]] = {}
    if tries and tries[0].push.mode == Mode.TEST:
        names = _names({each.push.mapping_id for each in tries})
    for each in tries:
        if each.answer is None:
            continue
        outcome = each.answer.outcome
        metrics.pushes.labels(each.push.mode, str(outcome)).inc()
        metrics.push_duration.labels(each.push.mode).observe(
            (each.finished_at - each.started_at).total_seconds()
        )
        if each.push.mode == Mode.TEST:
            tenant, metric = names.get(each.push.mapping_id, ("", ""))
            if outcome in {Outcome.ACCEPTED, Outcome.DUPLICATE}:
                metrics.shadow_posts.labels(tenant, metric).inc()
            else:
                metrics.shadow_failures.labels(tenant, metric, str(outcome)).inc()


def _names(mapping_ids: set[UUID]) -> dict[UUID, tuple[str, str]]:
    rows = PriceMapping.objects.filter(pk__in=mapping_ids).values_list(
        "pk", "tenant__key", "metric__name"
    )
    return {
        pk: (bounded("tenant", tenant), bounded("metric", metric)) for pk, tenant, metric in rows
    }


def _count_skipped_shadow() -> None:
    shadows = PriceMapping.objects.filter(active=True, shadow=True).values_list("pk", flat=True)
    for tenant, metric in _names(set(shadows)).values():
        metrics.shadow_failures.labels(tenant, metric, "no_test_key").inc()
