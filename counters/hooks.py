"""Who wants to know that something was folded: apps above register, nothing here knows them."""

from collections.abc import Callable

#: Called after a fold that found something has committed. Each must be quick and never raise.
after_fold: list[Callable[[], None]] = []


def folded() -> None:
    """Tell everybody who registered."""
    for tell in after_fold:
        tell()
