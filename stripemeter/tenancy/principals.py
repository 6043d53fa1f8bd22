"""The authenticated caller, as services and views see it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """A key (or operator) acting for one tenant."""

    tenant_id: int
    tenant_key: str
    actor: str
    scopes: frozenset[str]
    api_key_id: int | None = None
    api_key_lookup: str = ""
    is_live: bool = True

    @property
    def is_authenticated(self) -> bool:
        """Always true: anonymous callers have no principal."""
        return True

    def holds_any(self, scopes: tuple[str, ...]) -> bool:
        """Whether any one of ``scopes`` is held."""
        return not self.scopes.isdisjoint(scopes)
