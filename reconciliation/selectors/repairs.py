"""What a plan must know of a finding's cursor now; and plans themselves."""

from dataclasses import dataclass
from uuid import UUID

from billing.models import CustomerLink, PriceMapping, StripeAccount
from counters.models import BillingPeriod, PeriodState
from reconciliation.models import Finding, RepairPlan, RepairStep

#: A finding in a plan of these states is dealt with already.
UNDER_WAY = (
    RepairPlan.State.PROPOSED,
    RepairPlan.State.APPROVED,
    RepairPlan.State.APPLYING,
    RepairPlan.State.APPLIED,
)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a cursor stands."""

    customer: str | None
    account_id: int
    target: str
    semantics: str
    frozen: bool


def standing_of(finding: Finding) -> Standing:
    """The lane of the finding's cursor, and whether its period is frozen."""
    mapping = PriceMapping.objects.select_related("metric").get(
        tenant_id=finding.tenant_id, pk=finding.mapping_id
    )
    live = finding.mode == "live"
    account = mapping.stripe_account if live else mapping.shadow_stripe_account
    link = CustomerLink.objects.filter(
        tenant_id=finding.tenant_id, customer_ref=finding.customer_ref, mode=finding.mode
    ).first()
    customer = link.stripe_customer_id if link else None
    if customer is None and finding.customer_ref.startswith("cus_"):
        customer = finding.customer_ref
    row = StripeAccount.objects.filter(account=account or "", mode=finding.mode).first()
    frozen = BillingPeriod.objects.filter(
        tenant_id=finding.tenant_id,
        customer_ref=finding.customer_ref,
        span__startswith=finding.period_start,
        state__in=[PeriodState.FROZEN, PeriodState.SEALED],
    ).exists()
    return Standing(
        customer=customer,
        account_id=row.pk if row else 0,
        target=mapping.stripe_meter_event_name or mapping.metric.name,
        semantics=mapping.push_semantics,
        frozen=frozen,
    )


def plans(
    *, tenant_id: int, limit: int, before: UUID | None = None, state: str = ""
) -> list[RepairPlan]:
    """A page of plans, newest first."""
    found = RepairPlan.objects.filter(tenant_id=tenant_id)
    if state:
        found = found.filter(state=state)
    if before is not None:
        found = found.filter(pk__lt=before)
    return list(found.prefetch_related("steps__finding").order_by("-pk")[:limit])


def plan(*, tenant_id: int, plan_id: UUID) -> RepairPlan | None:
    """One plan with its steps."""
    return (
        RepairPlan.objects.filter(tenant_id=tenant_id, pk=plan_id)
        .prefetch_related("steps__finding")
        .first()
    )


def steps_of(finding: Finding) -> list[RepairStep]:
    """The steps that dealt with a finding, newest plan first."""
    found = RepairStep.objects.filter(finding=finding).select_related("plan")
    return list(found.order_by("-plan_id"))


def open_finding_ids(*, tenant_id: int, cause: str, limit: int) -> list[UUID]:
    """Active open findings of a cause, oldest first."""
    return list(
        Finding.objects.filter(
            tenant_id=tenant_id, cause=cause, state=Finding.State.OPEN, closed_at__isnull=True
        )
        .order_by("pk")
        .values_list("pk", flat=True)[:limit]
    )
