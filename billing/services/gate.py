"""The push gate: shut when the database turns out to be a restored one, until Stripe is read.

A restored backup believes that less was pushed than Stripe holds; planning from it would
bill twice. Three things give it away: a mark outside the database above the account's
epoch (`anchors`), another database server, database or timeline than the row was last used
in while no mark vouches for it, and an identifier that is new here but known to Stripe.

`rederive` opens the gate again. Per cursor it reads Stripe's daily sums, books what is
there beyond the acknowledged pushes as adopted, renames what comes next, and holds the
cursors where Stripe has other usage than the ledger justifies: a person decides on those.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection, transaction
from django.db.models import Q

from billing import formulas, slicing
from billing.models import Push, PushCursor, StripeAccount
from billing.models.pushes import OPEN_STATES
from billing.services import anchors, corrections, delivery, gate_sql, planning
from billing.services.corrections import CursorKey, Lane
from billing.slicing import Step
from billing.stripe import meters
from stripemeter.lib.decimals import exact_sum, plain
from stripemeter.lib.logs import get_logger
from stripemeter.tenancy import audit

log = get_logger(__name__)

ACTOR = "push-gate"
#: Nothing is concluded from summaries before calls of the lost life must have been summed.
SETTLING = timedelta(minutes=30)
#: Cursors that one call of `rederive` reads, one read of Stripe each.
PAGE = 200
#: Sequences are moved this far, so that no identifier of the lost life is minted again.
SEQUENCE_STRIDE = 1_000_000


def check(*, now: datetime) -> list[StripeAccount]:
    """Close the gate of accounts whose rows were set back; the accounts closed now.

    Commits. Marks are read before rows: a mark never runs ahead of a committed epoch.
    """
    known = list(StripeAccount.objects.filter(gate_closed_at__isnull=True))
    marks = {each.pk: anchors.highest(each.anchor) for each in known}
    here = _identity()
    closed = []
    for account in StripeAccount.objects.filter(pk__in=marks):
        mark = marks[account.pk]
        if mark is not None and mark > account.epoch:
            reason = f"pushing had reached epoch {mark}, this database knows {account.epoch}"
        elif account.born_in == here:
            continue
        elif account.born_in == "" or account.epoch == 0 or mark == account.epoch:
            StripeAccount.objects.filter(pk=account.pk).update(born_in=here)
            continue
        else:
            reason = f"last used in database {account.born_in}, now in {here}, and no mark vouches"
        close(account_id=account.pk, reason=f"Restored backup: {reason}", now=now, mark=mark)
        closed.append(account)
    return closed


def _identity() -> str:
    """Which server, timeline and database this is; changes with restores and promotions."""
    with connection.cursor() as cursor:
        cursor.execute(gate_sql.IDENTITY)
        row = cursor.fetchone()
    return "-".join(str(part) for part in row or ())


@transaction.atomic
def close(*, account_id: int, reason: str, now: datetime, mark: int | None = None) -> None:
    """Send nothing to the account until `rederive` has read Stripe for every cursor."""
    account = StripeAccount.objects.select_for_update().get(pk=account_id)
    if account.gate_closed_at is not None:
        return
    account.gate_closed_at = account.restored_at = now
    account.gate_reason = reason[:500]
    account.generation += 1
    account.epoch = max(account.epoch, mark or 0)
    account.born_in = _identity()
    account.save()
    log.error("push.gate_closed", account=str(account), reason=reason)
    audit.record(
        tenant_id=account.owner_id,
        actor=ACTOR,
        action="stripe_account.gate_closed",
        object_type="stripe_account",
        object_id=account.pk,
        now=now,
        after={"reason": reason, "generation": account.generation},
    )


@dataclass(slots=True)
class Rederived:
    """What one call of `rederive` did."""

    read: int = 0
    adopted: int = 0
    held: int = 0
    opened: list[str] | None = None


def rederive(*, now: datetime) -> Rederived:
    """Read Stripe for a page of cursors of set-back accounts; opens gates that are through.

    Raises `StripeUnavailable`, `StripeRefused`, `KeyMissing`; what was read before stays.
    """
    done = Rederived(opened=[])
    for account in StripeAccount.objects.exclude(restored_at=None).order_by("pk"):
        if account.gate_closed_at is not None and now < account.gate_closed_at + SETTLING:
            continue
        rows = _unread(account, now)
        found_meters: dict[str, str | None] = {}
        for row in rows[:PAGE]:
            _rederive_cursor(account, row, found_meters, done, now)
        if len(rows) <= PAGE and account.gate_closed_at is not None:
            _open(account, now)
            assert done.opened is not None
            done.opened.append(str(account))
    return done


def _unread(account: StripeAccount, now: datetime) -> list[planning.Candidate]:
    with connection.cursor() as cursor:
        cursor.execute(
            gate_sql.UNREAD,
            {
                "account": account.pk,
                "generation": account.generation,
                "restored": account.restored_at,
                "horizon": now - planning.PERIOD_AGE_MAX,
                "now": now,
                "limit": PAGE + 1,
            },
        )
        return [planning.Candidate(*row) for row in cursor.fetchall()]


def _rederive_cursor(
    account: StripeAccount,
    row: planning.Candidate,
    found_meters: dict[str, str | None],
    done: Rederived,
    now: datetime,
) -> None:
    """One cursor: Stripe is read first, without a transaction; then everything is written."""
    additive = row.semantics not in formulas.ABSOLUTE
    days = _stripe_days(account, row, found_meters, now) if additive else {}
    key = CursorKey(*row.key)
    with transaction.atomic():
        planning.make_cursors([row])
        cursor = PushCursor.objects.select_for_update().get(**key.fields())
        _reject_open(key, now)
        cursor.refresh_from_db()
        PushCursor.objects.filter(**key.fields()).update(
            next_sequence=cursor.next_sequence + SEQUENCE_STRIDE,
            generation=account.generation,
            seen_revision=-1,
        )
        done.read += 1
        if not additive:
            return
        reason = _adopt(account, row, key, days, done, now) or _excess(row, key)
        if reason:
            done.held += 1
            PushCursor.objects.filter(**key.fields()).update(held_at=now, held_reason=reason[:500])


def _stripe_days(
    account: StripeAccount,
    row: planning.Candidate,
    found_meters: dict[str, str | None],
    now: datetime,
) -> dict[Any, Decimal]:
    if row.target not in found_meters:
        meter = meters.find_meter(mode=account.mode, account=account.account, event_name=row.target)
        found_meters[row.target] = None if meter is None else str(meter["id"])
    meter_id = found_meters[row.target]
    if meter_id is None:
        return {}
    bounds = row.bounds
    return meters.read_days(
        mode=account.mode,
        account=account.account,
        meter_id=meter_id,
        customer=row.stripe_customer_id,
        start=bounds.start.date(),
        end=min(bounds.end, now + timedelta(days=1)).date() + timedelta(days=1),
    )


def _reject_open(key: CursorKey, now: datetime) -> None:
    """What was open at the backup may have arrived since: the days' sums say so instead."""
    found = Push.objects.filter(**key.fields(), state__in=[*OPEN_STATES, "needs_review"])
    delivery.reject(
        pushes=list(found.values_list("tenant_id", "id")),
        code="restored",
        message="the database was restored; Stripe's sums decide",
        now=now,
    )


