"""Guards against a price that changes while its period runs (`price_change_loss`).

Stripe's classic billing mode bills only the usage after such a change and drops the rest;
flexible mode bills the old item's usage so far, unless proration is switched off
(docs.stripe.com/billing/subscriptions/usage-based/manage-billing-setup).
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db.models import Q, Sum

from billing.models import CustomerLink, PriceMapping, Push, PushCursor
from stripemeter.lib.decimals import plain
from stripemeter.lib.logs import get_logger

log = get_logger(__name__)

CODE = "price_change_loss"
SAFE_SEQUENCE = (
    "1. Set the old price again, or leave it, until this period is invoiced."
    " 2. Let the new price start with the next period (a subscription schedule, or flexible"
    " billing mode with proration). 3. End this mapping at that midnight UTC and create one for"
    " the new price from then on. 4. Release the held customers."
)


@dataclass(frozen=True, slots=True)
class Change:
    """An item whose metered price went away while its period was running."""

    item_id: str
    old_price: str
    new_price: str
    period_end: datetime


def changes(before: dict[str, Any] | None, after: dict[str, Any], *, now: datetime) -> list[Change]:
    """Items of ``before`` whose metered price ``after`` no longer has in the same period. Pure."""
    if before is None or after.get("status") in {"canceled", "incomplete_expired"}:
        return []
    current = {str(item["id"]): item for item in _items(after)}
    found = []
    for item in _items(before):
        price = item.get("price") or {}
        end = item.get("current_period_end")
        metered = (price.get("recurring") or {}).get("usage_type") == "metered"
        if not metered or not end or datetime.fromtimestamp(end, UTC) <= now:
            continue
        now_item = current.get(str(item["id"]))
        new_price = str((now_item or {}).get("price", {}).get("id", ""))
        if new_price != str(price["id"]):
            end_at = datetime.fromtimestamp(end, UTC)
            found.append(Change(str(item["id"]), str(price["id"]), new_price, end_at))
    return found


def _items(subscription: dict[str, Any]) -> list[dict[str, Any]]:
    return list((subscription.get("items") or {}).get("data") or [])


def is_lost(subscription: dict[str, Any]) -> bool:
    """Whether Stripe drops the usage before a change: in classic billing mode. Pure."""
    return (subscription.get("billing_mode") or {}).get("type") != "flexible"


def note_changes(before: dict[str, Any] | None, after: dict[str, Any], *, now: datetime) -> str:
    """Hold the cursors whose pushed usage a price change drops; what was done, in words.

    Inside the caller's transaction or none; nothing is held in flexible billing mode.
    """
    done = []
    for change in changes(before, after, now=now):
        lost = is_lost(after)
        held = _hold(str(after.get("customer")), change, now) if lost else 0
        log.error(
            "price.changed_in_period", code=CODE, subscription=str(after["id"]),
            item=change.item_id, old_price=change.old_price, new_price=change.new_price,
            lost=lost, held=held,
        )  # fmt: skip
        mode = "classic: usage before it is dropped" if lost else "flexible: it is billed"
        done.append(f"{CODE}: {change.old_price} left a running period ({mode}); {held} held")
    return "; ".join(done)


def _hold(stripe_customer_id: str, change: Change, now: datetime) -> int:
    held = 0
    for mapping in PriceMapping.objects.filter(price_id=change.old_price, active=True):
        references = list(
            CustomerLink.objects.filter(
                tenant_id=mapping.tenant_id, mode="live", stripe_customer_id=stripe_customer_id
            ).values_list("customer_ref", flat=True)
        ) or [stripe_customer_id]
        for cursor in PushCursor.objects.filter(
            Q(held_at=None),
            tenant_id=mapping.tenant_id, mapping_id=mapping.pk, mode="live",
            customer_ref__in=references, period_start__lte=now, period_end__gt=now,
        ):  # fmt: skip
            pushed = Push.objects.filter(
                tenant_id=cursor.tenant_id, mapping_id=cursor.mapping_id, mode="live",
                customer_ref=cursor.customer_ref, period_start=cursor.period_start,
                state=Push.State.ACKNOWLEDGED,
            ).aggregate(total=Sum("delta"))["total"]  # fmt: skip
            if not pushed:
                continue
            reason = (
                f"{CODE}: {change.old_price} was replaced by {change.new_price or 'nothing'} with"
                f" {plain(pushed)} units pushed before it. {SAFE_SEQUENCE}"
            )
            held += PushCursor.objects.filter(pk=cursor.pk).update(
                held_at=now, held_reason=reason[:500]
            )
    return held
