"""A small world to push from: usage of two tenants, mappings, and their meters at Stripe."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID

from billing.models import CustomerLink, PriceMapping, Push, StripeAccount
from billing.services.running import Report, run_pushes
from billing.stripe.client import client_for
from billing.stripe_sandbox.process import SandboxProcess
from counters.services.fold import fold_everything
from ledger.models import Metric
from ledger.services.ingest import ingest
from ledger.services.registry import metric_ids
from ledger.wire import Columns, StrictEvent, microseconds
from stripemeter.lib.decimals import plain
from stripemeter.tenancy.models import Tenant
from tests.builders.tenancy import make_tenant

#: Noon of a Friday, well inside its month.
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
_numbers = count(1)


def at(day: int, hour: int = 10, *, month: int = 11) -> datetime:
    """An instant of 2026."""
    return datetime(2026, month, day, hour, tzinfo=UTC)


def use(
    tenant: Tenant,
    quantity: str | int,
    *,
    metric: str = "requests",
    customer: str = "c1",
    ts: datetime = NOW - timedelta(hours=1),
    now: datetime = NOW,
) -> None:
    """One event, stored and folded."""
    columns = Columns()
    columns.add(
        StrictEvent(
            metric=metric,
            customer_ref=customer,
            resource_id=None,
            quantity=plain(Decimal(quantity)),
            ts_us=microseconds(ts),
            meta=None,
            source="http",
            key=f"event-{next(_numbers)}",
        )
    )
    outcome = ingest(
        tenant_id=tenant.pk,
        columns=columns,
        now=now,
        future_tolerance=timedelta(hours=1),
        meta_bytes_max=4096,
    )
    assert outcome.accepted == 1
    fold_everything(now=now)


@dataclass
class World:
    """Two tenants, their Stripe, and a clock that stands still until moved."""

    sandbox: SandboxProcess
    acme: Tenant
    globex: Tenant
    now: datetime = NOW
    customers: dict[tuple[int, str, str], str] = field(default_factory=dict)

    def move(self, **by: float) -> None:
        """Let time pass for us and for Stripe."""
        self.now += timedelta(**by)
        self.sandbox.set_clock(self.now.timestamp(), freeze=True)

    def clock(self) -> datetime:
        """The world's time."""
        return self.now

    def meter(self, event_name: str = "requests", *, mode: str = "live", **fields: Any) -> str:
        """A sum meter at Stripe."""
        params: Any = {
            "display_name": event_name,
            "event_name": event_name,
            "default_aggregation": {"formula": fields.pop("formula", "sum")},
            **fields,
        }
        return str(client_for(mode).v1.billing.meters.create(params).id)

    def customer(self, ref: str = "c1", *, tenant: Tenant | None = None, mode: str = "live") -> str:
        """A customer at Stripe, linked to ``ref``."""
        tenant = tenant or self.acme
        found = str(client_for(mode).v1.customers.create({"name": ref}).id)
        CustomerLink.objects.create(
            tenant=tenant,
            customer_ref=ref,
            mode=mode,
            stripe_customer_id=found,
            created_at=self.now,
            created_by="test",
        )
        self.customers[tenant.pk, ref, mode] = found
        return found

    def mapping(self, *, tenant: Tenant | None = None, metric: str = "requests", **fields: Any):
        """A price mapping written straight to its table."""
        tenant = tenant or self.acme
        metric_id = metric_ids(tenant.pk, {metric})[metric]
        values: dict[str, Any] = {
            "id": UUID(int=next(_numbers)),
            "tenant": tenant,
            "metric_id": metric_id,
            "aggregation": "sum",
            "stripe_account": "default",
            "price_id": "price_1",
            "created_at": self.now,
            "updated_at": self.now,
        }
        found = PriceMapping.objects.create(**{**values, **fields})
        Metric.objects.filter(pk=metric_id).update(aggregation=found.aggregation)
        return found

    def use(self, quantity: str | int, **fields: Any) -> None:
        """Usage of acme's customer c1, an hour ago, unless said otherwise."""
        tenant = fields.pop("tenant", self.acme)
        fields.setdefault("ts", self.now - timedelta(hours=1))
        use(tenant, quantity, now=self.now, **fields)

    def push(self, *, seconds: float = 20.0) -> Report:
        """One run of pushing."""
        return run_pushes(clock=self.clock, seconds=seconds)

    def settle(self, *, rounds: int = 12) -> None:
        """Push until quiet, letting time pass for retries."""
        for _ in range(rounds):
            self.push()
            if not Push.objects.filter(state__in=("pending", "sending", "retry")).exists():
                return
            self.move(minutes=11)

    def at_stripe(
        self, ref: str = "c1", *, tenant: Tenant | None = None, mode: str = "live", **filters: Any
    ) -> Decimal:
        """Stripe's exact sum for a customer."""
        customer = self.customers[(tenant or self.acme).pk, ref, mode]
        rows = self.sandbox.totals(customer=customer, **filters)
        return sum((Decimal(str(row["sum"])) for row in rows), Decimal(0))

    def calls(self, **filters: Any) -> list[dict[str, Any]]:
        """Meter events that reached Stripe, in order."""
        return self.sandbox.journal(**filters)

    def account(self, mode: str = "live") -> StripeAccount:
        """The default account."""
        return StripeAccount.objects.get(account="default", mode=mode)


def make_world(sandbox: SandboxProcess) -> World:
    """Acme and Globex, each with customer c1 at Stripe and a meter for ``requests``."""
    world = World(sandbox, make_tenant("acme"), make_tenant("globex"))
    world.move()
    world.meter()
    for tenant in (world.acme, world.globex):
        world.customer(tenant=tenant)
    return world


Clock = Callable[[], datetime]
