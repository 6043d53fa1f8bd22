"""The scopes a key may hold, and which of them open what."""

AREAS = ("events", "usage", "mappings", "reconciliation", "alerts", "simulation")
ALL_SCOPES = frozenset(
    {"project:read", "project:write", "widget:mint"}
    | {f"{area}:{verb}" for area in AREAS for verb in ("read", "write")}
)
DEFAULT_SCOPES = ("project:read", "project:write")


def allowing(area: str, verb: str) -> tuple[str, ...]:
    """The scopes any one of which allows ``verb`` (read or write) in ``area``."""
    if area == "project":
        return (f"project:{verb}",)
    return (f"project:{verb}", f"{area}:{verb}")


def reach(held: frozenset[str]) -> frozenset[str]:
    """Every scope that ``held`` amounts to: a project scope stands for that of each area."""
    verbs = [verb for verb in ("read", "write") if f"project:{verb}" in held]
    return held | {f"{area}:{verb}" for area in AREAS for verb in verbs}
