"""Names the cause of every difference of one cursor. Pure.

The identity is ledger = counter = pushes = Stripe = invoice. Each edge is compared
exactly; what does not agree is split into parts with one cause each. Nothing that is
under way or that Stripe has not had time to show is called drift.
"""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal

from reconciliation.facts import (
    ACKNOWLEDGED,
    OPEN_STATES,
    PARKED,
    REJECTED,
    WINDOW_CODES,
    Cause,
    Facts,
    Found,
    InvoiceFact,
    PushFact,
    total,
)
from reconciliation.matching import naming, subset_sums

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
ZERO = Decimal(0)
#: Stripe adds up in doubles: 15 digits are exact, what comes after is noise.
_DOUBLE = Context(prec=15, rounding=ROUND_HALF_EVEN)
PUSHES_SHOWN_MAX = 20


def exact(value: Decimal) -> Decimal:
    """Stripe's float, rounded once to the 15 digits that a double keeps."""
    return _DOUBLE.plus(value)


def agree(ours: Decimal, stripe: Decimal) -> bool:
    """Whether both are the same number to the 15 digits that Stripe can say."""
    return ours == stripe or _DOUBLE.plus(ours) == _DOUBLE.plus(stripe)


def classify(facts: Facts) -> list[Found]:
    """Every difference of the cursor, named; empty if all five agree."""
    found = [*_counter(facts), *_pushes(facts), *_misplaced(facts)]
    if facts.stripe is not None:
        found += _level(facts) if facts.semantics == "level" else _slices(facts)
    if facts.invoice is not None:
        found += _invoice(facts, facts.invoice)
    return found


# --- ledger, counter, pushes ------------------------------------------------------------


def _counter(facts: Facts) -> list[Found]:
    if facts.ledger == facts.counter:
        return []
    evidence = {"ledger": facts.ledger, "counter": facts.counter}
    return [Found(Cause.COUNTER_MISMATCH, facts.ledger - facts.counter, evidence)]


def _pushes(facts: Facts) -> list[Found]:
    found: list[Found] = []
    if facts.carry:
        evidence = {"carry": facts.carry, "unit": "units of the metric"}
        found.append(Found(Cause.ROUNDING_CARRY, ZERO, evidence))
    waiting = [push for push in facts.pushes if push.state in OPEN_STATES]
    if waiting:
        found.append(_in_flight(facts, waiting))
    found += [_parked(push) for push in facts.pushes if push.state == PARKED]
    intended = total([push for push in facts.pushes if push.state != REJECTED])
    missing = facts.wanted - intended
    if missing:
        found += _missing(facts, missing)
    if facts.frozen_at is not None and facts.held:
        evidence = {"held": facts.held, "why": "an operator decides on held adjustments"}
        found.append(Found(Cause.LATE_AFTER_FREEZE, facts.held, evidence))
    return found


def _in_flight(facts: Facts, waiting: list[PushFact]) -> Found:
    oldest = min(push.created_at for push in waiting)
    review = any(push.state == "needs_review" for push in waiting)
    evidence: dict[str, object] = {"pushes": _shown(waiting), "oldest": oldest}
    if review or facts.now - oldest > facts.policy.stuck_after:
        evidence["stuck"] = True
    return Found(Cause.IN_FLIGHT, total(waiting), evidence, _days(waiting), pushes=tuple(waiting))


def _parked(push: PushFact) -> Found:
    cause = Cause.OUT_OF_WINDOW if push.error_code in WINDOW_CODES else Cause.UNPUSHED
    evidence = {"pushes": _shown([push]), "why": "Stripe refused it"}
    return Found(cause, push.delta, evidence, (push.slice_day,), (push,))


def _missing(facts: Facts, missing: Decimal) -> list[Found]:
    """What the counter has and no push says yet."""
    if facts.frozen_at is not None:
        late = {"frozenAt": facts.frozen_at, "why": "usage came after the invoice was final"}
        return [Found(Cause.LATE_AFTER_FREEZE, missing, late)]
    refused = [push for push in facts.pushes if push.state == REJECTED and _by_stripe(push)]
    if refused:
        return _refused(facts, missing, refused)
    if facts.period.end <= facts.now - facts.policy.stamp_age_max:
        old = {"periodEnd": facts.period.end, "why": "Stripe takes no timestamp this old"}
        return [Found(Cause.OUT_OF_WINDOW, missing, old)]
    moved = facts.counter_moved_at
    due = facts.customer is not None and not facts.held_reason
    if due and moved is not None and facts.now - moved <= facts.policy.push_grace:
        return [Found(Cause.IN_FLIGHT, missing, {"why": "the next push says it", "movedAt": moved})]
    why = facts.held_reason or (
        "no Stripe customer is linked" if facts.customer is None else "no push has said it"
    )
    return [Found(Cause.UNPUSHED, missing, {"why": why, "counterMovedAt": moved})]


