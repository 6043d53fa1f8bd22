"""Stripe accounts: which may be sent to, how fast, and when they stop.

Halted means a person must act (key, permission, wrong mode). Open means the circuit
breaker waits after failures in a row. Both stand in PostgreSQL, so every worker obeys and
every operator sees them.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import floor

from django.conf import settings
from django.db import connection, transaction

from billing.models import Mode, StripeAccount
from billing.services import happenings
from stripemeter.lib.errors import NotFound
from stripemeter.lib.logs import get_logger
from stripemeter.tenancy import audit

log = get_logger(__name__)

#: Failures in a row after which nothing is sent for a while.
BREAKER_FAILURES = 5
BREAKER_WAIT = timedelta(seconds=30)
BREAKER_WAIT_MAX = timedelta(minutes=10)
REASON_CHARS_MAX = 500

_ENSURE = """
INSERT INTO billing_stripeaccount (account, mode, halted_reason, failures, tokens)
SELECT DISTINCT stripe_account, 'live', '', 0, 0 FROM billing_pricemapping
UNION
SELECT DISTINCT shadow_stripe_account, 'test', '', 0, 0 FROM billing_pricemapping
WHERE shadow_stripe_account IS NOT NULL
ON CONFLICT (account, mode) DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What one batch of calls to an account showed."""

    #: Calls that Stripe answered in an orderly way.
    orderly: int = 0
    #: Calls without answer, or answered by an error of Stripe's own.
    failed: int = 0
    #: Seconds to wait, if a limit was hit.
    slow_down: float | None = None
    halt_reason: str = ""
    livemode_seen: bool = False


def ensure_accounts() -> None:
    """Make the rows of accounts that mappings name and nothing has registered yet."""
    with connection.cursor() as cursor:
        cursor.execute(_ENSURE)


def rate_of(account: StripeAccount) -> int:
    """Calls a second that the account may get."""
    if account.rate_per_second is not None:
        return account.rate_per_second
    if account.mode == Mode.LIVE:
        return settings.STRIPE_PUSH_RATE_LIVE
    return settings.STRIPE_PUSH_RATE_TEST


def may_send(account: StripeAccount, *, now: datetime) -> bool:
    """Whether the account is neither halted, nor behind a closed gate, nor an open breaker."""
    if account.halted_at is not None or account.gate_closed_at is not None:
        return False
    return account.open_until is None or account.open_until <= now


def take_tokens(account: StripeAccount, *, wanted: int, now: datetime) -> int:
    """How many calls may be made now, at most ``wanted``; the row must be locked.

    The bucket holds one second's worth. One call at a time until the account has proved
    its mode, and one to try again after the breaker was open.
    """
    rate = rate_of(account)
    since = (now - account.tokens_at).total_seconds() if account.tokens_at else 1.0
    tokens = min(float(rate), account.tokens + max(since, 0.0) * rate)
    careful = account.livemode_checked_at is None or account.failures >= BREAKER_FAILURES
    granted = min(wanted, floor(tokens), 1 if careful else wanted)
    # A bucket filled in advance (tokens_at ahead of now) stays empty until then.
    account.tokens = tokens - granted
    account.tokens_at = max(now, account.tokens_at) if account.tokens_at else now
    account.epoch += granted > 0
    account.save(update_fields=["tokens", "tokens_at", "epoch"])
    return granted


def apply_verdicts(*, account_id: int, verdicts: Verdicts, now: datetime) -> None:
    """Move breaker, bucket and halt by what a batch showed; inside the outcome's transaction."""
    account = StripeAccount.objects.select_for_update().get(pk=account_id)
    if verdicts.livemode_seen and account.livemode_checked_at is None:
        account.livemode_checked_at = now
    if verdicts.orderly:
        account.failures, account.open_until = 0, None
    elif verdicts.failed:
        account.failures += verdicts.failed
        if account.failures >= BREAKER_FAILURES:
            account.open_until = now + _breaker_wait(account.failures)
            log.warning(
                "breaker.opened", account=str(account), until=account.open_until.isoformat()
            )
    if verdicts.slow_down is not None:
        account.tokens, account.tokens_at = 0.0, now + timedelta(seconds=verdicts.slow_down)
    if verdicts.halt_reason and account.halted_at is None:
        account.halted_at = now
        account.halted_reason = verdicts.halt_reason[:REASON_CHARS_MAX]
        log.error("account.halted", account=str(account), reason=account.halted_reason)
        happenings.tell_halt(account, now=now)
    account.save()


def _breaker_wait(failures: int) -> timedelta:
    doublings = min((failures - BREAKER_FAILURES) // BREAKER_FAILURES, 10)
    return min(BREAKER_WAIT * (1 << doublings), BREAKER_WAIT_MAX)


@transaction.atomic
def halt_account(*, account_id: int, reason: str, now: datetime) -> None:
    """Stop sending to an account until an operator resumes it."""
    apply_verdicts(account_id=account_id, verdicts=Verdicts(halt_reason=reason), now=now)


@transaction.atomic
def resume_account(
    *, account_id: int, tenant_id: int | None, actor: str, now: datetime
) -> StripeAccount:
    """Let pushes go to a halted account again; mode and health are proved anew.

    Raises `NotFound`.
    """
    account = StripeAccount.objects.select_for_update().filter(pk=account_id).first()
    if account is None:
        raise NotFound("No such Stripe account")
    before = {"haltedAt": account.halted_at, "reason": account.halted_reason}
    account.halted_at, account.halted_reason = None, ""
    account.failures, account.open_until = 0, None
    account.livemode_checked_at = None
    account.save()
    audit.record(
        tenant_id=tenant_id,
        actor=actor,
        action="stripe_account.resumed",
        object_type="stripe_account",
        object_id=account.pk,
        now=now,
        before=before,
    )
    return account