def _adopt(
    account: StripeAccount,
    row: planning.Candidate,
    key: CursorKey,
    days: dict[Any, Decimal],
    done: Rederived,
    now: datetime,
) -> str:
    """Book what Stripe has beyond what is acknowledged, per day; why not, or empty."""
    lane = Lane(account.pk, row.target, row.stripe_customer_id, row.semantics)
    acknowledged = _acknowledged_days(lane, row)
    differing = {
        day: days.get(day, Decimal(0)) - acknowledged.get(day, Decimal(0))
        for day in sorted({*days, *acknowledged})
        if days.get(day, Decimal(0)) != acknowledged.get(day, Decimal(0))
    }
    if not differing:
        return ""
    if _shared(lane, row):
        return "restored backup: several mappings feed this meter; reconcile, then release"
    less = {day: plain(diff) for day, diff in differing.items() if diff < 0}
    if less:
        return f"restored backup: Stripe holds less than was acknowledged: {less}"
    for day, diff in differing.items():
        stamp = max(row.bounds.start, datetime.combine(day, datetime.min.time(), now.tzinfo))
        corrections.adopt(
            key=key,
            lane=lane,
            identifier=slicing.identifier(
                mode=f"r{account.generation}{row.mode[0]}",
                mapping_id=row.mapping_id,
                customer_ref=row.customer_ref,
                period_start=row.period_start,
                day=day,
                sequence=0,
            ),
            delta=diff,
            day=day,
            stamped_at=stamp,
            evidence={"restored": True, "stripeDay": plain(days[day])},
            now=now,
        )
        done.adopted += 1
    return ""


def _acknowledged_days(lane: Lane, row: planning.Candidate) -> dict[Any, Decimal]:
    found: dict[Any, Decimal] = {}
    bounds = row.bounds
    for stamped_at, delta in Push.objects.filter(
        account_id=lane.account_id,
        target=lane.target,
        stripe_customer_id=lane.stripe_customer_id,
        state=Push.State.ACKNOWLEDGED,
        stamped_at__gte=bounds.start,
        stamped_at__lt=bounds.end,
    ).values_list("stamped_at", "delta"):
        day = stamped_at.date()
        found[day] = exact_sum([found.get(day, Decimal(0)), delta])
    return found


def _shared(lane: Lane, row: planning.Candidate) -> bool:
    """Whether another cursor speaks to the same meter and customer in this time."""
    found = Push.objects.filter(
        account_id=lane.account_id,
        target=lane.target,
        stripe_customer_id=lane.stripe_customer_id,
        stamped_at__gte=row.bounds.start,
        stamped_at__lt=row.bounds.end,
    ).exclude(Q(mapping_id=row.mapping_id) & Q(customer_ref=row.customer_ref))
    # Apart, because each has an index of its own.
    acknowledged = Q(state=Push.State.ACKNOWLEDGED)
    return found.filter(acknowledged).exists() or found.exclude(acknowledged).exists()


def _excess(row: planning.Candidate, key: CursorKey) -> str:
    """Why the cursor must not be planned: Stripe has more than the restored ledger says."""
    known = planning.known_of(row)
    intended = exact_sum(list(known.intended.values()))
    step = Step(row.unit_factor, row.value_decimals)
    total = planning.total_of(row, known)
    if intended <= step.floor(total):
        return ""
    return (
        f"restored backup: Stripe holds {plain(intended)}, the ledger justifies"
        f" {plain(step.floor(total))}. Have the lost events sent again (same keys), then release."
    )


def _open(account: StripeAccount, now: datetime) -> None:
    with transaction.atomic():
        locked = StripeAccount.objects.select_for_update().get(pk=account.pk)
        locked.gate_closed_at, locked.gate_reason = None, ""
        locked.save(update_fields=["gate_closed_at", "gate_reason"])
        audit.record(
            tenant_id=account.owner_id,
            actor=ACTOR,
            action="stripe_account.gate_opened",
            object_type="stripe_account",
            object_id=account.pk,
            now=now,
            after={"generation": account.generation},
        )
    anchors.raise_to(account.anchor, account.epoch)
    log.warning("push.gate_opened", account=str(account))