def _by_stripe(push: PushFact) -> bool:
    return bool(push.rejected_by or push.error_code)


def _refused(facts: Facts, missing: Decimal, refused: list[PushFact]) -> list[Found]:
    """Splits what is missing into what Stripe rejected after taking it and the rest."""
    named = naming(missing, refused)
    part = list(named) if named else refused
    window = all(push.error_code in WINDOW_CODES for push in part)
    cause = Cause.OUT_OF_WINDOW if window else Cause.ASYNC_REJECTED
    size = missing if named else min(missing, total(refused), key=abs)
    found = [Found(cause, size, {"pushes": _shown(part)}, _days(part), tuple(part))]
    if size != missing:
        rest = replace(facts, pushes=tuple(p for p in facts.pushes if p.state != REJECTED))
        found += _missing(rest, missing - size)
    return found


def _misplaced(facts: Facts) -> list[Found]:
    """Usage that stands with a customer who is not the linked one any more."""
    if facts.customer is None:
        return []
    elsewhere = [push for push in facts.acknowledged if push.customer != facts.customer]
    size = total(elsewhere)
    if not size:
        return []
    evidence = {
        "pushes": _shown(elsewhere),
        "standsWith": sorted({push.customer for push in elsewhere}),
        "belongsTo": facts.customer,
    }
    return [Found(Cause.WRONG_CUSTOMER, size, evidence, _days(elsewhere), tuple(elsewhere))]


# --- pushes and Stripe ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Bucket:
    """A day, or an hour of a day that differs: what we told Stripe and what it has."""

    start: datetime
    drift: Decimal
    pushes: tuple[PushFact, ...]
    by_hour: bool

    @property
    def day(self) -> date:
        return self.start.date()


def differing_days(facts: Facts) -> list[date]:
    """Days on which Stripe's sum is not the sum of what we told it."""
    told: dict[date, Decimal] = {}
    for push in _here(facts):
        if push.state == ACKNOWLEDGED:
            told[push.day] = told.get(push.day, ZERO) + push.delta
    stripe = facts.stripe or {}
    return [
        day
        for day in sorted({*told, *stripe})
        if not agree(told.get(day, ZERO), stripe.get(day, ZERO))
    ]


def _here(facts: Facts) -> list[PushFact]:
    return [p for p in facts.pushes if facts.customer is None or p.customer == facts.customer]


def _slices(facts: Facts) -> list[Found]:
    differing = differing_days(facts)
    straddled, rest = _straddles(facts, differing)
    found = straddled
    for day in rest:
        for bucket in _buckets(facts, day):
            found += _bucket(facts, bucket)
    return _recreated(facts, _merged(found))


def _buckets(facts: Facts, day: date) -> list[_Bucket]:
    stripe = facts.stripe or {}
    here = [push for push in _here(facts) if push.day == day]
    acked = [push for push in here if push.state == ACKNOWLEDGED]
    midnight = datetime.combine(day, time(), tzinfo=UTC)
    whole = exact(total(acked) - stripe.get(day, ZERO))
    hours = {at: value for at, value in facts.hours.items() if at.date() == day}
    if not agree(sum(hours.values(), ZERO), stripe.get(day, ZERO)):
        # Read at another moment, or not read: then only the day's sum is sure.
        return [_Bucket(midnight, whole, tuple(here), by_hour=False)]
    buckets = []
    for number in range(24):
        start = midnight + number * HOUR
        inside = tuple(p for p in here if start <= p.stamped_at < start + HOUR)
        told = total([push for push in inside if push.state == ACKNOWLEDGED])
        if not agree(told, hours.get(start, ZERO)):
            drift = exact(told - hours.get(start, ZERO))
            buckets.append(_Bucket(start, drift, inside, by_hour=True))
    return buckets


def _bucket(facts: Facts, bucket: _Bucket) -> list[Found]:
    """The causes of one bucket's drift; first what explains itself with time."""
    recent, settled, open_ = _sorted_pushes(facts, bucket)
    early = subset_sums(recent)
    arrived = subset_sums(open_, sign=-1)
    if early is None or arrived is None:
        return [_settling(bucket, bucket.drift, recent)]
    for waiting, members in early.items():
        for present in arrived:
            rest = bucket.drift - waiting - present
            if not rest:
                return [_settling(bucket, waiting, list(members))] if members else []
    for waiting, members in sorted(early.items(), key=lambda item: len(item[1])):
        named = _named(bucket, bucket.drift - waiting, settled)
        if named is not None:
            return [named, _settling(bucket, waiting, list(members))] if members else [named]
    return [_unnamed(bucket)]


