"""Which pushes add up to a difference. Pure.

A difference at Stripe is explained by naming pushes whose values make exactly that
difference. Subsets are searched with a bound on the work; above it the answer is None,
never a guess.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal

from reconciliation.facts import PushFact

#: Distinct sums held while searching: bounds time and memory to some milliseconds.
SUMS_MAX = 20_000


def subset_sums(
    candidates: Iterable[PushFact], *, sign: int = 1
) -> dict[Decimal, tuple[PushFact, ...]] | None:
    """Every sum that a subset of ``candidates`` makes, with the smallest such subset.

    The empty subset counts. None if there are too many sums to search.
    """
    found: dict[Decimal, tuple[PushFact, ...]] = {Decimal(0): ()}
    for push in candidates:
        for subtotal, members in list(found.items()):
            reached = subtotal + sign * push.delta
            known = found.get(reached)
            if known is None or len(known) > len(members) + 1:
                found[reached] = (*members, push)
        if len(found) > SUMS_MAX:
            return None
    return found


def naming(difference: Decimal, candidates: Sequence[PushFact]) -> tuple[PushFact, ...] | None:
    """The fewest pushes whose deltas make ``difference``; None if no subset does.

    Newest first: of equal candidates the latest push is the likelier one.
    """
    newest_first = sorted(candidates, key=lambda push: push.sequence, reverse=True)
    for push in newest_first:
        if push.delta == difference:
            return (push,)
    if sum((push.delta for push in candidates), Decimal(0)) == difference and candidates:
        return tuple(candidates)
    sums = subset_sums(newest_first)
    return None if sums is None else sums.get(difference)
