"""What is known about one push cursor when a run looks at it. Pure values.

Quantities called *value* are in Stripe's units, what Stripe adds up; *units* of the metric
become values by the mapping's unit factor. Drift is ours minus Stripe's: positive means
that Stripe lacks usage.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from stripemeter.lib.periods import Period


class Cause(StrEnum):
    """Why two of ledger, counter, pushes, Stripe and invoice differ."""

    IN_FLIGHT = "in_flight"
    SETTLING = "settling"
    UNPUSHED = "unpushed"
    LOST_AT_STRIPE = "lost_at_stripe"
    DUPLICATED = "duplicated"
    FOREIGN_WRITER = "foreign_writer"
    ASYNC_REJECTED = "async_rejected"
    WRONG_CUSTOMER = "wrong_customer"
    OUT_OF_WINDOW = "out_of_window"
    ROUNDING_CARRY = "rounding_carry"
    BOUNDARY_STRADDLE = "boundary_straddle"
    PRICE_CHANGE_LOSS = "price_change_loss"
    METER_RECREATED = "meter_recreated"
    LATE_AFTER_FREEZE = "late_after_freeze"
    #: The two edges of the identity that no cause above covers.
    COUNTER_MISMATCH = "counter_mismatch"
    INVOICE_MISMATCH = "invoice_mismatch"


#: Explained by the normal course of things: told, never called drift.
QUIET = frozenset({Cause.IN_FLIGHT, Cause.SETTLING, Cause.ROUNDING_CARRY})
#: States of a push whose value may or may not stand at Stripe.
OPEN_STATES = frozenset({"pending", "sending", "retry", "unknown", "needs_review"})
ACKNOWLEDGED, PARKED, REJECTED = "acknowledged", "parked", "rejected"
#: Codes with which Stripe refuses a timestamp, at once or later.
WINDOW_CODES = frozenset({"timestamp_too_far_in_past", "timestamp_in_future"})


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient a run is."""

    #: Stripe's summaries lag: acknowledged pushes younger than this may be missing.
    settling: timedelta = timedelta(minutes=15)
    #: A counter that moved within this time has not been due for a push yet.
    push_grace: timedelta = timedelta(minutes=5)
    #: An open push older than this is shown as stuck.
    stuck_after: timedelta = timedelta(hours=1)
    #: Stripe takes no timestamp older than this.
    stamp_age_max: timedelta = timedelta(days=35)


@dataclass(frozen=True, slots=True, kw_only=True)
class PushFact:
    """One push as it stands now."""

    id: UUID
    sequence: int
    identifier: str
    state: str
    slice_day: date
    stamped_at: datetime
    delta: Decimal
    value: Decimal
    customer: str
    created_at: datetime
    settled_at: datetime | None = None
    displaced: bool = False
    error_code: str = ""
    #: The webhook event that reported an asynchronous rejection, if there is one.
    rejected_by: str = ""

    @property
    def day(self) -> date:
        """The UTC day that Stripe counts it in."""
        return self.stamped_at.date()

    def as_evidence(self) -> dict[str, Any]:
        """What a finding says about the push."""
        said = {
            "identifier": self.identifier,
            "value": self.value,
            "state": self.state,
            "stampedAt": self.stamped_at,
        }
        if self.error_code:
            said["errorCode"] = self.error_code
        if self.rejected_by:
            said["webhookEvent"] = self.rejected_by
        return said


@dataclass(frozen=True, slots=True)
class Edge:
    """The stretch of time just outside a period that the same read of Stripe covers."""

    expected: Decimal = Decimal(0)
    stripe: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceFact:
    """What a finalised invoice bills of this cursor."""

    quantity: Decimal
    finalized_at: datetime
    invoice_id: str
    line_ids: tuple[str, ...] = ()
    #: The price or subscription item changed within the period.
    price_changed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that is compared for one cursor."""

    now: datetime
    period: Period
    semantics: str = "increment"
    #: Totals in units of the metric, approved adjustments included.
    ledger: Decimal
    counter: Decimal
    #: The counter in Stripe's units, whole steps; and what makes no step, in metric units.
    wanted: Decimal
    carry: Decimal = Decimal(0)
    counter_moved_at: datetime | None = None
    pushes: tuple[PushFact, ...] = ()
    #: Why nothing is planned for the cursor, if an operator or a refusal holds it.
    held_reason: str = ""
    #: The Stripe customer that is linked now; None if there is none.
    customer: str | None
    #: What Stripe has per UTC day of the period; None if it was not read.
    stripe: Mapping[date, Decimal] | None = None
    #: The same by hour, for days that differ, by the start of the hour.
    hours: Mapping[datetime, Decimal] = field(default_factory=dict)
    before: Edge = Edge()
    after: Edge = Edge()
    #: Usage of this customer and period in other meters of the same event name.
    other_meters: Mapping[str, Decimal] = field(default_factory=dict)
    frozen_at: datetime | None = None
    #: Approved later than the freeze or waiting for an operator, in Stripe's units.
    held: Decimal = Decimal(0)
    invoice: InvoiceFact | None = None
    policy: Policy = Policy()

    @property
    def acknowledged(self) -> tuple[PushFact, ...]:
        """The pushes that Stripe took."""
        return tuple(push for push in self.pushes if push.state == ACKNOWLEDGED)

    @property
    def pushed_total(self) -> Decimal:
        """The sum of acknowledged pushes."""
        return total(self.acknowledged)

    @property
    def stripe_total(self) -> Decimal | None:
        """What Stripe has of the period; None if it was not read."""
        if self.stripe is None:
            return None
        if self.semantics == "level":
            return self.stripe[max(self.stripe)] if self.stripe else Decimal(0)
        return sum(self.stripe.values(), Decimal(0))


@dataclass(frozen=True, slots=True)
class Found:
    """One named part of the difference of a cursor."""

    cause: Cause
    #: Drift in Stripe's units, signed: ours minus Stripe's.
    units: Decimal
    evidence: dict[str, Any] = field(default_factory=dict)
    days: tuple[date, ...] = ()
    pushes: tuple[PushFact, ...] = ()

    @property
    def alarms(self) -> bool:
        """Whether a person has to look."""
        return self.cause not in QUIET or bool(self.evidence.get("stuck"))


def total(pushes: tuple[PushFact, ...] | list[PushFact]) -> Decimal:
    """By how much ``pushes`` move Stripe's sum."""
    return sum((push.delta for push in pushes), Decimal(0))
