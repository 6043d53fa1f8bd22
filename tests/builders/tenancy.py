"""Two tenants that always exist, and keys of theirs. Values are fixed, except secrets."""

from dataclasses import dataclass
from datetime import datetime

from stripemeter.lib import clock
from stripemeter.tenancy import services
from stripemeter.tenancy.models import ApiKey, Tenant
from stripemeter.tenancy.scopes import ALL_SCOPES


@dataclass(frozen=True, slots=True)
class Caller:
    """A tenant and one of its keys, ready to call the API."""

    tenant: Tenant
    key: ApiKey
    plaintext: str

    @property
    def headers(self) -> dict[str, str]:
        """Headers for Django's test client."""
        return {"Authorization": f"Bearer {self.plaintext}"}


def make_tenant(key: str = "acme") -> Tenant:
    """A tenant; its name is its id in capitals."""
    return services.create_tenant(key=key, name=key.upper(), actor="test", now=clock.now())


def make_caller(
    tenant: Tenant | str = "acme",
    *,
    scopes: list[str] | None = None,
    expires_at: datetime | None = None,
) -> Caller:
    """A key of ``tenant`` (made if given by id) with every scope unless ``scopes`` says less."""
    if isinstance(tenant, str):
        tenant = Tenant.objects.filter(key=tenant).first() or make_tenant(tenant)
    key, plaintext = services.create_api_key(
        tenant_id=tenant.pk,
        name=f"key of {tenant.key}",
        actor="test",
        now=clock.now(),
        scopes=sorted(ALL_SCOPES) if scopes is None else scopes,
        expires_at=expires_at,
    )
    return Caller(tenant, key, plaintext)
