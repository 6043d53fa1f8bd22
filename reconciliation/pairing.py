"""Usage that one customer lacks and another has too much of. Pure."""

from collections import defaultdict
from dataclasses import replace
from decimal import Decimal
from uuid import UUID

from reconciliation.facts import Cause, Found
from reconciliation.gathering import Assessment

#: Cursors with a loss or a surplus that are held back for pairing.
HELD_MAX = 10_000
_PAIRED = frozenset({Cause.LOST_AT_STRIPE, Cause.FOREIGN_WRITER, Cause.DUPLICATED})


def can_pair(assessment: Assessment) -> bool:
    """Whether another cursor may hold the other half of a difference."""
    return any(found.cause in _PAIRED for found in assessment.found)


def pair(assessments: list[Assessment]) -> None:
    """Rename losses whose exact size stands, on the same days, with another customer."""
    surplus: dict[tuple[UUID, str, Decimal, object], list[tuple[Assessment, int]]] = defaultdict(
        list
    )
    for each in assessments:
        for index, found in enumerate(each.found):
            if found.units < 0 and found.cause in _PAIRED:
                surplus[_place(each, found, -found.units)].append((each, index))
    for each in assessments:
        for index, found in enumerate(each.found):
            if found.cause is not Cause.LOST_AT_STRIPE:
                continue
            others = surplus.get(_place(each, found, found.units), [])
            if not others:
                continue
            other, at = others.pop(0)
            each.found[index] = _with_partner(found, other, "standsWith")
            other.found[at] = _with_partner(other.found[at], each, "belongsTo")


def _place(
    assessment: Assessment, found: Found, size: Decimal
) -> tuple[UUID, str, Decimal, object]:
    target = assessment.target
    return target.mapping_id, target.mode, size, found.days


def _with_partner(found: Found, other: Assessment, role: str) -> Found:
    evidence = {
        **found.evidence,
        role: other.target.customer_ref,
        f"{role}Customer": other.target.stripe_customer,
        "seenAs": str(found.cause),
    }
    return replace(found, cause=Cause.WRONG_CUSTOMER, evidence=evidence)
