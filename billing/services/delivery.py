"""Takes intents in hand, one per lane, and writes down what became of them.

A lane is (account, meter, customer): Stripe serialises calls on it, and a unique index
allows one push per lane in state ``sending``. A claim raises the push's token; an outcome
counts only under the newest token, so a worker that lost its lease changes nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from random import uniform
from uuid import UUID

from django.db import connection, transaction

from billing.models import StripeAccount
from billing.services import accounts, columns, delivery_sql, happenings
from billing.services.accounts import Verdicts
from billing.services.columns import columns_of
from billing.stripe.answers import Answer, Outcome
from billing.stripe.driver import UsageEvent
from stripemeter.lib.faults import point
from stripemeter.lib.logs import get_logger

log = get_logger(__name__)

#: A claimed push not settled by then is taken over by the next claim.
LEASE = timedelta(seconds=120)
#: Stripe keeps identifiers for at least 24 hours; nothing is sent again after this long.
RESEND_MAX = timedelta(hours=23)
BACKOFF_BASE_SECONDS = 2.0
BACKOFF_SECONDS_MAX = 600.0
#: Summaries lag: an unknown outcome is looked up no earlier than this after the last try.
SETTLING = timedelta(minutes=30)
#: Advisory lock class of claims; the second key is the account.
_LOCK_CLASS = 0x50555348


@dataclass(frozen=True, slots=True)
class Claimed:
    """A push in hand, under a token."""

    tenant_id: int
    id: UUID
    token: int
    mapping_id: UUID
    customer_ref: str
    period_start: datetime
    mode: str
    semantics: str
    target: str
    stripe_customer_id: str
    identifier: str
    value: Decimal
    stamped_at: datetime
    http_key: int
    attempts: int
    #: An earlier try may have reached Stripe.
    indeterminate: bool
    #: Number within the cursor; the first of a cursor proves meter and customer.
    sequence: int

    def event(self, account: str) -> UsageEvent:
        """The push as drivers take it."""
        key = self.identifier if self.http_key == 0 else f"{self.identifier}#{self.http_key}"
        return UsageEvent(
            mode=self.mode,
            account=account,
            target=self.target,
            stripe_customer_id=self.stripe_customer_id,
            value=self.value,
            stamped_at=self.stamped_at,
            identifier=self.identifier,
            idempotency_key=key,
        )


@dataclass(frozen=True, slots=True)
class Tried:
    """One try and its answer; None if the push was not sent after all."""

    push: Claimed
    answer: Answer | None
    started_at: datetime
    finished_at: datetime


@dataclass(frozen=True, slots=True)
class Claim:
    """What one claim got, and whether more is due that only tokens held back."""

    pushes: list[Claimed]
    waiting: bool = False
    #: The account's epoch with this claim: its mark is raised to it before the first call.
    epoch: int = 0
    #: From then on another worker may claim them.
    lease_until: datetime | None = None


@transaction.atomic
def claim(*, account_id: int, wanted: int, now: datetime, per_call: int = 1) -> Claim:
    """Up to ``wanted`` due pushes of the account, each from another lane; commits.

    Bounded by the account's tokens, of which a call takes one for ``per_call`` pushes;
    empty while the account is halted or its breaker is open.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_LOCK_CLASS, account_id])
        cursor.execute(delivery_sql.TAKE_BACK, {"account": account_id, "now": now})
        account = StripeAccount.objects.select_for_update().get(pk=account_id)
        if not accounts.may_send(account, now=now):
            return Claim([])
        cursor.execute(
            delivery_sql.DUE,
            {
                "account": account_id,
                "now": now,
                "resend_after": now - RESEND_MAX,
                "window": wanted * 4,
                "wanted": wanted,
            },
        )
        due = cursor.fetchall()
        calls = -(-len(due) // per_call)
        granted = accounts.take_tokens(account, wanted=calls, now=now) * per_call if due else 0
        if not granted:
            return Claim([], waiting=bool(due))
        tenants, ids = zip(*due[:granted], strict=True)
        cursor.execute(
            delivery_sql.CLAIM,
            {"now": now, "lease": now + LEASE, "tenants": list(tenants), "ids": list(ids)},
        )
        taken = [Claimed(*row) for row in cursor.fetchall()]
    return Claim(taken, waiting=granted < len(due), epoch=account.epoch, lease_until=now + LEASE)


def backlog(*, account_id: int, at_least: int, now: datetime) -> bool:
    """Whether at least that many pushes of the account are due."""
    with connection.cursor() as cursor:
        cursor.execute(delivery_sql.BACKLOG, {"account": account_id, "now": now, "limit": at_least})
        row = cursor.fetchone()
    return row is not None and row[0] >= at_least


# --- outcomes ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reaction:
    """What an answer does to its push."""

    state: str
    indeterminate: bool
    wait_seconds: float = 0.0
    next_http_key: bool = False
    hold: str = ""
    hold_mapping: bool = False


def reaction(tried: Tried) -> Reaction:
    """The one place that decides what an answer means for the push that got it."""
    push, answer = tried.push, tried.answer
    before = push.indeterminate
    if answer is None:
        return Reaction("retry", before)
    outcome = answer.outcome
    if outcome is Outcome.ACCEPTED:
        return Reaction("acknowledged", before)
    if outcome is Outcome.DUPLICATE:
        # Ours only if an earlier try may have arrived; else somebody else's value stands there.
        return Reaction("acknowledged" if before else "needs_review", before)
    if outcome in {Outcome.MISMATCH, Outcome.WRONG_MODE}:
        return Reaction("needs_review", True)
    if outcome is Outcome.BUSY:
        return Reaction("retry", before, backoff(push.attempts, answer.retry_after))
    if outcome is Outcome.UNKNOWN:
        # A 500 is stored under its HTTP key and would be replayed; the identifier stays.
        stored = (answer.http_status or 0) >= 500
        return Reaction("retry", True, backoff(push.attempts, answer.retry_after), stored)
    if outcome is Outcome.HALTED:
        return Reaction("retry", before, backoff(push.attempts, None))
    if before:
        return Reaction("needs_review", True)
    reason = f"Stripe refused {push.identifier}: {answer.message or answer.code}"
    return Reaction("parked", False, hold=reason, hold_mapping=outcome is Outcome.DEAD_METER)


def backoff(attempts: int, retry_after: float | None) -> float:
    """Seconds until the next try: exponential with full jitter, at least what Stripe asks."""
    ceiling = min(BACKOFF_BASE_SECONDS * 2 ** min(attempts - 1, 12), BACKOFF_SECONDS_MAX)
    return max(uniform(0.1, ceiling), retry_after or 0.0)  # noqa: S311


def record(*, account_id: int, tries: Sequence[Tried], now: datetime) -> int:
    """Commit what became of ``tries`` of one account; how many were still ours to settle."""
    if not tries:
        return 0
    point("push.answered")
    with transaction.atomic():
        applied = _settle(tries, now)
        _note_attempts(tries, applied)
        settled = [each for each in tries if each.push.id in applied]
        _hold(settled, now)
        _tell(settled, now)
        accounts.apply_verdicts(account_id=account_id, verdicts=verdicts_of(tries), now=now)
        point("push.outcome_written")
    for each in tries:
        if each.push.id not in applied:
            log.warning("push.outcome_fenced", identifier=each.push.identifier)
    return len(applied)


def _tell(tries: Sequence[Tried], now: datetime) -> None:
    found = [(each.push, reaction(each)) for each in tries]
    happenings.tell_pushes([(push, what.state, what.hold) for push, what in found], now=now)


def _settle(tries: Sequence[Tried], now: datetime) -> set[UUID]:
    rows = []
    for each in tries:
        found, answer = reaction(each), each.answer
        settled = None if found.state in {"retry", "unknown"} else now
        rows.append(
            (
                each.push.tenant_id, each.push.id, each.push.token, found.state,
                found.indeterminate, now + timedelta(seconds=found.wait_seconds),
                int(found.next_http_key), settled,
                answer.request_id if answer else "",
                answer.code if answer else "", answer.message if answer else "",
            )
        )  # fmt: skip
    return {row[0] for row in columns.execute(delivery_sql.SETTLE, columns_of(rows))}


def _note_attempts(tries: Sequence[Tried], applied: set[UUID]) -> None:
    rows = [
        (
            each.push.tenant_id, each.push.id, each.push.token, each.started_at,
            each.finished_at, str(each.answer.outcome), each.answer.http_status,
            each.answer.code, each.answer.message, each.answer.request_id,
            each.push.id in applied,
        )
        for each in tries
        if each.answer is not None
    ]  # fmt: skip
    if rows:
        columns.execute(delivery_sql.NOTE_ATTEMPTS, columns_of(rows))


def _hold(tries: Iterable[Tried], now: datetime) -> None:
    """Stop planning where Stripe refused the data: one cursor, or all of a dead meter."""
    for each in tries:
        found = reaction(each)
        if not found.hold:
            continue
        push = each.push
        with connection.cursor() as cursor:
            cursor.execute(
                delivery_sql.HOLD,
                {
                    "tenant": push.tenant_id,
                    "mapping": push.mapping_id,
                    "mode": push.mode,
                    "customer": None if found.hold_mapping else push.customer_ref,
                    "period": None if found.hold_mapping else push.period_start,
                    "now": now,
                    "reason": found.hold[: accounts.REASON_CHARS_MAX],
                },
            )
        log.warning("push.parked", identifier=push.identifier, reason=found.hold)


def verdicts_of(tries: Sequence[Tried]) -> Verdicts:
    """What the answers say about the account's health."""
    # Pushes that went out in one call share its answer, which counts once.
    answers = list({id(each.answer): each.answer for each in tries if each.answer}.values())
    failed = sum(1 for each in answers if each.outcome is Outcome.UNKNOWN)
    busy = [each for each in answers if each.outcome is Outcome.BUSY]
    halts = [each for each in answers if each.outcome in {Outcome.HALTED, Outcome.WRONG_MODE}]
    limited = [each for each in busy if each.code not in {"lock_timeout"}]
    return Verdicts(
        orderly=len(answers) - failed - len(busy) - len(halts),
        failed=failed,
        slow_down=max((each.retry_after or 1.0 for each in limited), default=None),
        halt_reason=f"{halts[0].code}: {halts[0].message}" if halts else "",
        livemode_seen=any(each.outcome is Outcome.ACCEPTED for each in answers),
    )


# --- giving up ---------------------------------------------------------------------------


@transaction.atomic
def give_up(*, now: datetime) -> int:
    """Stop sending what may not be sent any more; commits. How many pushes it concerns.

    23 hours after the first try: unknown if it may have arrived, else rejected (its value
    is planned again). Certainly not at Stripe and its period frozen meanwhile, or never tried
    and its timestamp grown too old: rejected.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            delivery_sql.EXPIRE,
            {"before": now - RESEND_MAX, "now": now, "settle_at": now + SETTLING},
        )
        expired = int(cursor.rowcount)
        cursor.execute(
            delivery_sql.STALE, {"before": now - RESEND_MAX, "stamped": now - timedelta(days=35)}
        )
        stale = cursor.fetchall()
    reject(pushes=stale, code="never_sent", message="not sent in time; planned again", now=now)
    return expired + len(stale)


def reject(
    *,
    pushes: Sequence[tuple[int, UUID]],
    code: str,
    message: str,
    now: datetime,
    evidence: str | None = None,
) -> int:
    """Mark pushes (tenant id, id) as not at Stripe, inside the caller's transaction.

    Their values leave the pushed total and their cursors are planned again. How many
    were not rejected already.
    """
    if not pushes:
        return 0
    tenants, ids = zip(*pushes, strict=True)
    with connection.cursor() as cursor:
        # Cursors before slices, as planning does: no deadlock, and no plan in between.
        cursor.execute(delivery_sql.LOCK_CURSORS_OF, {"tenants": list(tenants), "ids": list(ids)})
        cursor.execute(
            delivery_sql.REJECT,
            {
                "tenants": list(tenants),
                "ids": list(ids),
                "now": now,
                "code": code,
                "message": message[: accounts.REASON_CHARS_MAX],
                "evidence": evidence,
            },
        )
        return len(cursor.fetchall())