def _sorted_pushes(
    facts: Facts, bucket: _Bucket
) -> tuple[list[PushFact], list[PushFact], list[PushFact]]:
    """Pushes of the bucket: acknowledged lately, acknowledged long ago, maybe arrived."""
    recent: list[PushFact] = []
    settled: list[PushFact] = []
    open_: list[PushFact] = []
    for push in bucket.pushes:
        if push.state == ACKNOWLEDGED and not push.rejected_by:
            age = facts.now - (push.settled_at or push.created_at)
            (recent if age < facts.policy.settling else settled).append(push)
        elif push.state == ACKNOWLEDGED:
            settled.append(push)
        elif push.state in OPEN_STATES:
            open_.append(push)
    return recent, settled, open_


def _settling(bucket: _Bucket, size: Decimal, pushes: list[PushFact]) -> Found:
    return Found(Cause.SETTLING, size, {"pushes": _shown(pushes)}, (bucket.day,), tuple(pushes))


def _named(bucket: _Bucket, drift: Decimal, settled: list[PushFact]) -> Found | None:
    """A cause that names pushes; ``settled`` are those Stripe had time to show."""
    if not drift:
        return None
    reported = [push for push in settled if push.rejected_by]
    named = naming(drift, reported) if reported else None
    if named:
        window = all(push.error_code in WINDOW_CODES for push in named)
        return _told(Cause.OUT_OF_WINDOW if window else Cause.ASYNC_REJECTED, drift, bucket, named)
    undone = [push for push in bucket.pushes if push.state == REJECTED]
    for cause, size, candidates in (
        (Cause.LOST_AT_STRIPE, drift, settled),
        (Cause.DUPLICATED, -drift, [*settled, *undone]),
    ):
        named = naming(size, candidates)
        if named:
            return _told(cause, drift, bucket, named)
    return _repeated(bucket, drift, settled)


def _repeated(bucket: _Bucket, drift: Decimal, settled: list[PushFact]) -> Found | None:
    """One push that Stripe has more than twice."""
    for push in settled:
        times, rest = divmod(-drift, push.delta)
        if not rest and 2 <= times <= 100 and bucket.by_hour:
            found = _told(Cause.DUPLICATED, drift, bucket, (push,))
            found.evidence["times"] = int(times)
            return found
    return None


def _told(cause: Cause, drift: Decimal, bucket: _Bucket, named: tuple[PushFact, ...]) -> Found:
    evidence = {"pushes": _shown(named), **_where(bucket)}
    return Found(cause, drift, evidence, (bucket.day,), named)


def _unnamed(bucket: _Bucket) -> Found:
    """No set of our pushes makes the difference."""
    lacking = bucket.drift > 0
    evidence = {
        **_where(bucket),
        "why": "no set of our pushes has this size",
        "ours": _shown(bucket.pushes),
    }
    cause = Cause.LOST_AT_STRIPE if lacking else Cause.FOREIGN_WRITER
    return Found(cause, bucket.drift, evidence, (bucket.day,))


def _where(bucket: _Bucket) -> dict[str, object]:
    key = "hour" if bucket.by_hour else "day"
    return {key: bucket.start, "drift": bucket.drift}


def _straddles(facts: Facts, days: list[date]) -> tuple[list[Found], list[date]]:
    """Takes out pairs where usage stands on the wrong side of a bound."""
    stripe = facts.stripe or {}
    drift = {
        day: exact(
            total([p for p in _here(facts) if p.state == ACKNOWLEDGED and p.day == day])
            - stripe.get(day, ZERO)
        )
        for day in days
    }
    recent = {push.day for push in facts.acknowledged if _is_recent(facts, push)}
    found: list[Found] = []
    first, last = facts.period.start.date(), (facts.period.end - timedelta(microseconds=1)).date()
    for edge, day, name in ((facts.before, first, "start"), (facts.after, last, "end")):
        outside = exact(edge.expected - edge.stripe)
        if day in drift and day not in recent and outside and outside == -drift[day]:
            evidence = {"bound": name, "inside": drift[day], "outside": outside}
            found.append(Found(Cause.BOUNDARY_STRADDLE, drift.pop(day), evidence, (day,)))
    for day in sorted(drift):
        following = day + DAY
        if day in recent or following in recent or drift.get(day, ZERO) == ZERO:
            continue
        if following in drift and drift[following] == -drift[day]:
            evidence = {"from": day, "to": following, "moved": drift[day]}
            found.append(Found(Cause.BOUNDARY_STRADDLE, ZERO, evidence, (day, following)))
            del drift[day], drift[following]
    return found, sorted(drift)


def _is_recent(facts: Facts, push: PushFact) -> bool:
    return facts.now - (push.settled_at or push.created_at) < facts.policy.settling


