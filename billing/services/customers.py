"""Writes of customer links: which Stripe customer a reference is."""

from datetime import datetime

from django.db import IntegrityError, transaction

from billing.models import CustomerLink, Push
from stripemeter.lib.errors import Conflict, NotFound
from stripemeter.tenancy import audit


@transaction.atomic
def link_customer(
    *,
    tenant_id: int,
    customer_ref: str,
    stripe_customer_id: str,
    mode: str,
    actor: str,
    now: datetime,
) -> tuple[CustomerLink, bool]:
    """Link a reference to a Stripe customer; the link and whether it is new.

    The same link again changes nothing. Raises `Conflict` if usage was pushed to another
    Stripe customer, or if another reference is linked to this one.
    """
    link = (
        CustomerLink.objects.select_for_update()
        .filter(tenant_id=tenant_id, customer_ref=customer_ref, mode=mode)
        .first()
    )
    if link is not None and link.stripe_customer_id == stripe_customer_id:
        return link, False
    _refuse_if_pushed_elsewhere(tenant_id, customer_ref, mode, stripe_customer_id)
    new = link is None
    before = None if link is None else {"stripeCustomerId": link.stripe_customer_id}
    link = link or CustomerLink(tenant_id=tenant_id, customer_ref=customer_ref, mode=mode)
    link.stripe_customer_id = stripe_customer_id
    link.created_at, link.created_by = now, actor
    try:
        with transaction.atomic():
            link.save()
    except IntegrityError as error:
        raise Conflict(
            f"Another customerRef is linked to {stripe_customer_id}: Stripe adds usage up per"
            " customer, so two references on one cannot be told apart.",
            code="stripe_customer_taken",
        ) from error
    audit.record(
        tenant_id=tenant_id,
        actor=actor,
        action="customer.linked",
        object_type="customer_link",
        object_id=link.pk,
        now=now,
        before=before,
        after={
            "customerRef": customer_ref,
            "stripeCustomerId": stripe_customer_id,
            "mode": mode,
        },
    )
    return link, new


def _refuse_if_pushed_elsewhere(
    tenant_id: int, customer_ref: str, mode: str, stripe_customer_id: str
) -> None:
    other = (
        Push.objects.filter(tenant_id=tenant_id, customer_ref=customer_ref, mode=mode)
        .exclude(state="rejected")
        .exclude(stripe_customer_id=stripe_customer_id)
        .values_list("stripe_customer_id", flat=True)
        .first()
    )
    if other is not None:
        raise Conflict(
            f"Usage of this customer was pushed to {other}; pointing it elsewhere would split"
            " what is billed. Correct it at Stripe, or use a new customerRef.",
            code="usage_pushed",
        )


@transaction.atomic
def unlink_customer(*, tenant_id: int, link_id: int, actor: str, now: datetime) -> None:
    """Remove a link: its usage waits from now on. Raises `NotFound`."""
    link = CustomerLink.objects.select_for_update().filter(tenant_id=tenant_id, pk=link_id).first()
    if link is None:
        raise NotFound("No such customer link")
    audit.record(
        tenant_id=tenant_id,
        actor=actor,
        action="customer.unlinked",
        object_type="customer_link",
        object_id=link.pk,
        now=now,
        before={
            "customerRef": link.customer_ref,
            "stripeCustomerId": link.stripe_customer_id,
            "mode": link.mode,
        },
    )
    link.delete()
