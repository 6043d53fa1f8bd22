"""Scripted faults: what goes wrong, for which calls, how often.

A fault is matched in one of four phases of a call:

- gate: before anything is read or remembered (429, 409, 401, refused connection);
- effect: while the call is applied (500 before or after, silent loss, duplicates);
- answer: after it was applied and remembered (dropped, hanging or mangled answers);
- webhook: when an event is delivered.
"""

from __future__ import annotations

import fnmatch
import itertools
import random
from dataclasses import asdict, dataclass, field
from typing import Any

GATE_KINDS = frozenset(
    {
        "rate_limit",
        "lock_timeout",
        "conflict",
        "unauthorized",
        "forbidden",
        "drop_before",
        "hang_before",
        "slow",
        "bad_request",
        "error_503",
    }
)
EFFECT_KINDS = frozenset(
    {
        "error_500_before",
        "error_500_after",
        "async_reject",
        "lose",
        "duplicate",
        "foreign_write",
        "summary_lag",
    }
)
ANSWER_KINDS = frozenset(
    {"drop_after", "hang_after", "truncated", "html", "empty", "wrong_id", "slow_answer"}
)
WEBHOOK_KINDS = frozenset(
    {"webhook_drop", "webhook_duplicate", "webhook_hold", "webhook_delay", "webhook_forge"}
)

KINDS = GATE_KINDS | EFFECT_KINDS | ANSWER_KINDS | WEBHOOK_KINDS


@dataclass(slots=True)
class Fault:
    """One line of the script. Empty match fields match everything."""

    kind: str
    id: str = ""
    method: str = ""
    path: str = ""
    """Shell pattern over the path, for example "/v1/billing/*"."""
    customer: str = ""
    event_name: str = ""
    identifier: str = ""
    """Shell pattern over the identifier of a meter event."""
    world: str = ""
    """Shell pattern over "test:acct_…" or "live:acct_…"."""
    event_type: str = ""
    """Shell pattern over the type of a webhook event."""
    skip: int = 0
    """Matching calls that pass unharmed first."""
    count: int | None = 1
    """How often it strikes; None is for ever."""
    probability: float = 1.0
    seed: int = 0
    """Makes `probability` repeatable."""
    seconds: float = 30.0
    """Length of a delay, hang or lag."""
    options: dict[str, Any] = field(default_factory=dict)
    """Kind-specific: reason, code, retry_after, should_retry, value, times, message."""
    seen: int = 0
    struck: int = 0
    _random: random.Random | None = None

    def strikes(self) -> bool:
        """Counts one matching call and tells whether the fault hits it."""
        self.seen += 1
        if self.seen <= self.skip or (self.count is not None and self.struck >= self.count):
            return False
        if self.probability < 1.0:
            self._random = self._random or random.Random(self.seed)  # noqa: S311
            if self._random.random() >= self.probability:
                return False
        self.struck += 1
        return True

    def as_json(self) -> dict[str, Any]:
        """Returns the fields that the control API shows."""
        shown = asdict(self)
        del shown["_random"]
        return shown


def _fits(pattern: str, text: str) -> bool:
    return not pattern or fnmatch.fnmatchcase(text, pattern)


class FaultScript:
    """The faults in force, in the order they were added."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}
        self._numbers = itertools.count(1)

    def add(self, fields: dict[str, Any]) -> Fault:
        """Adds a fault; raises ValueError for an unknown kind or field."""
        if fields.get("kind") not in KINDS:
            raise ValueError(f"unknown kind {fields.get('kind')!r}; known: {sorted(KINDS)}")
        allowed = set(Fault.__slots__) - {"id", "seen", "struck", "_random"}
        unknown = set(fields) - allowed
        if unknown:
            raise ValueError(f"unknown fields {sorted(unknown)}; known: {sorted(allowed)}")
        fault = Fault(**fields)
        fault.id = f"fault_{next(self._numbers)}"
        self._faults[fault.id] = fault
        return fault

    def remove(self, identifier: str) -> bool:
        """Takes one fault out; returns whether it was there."""
        return self._faults.pop(identifier, None) is not None

    def clear(self) -> None:
        """Takes all faults out."""
        self._faults.clear()

    def all(self) -> list[Fault]:
        """Returns the script with its counts."""
        return list(self._faults.values())

    def pick(
        self,
        kinds: frozenset[str],
        *,
        world: str,
        method: str = "",
        path: str = "",
        customer: str = "",
        event_name: str = "",
        identifier: str = "",
        event_type: str = "",
    ) -> list[Fault]:
        """Returns the faults of these kinds that hit this call, and counts them."""
        if not self._faults:
            return []
        return [
            fault
            for fault in self._faults.values()
            if fault.kind in kinds
            and (not fault.method or fault.method.upper() == method)
            and _fits(fault.path, path)
            and _fits(fault.customer, customer)
            and _fits(fault.event_name, event_name)
            and _fits(fault.identifier, identifier)
            and _fits(fault.world, world)
            and _fits(fault.event_type, event_type)
            and fault.strikes()
        ]
