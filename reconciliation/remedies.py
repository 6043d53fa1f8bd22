"""Which finding is repaired by which step, and which ones no machine may touch. Pure."""

from dataclasses import dataclass

from reconciliation.facts import Cause
from reconciliation.models.repairs import RepairStep

Kind = RepairStep.Kind

_REFUSED = {
    Cause.IN_FLIGHT: "it is under way: outcomes of pushes settle it (push states, needs_review)",
    Cause.SETTLING: "it settles by itself",
    Cause.ROUNDING_CARRY: "nothing is wrong: the rest goes out with the next whole step",
    Cause.OUT_OF_WINDOW: (
        "Stripe takes no timestamp this old: carry it forward by an adjustment in the open"
        " period, or bill it by hand"
    ),
    Cause.BOUNDARY_STRADDLE: (
        "the usage is in Stripe, on the other side of a bound: moving it is billing it twice"
        " until both periods are looked at"
    ),
    Cause.PRICE_CHANGE_LOSS: (
        "the meter is right, the invoice dropped it: add an invoice item or accept the loss"
    ),
    Cause.LATE_AFTER_FREEZE: (
        "the invoice is final: carry the adjustment forward, waive it, or issue a credit note"
    ),
    Cause.INVOICE_MISMATCH: "the meter is right and the invoice differs: look at the invoice",
}
_KINDS = {
    Cause.COUNTER_MISMATCH: Kind.RECOMPUTE,
    Cause.UNPUSHED: Kind.RELEASE,
    Cause.ASYNC_REJECTED: Kind.REOPEN,
    Cause.LOST_AT_STRIPE: Kind.REOPEN,
    Cause.METER_RECREATED: Kind.REOPEN,
    Cause.DUPLICATED: Kind.ADOPT,
}
UNNAMED = (
    "Stripe is higher and no cause is known: find out who writes to the meter, then explain"
    " the finding; only an explained surplus is taken back"
)


@dataclass(frozen=True, slots=True)
class Case:
    """What decides about a finding."""

    cause: str
    units_positive: bool
    explained_by_person: bool
    has_pushes: bool
    frozen: bool
    semantics: str
    linked: bool
    #: A wrong customer that Stripe, not a changed link, is to blame for.
    paired: bool


@dataclass(frozen=True, slots=True)
class Remedy:
    """A step, or the reason why there is none."""

    kind: str = ""
    refusal: str = ""


def remedy_for(case: Case) -> Remedy:
    """What a plan does about the case."""
    cause = Cause(case.cause)
    if cause in _REFUSED:
        return Remedy(refusal=_REFUSED[cause])
    if cause is Cause.COUNTER_MISMATCH:
        if case.frozen:
            return Remedy(refusal="the period is frozen: its counter is kept as it was billed")
        return Remedy(Kind.RECOMPUTE)
    if case.frozen:
        return Remedy(refusal=_REFUSED[Cause.LATE_AFTER_FREEZE])
    if not case.linked:
        return Remedy(refusal="link the customer to Stripe first; the push follows by itself")
    if case.semantics != "increment" and cause is not Cause.UNPUSHED:
        return Remedy(refusal=f"only increments are corrected by machine, not {case.semantics}")
    if cause is Cause.WRONG_CUSTOMER:
        return _wrong_customer(case)
    if cause is Cause.FOREIGN_WRITER:
        return Remedy(Kind.ADOPT) if case.explained_by_person else Remedy(refusal=UNNAMED)
    if cause in {Cause.LOST_AT_STRIPE, Cause.METER_RECREATED} and not case.has_pushes:
        return Remedy(refusal="no push has this size: it is not known what was lost")
    return Remedy(_KINDS[cause])


def _wrong_customer(case: Case) -> Remedy:
    if not case.paired:
        return Remedy(Kind.MOVE)
    if case.units_positive and case.has_pushes:
        return Remedy(Kind.REOPEN)
    return Remedy(Kind.ADOPT)