def _merged(found: list[Found]) -> list[Found]:
    """One finding per cause; its evidence lists the parts."""
    by_cause: dict[Cause, list[Found]] = {}
    for each in found:
        by_cause.setdefault(each.cause, []).append(each)
    merged = []
    for cause, parts in by_cause.items():
        if len(parts) == 1:
            merged.append(parts[0])
            continue
        merged.append(
            Found(
                cause,
                sum((part.units for part in parts), ZERO),
                {"parts": [part.evidence for part in parts[:PUSHES_SHOWN_MAX]]},
                tuple(sorted({day for part in parts for day in part.days})),
                tuple(push for part in parts for push in part.pushes),
            )
        )
    return merged


def _recreated(facts: Facts, found: list[Found]) -> list[Found]:
    """Usage that stands in a former meter of the same name is not lost."""
    elsewhere = sum(facts.other_meters.values(), ZERO)
    lost = [each for each in found if each.cause is Cause.LOST_AT_STRIPE]
    if not elsewhere or not lost or not agree(sum((e.units for e in lost), ZERO), elsewhere):
        return found
    rest = [each for each in found if each.cause is not Cause.LOST_AT_STRIPE]
    evidence = {"meters": dict(facts.other_meters), "why": "the event name has a new meter"}
    pushes = tuple(push for each in lost for push in each.pushes)
    days = tuple(sorted({day for each in lost for day in each.days}))
    return [*rest, Found(Cause.METER_RECREATED, elsewhere, evidence, days, pushes)]


def _level(facts: Facts) -> list[Found]:
    """A last meter: per day the newest level that we told must be what Stripe shows."""
    found = []
    stripe = facts.stripe or {}
    here = sorted(_here(facts), key=lambda push: (push.stamped_at, push.sequence))
    acked = [push for push in here if push.state == ACKNOWLEDGED]
    for day in sorted({*stripe, *(push.day for push in acked)}):
        levels = [push for push in acked if push.day == day]
        ours = levels[-1].value if levels else None
        shown = stripe.get(day)
        if ours == shown or (ours is not None and shown is not None and agree(ours, shown)):
            continue
        drift = (ours or ZERO) - (shown or ZERO)
        missing: list[PushFact] = []
        for push in reversed(levels):
            if shown is not None and agree(push.value, shown):
                break
            missing.append(push)
        known = shown is None or len(missing) < len(levels)
        if known and missing and all(_is_recent(facts, push) for push in missing):
            cause = Cause.SETTLING
        elif any(p.day == day and p.value == shown and p.state in OPEN_STATES for p in here):
            continue
        else:
            cause = Cause.LOST_AT_STRIPE if known else Cause.FOREIGN_WRITER
        evidence = {"day": day, "ours": ours, "stripe": shown, "pushes": _shown(missing)}
        named = tuple(missing) if known else ()
        found.append(Found(cause, drift, evidence, (day,), named))
    return _merged(found)


# --- Stripe and the invoice -------------------------------------------------------------


def _invoice(facts: Facts, invoice: InvoiceFact) -> list[Found]:
    """A final invoice bills what Stripe had; a negative total is billed as zero (DOC)."""
    stripe = facts.stripe_total
    if stripe is None:
        return []
    missing = max(stripe, ZERO) - invoice.quantity
    if agree(max(stripe, ZERO), invoice.quantity):
        return []
    evidence: dict[str, object] = {
        "invoice": invoice.invoice_id,
        "lines": list(invoice.line_ids),
        "invoiced": invoice.quantity,
        "stripe": stripe,
        "finalizedAt": invoice.finalized_at,
    }
    late = [
        push
        for push in facts.acknowledged
        if (push.settled_at or push.created_at) >= invoice.finalized_at
    ]
    named = naming(missing, late) if late else None
    if named:
        evidence["pushes"] = _shown(named)
        return [Found(Cause.LATE_AFTER_FREEZE, missing, evidence, _days(named), named)]
    cause = Cause.PRICE_CHANGE_LOSS if invoice.price_changed else Cause.INVOICE_MISMATCH
    return [Found(cause, missing, evidence)]


def _days(pushes: tuple[PushFact, ...] | list[PushFact]) -> tuple[date, ...]:
    return tuple(sorted({push.slice_day for push in pushes}))


def _shown(pushes: tuple[PushFact, ...] | list[PushFact]) -> list[dict[str, object]]:
    return [push.as_evidence() for push in pushes[:PUSHES_SHOWN_MAX]]


def severity(units: Decimal, *, larger: Decimal, epsilon: Decimal) -> str:
    """``critical`` above the tenant's share of the larger total, else ``warning``.

    It orders the work; it never hides a difference.
    """
    if larger and abs(units) > epsilon * abs(larger):
        return "critical"
    return "warning" if larger else "critical"
