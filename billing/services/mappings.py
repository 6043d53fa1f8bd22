"""Writes of price mappings. Each leaves one audit row in the same transaction.

Usage that was pushed stays explained: what decides where it went or how it was counted
cannot change under it, and no second mapping may cover days that were pushed already.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID

import uuid_utils
from django.db import IntegrityError, transaction
from django.db.models import Max, Min, Q

from billing import formulas, slicing
from billing.models import Mode, PriceMapping, Push, PushCursor, StripeAccount
from billing.pricing import PricingError, RuleSet, price_from_config
from billing.services import meter_check
from counters.models import Counter
from counters.selectors.periods import calendar_of, calendars_of
from counters.services.recompute import Scope, recompute
from ledger.models import Metric
from ledger.services.registry import metric_ids
from stripemeter.lib.errors import Conflict, InvalidRequest, NotFound, ProblemError, invalid
from stripemeter.lib.instants import rfc3339
from stripemeter.tenancy import audit

#: Decide where live usage goes and how it is counted: fixed once any was pushed.
LIVE_IDENTITY = frozenset(
    {
        "aggregation",
        "stripe_account",
        "stripe_meter_event_name",
        "push_semantics",
        "unit_factor",
        "value_decimals",
    }
)
#: The same for the shadow side.
SHADOW_IDENTITY = frozenset({"shadow_stripe_account"})
#: Which field names the price of which side.
PRICES = {"price_id": Mode.LIVE, "shadow_price_id": Mode.TEST}
#: Aggregations that counters keep only for metrics of that aggregation.
KEPT_ON_DEMAND = frozenset({"last", "unique"})
CHANGEABLE = (
    LIVE_IDENTITY
    | SHADOW_IDENTITY
    | {
        "price_id",
        "subscription_item_id",
        "currency",
        "active",
        "shadow",
        "shadow_price_id",
        "shadow_subscription_item_id",
        "effective_from",
        "effective_to",
        "local_price",
    }
)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who writes, for which tenant, and when."""

    tenant_id: int
    name: str
    now: datetime


def create_mapping(*, actor: Actor, metric: str, values: dict[str, Any]) -> PriceMapping:
    """A new mapping of the tenant's metric (registered if unknown).

    Reads its meter from Stripe, hence outside a transaction. Raises `InvalidRequest` for what
    cannot be billed, `Conflict` for a second active mapping or for days whose usage another
    mapping has pushed.
    """
    draft = PriceMapping(tenant_id=actor.tenant_id, **values)
    meter_check.refuse_unfit_meters(draft, metric=metric, now=actor.now)
    return insert_mapping(actor=actor, metric=metric, values=values)


@transaction.atomic
def insert_mapping(*, actor: Actor, metric: str, values: dict[str, Any]) -> PriceMapping:
    """`create_mapping` for who has looked at the meter already."""
    metric_id = metric_ids(actor.tenant_id, {metric})[metric]
    mapping = PriceMapping(
        id=UUID(bytes=uuid_utils.uuid7().bytes),
        tenant_id=actor.tenant_id,
        metric_id=metric_id,
        created_at=actor.now,
        updated_at=actor.now,
        **values,
    )
    _check(mapping)
    _check_not_pushed_elsewhere(mapping)
    _configure_metric(mapping)
    _store(mapping, new=True)
    _audit(actor, "mapping.created", mapping, before=None)
    return mapping


def _configure_metric(mapping: PriceMapping) -> None:
    """A metric that nobody configured takes its first mapping's aggregation."""
    changed = Metric.objects.filter(pk=mapping.metric_id, configured=False).update(
        aggregation=mapping.aggregation, configured=True
    )
    if not changed or mapping.aggregation not in KEPT_ON_DEMAND:
        return
    counters = Counter.objects.filter(tenant_id=mapping.tenant_id, metric_id=mapping.metric_id)
    span = counters.aggregate(start=Min("period_start"), end=Max("period_end"))
    if span["start"] is not None:
        scope = Scope(mapping.tenant_id, (mapping.metric_id,), span["start"], span["end"])
        recompute(scope)


def update_mapping(
    *, actor: Actor, mapping_id: UUID, changes: dict[str, Any], version: int | None = None
) -> PriceMapping:
    """Change a mapping; ``version`` (If-Match) refuses an update of an older state.

    Reads its meter from Stripe if another is fed then, or with something else. Raises
    `NotFound`, `InvalidRequest`, `Conflict`, and 412 for a stale version.
    """
    _check_meters_of_changes(actor, mapping_id, changes)
    return change_mapping(actor=actor, mapping_id=mapping_id, changes=changes, version=version)


def _check_meters_of_changes(actor: Actor, mapping_id: UUID, changes: dict[str, Any]) -> None:
    draft = (
        PriceMapping.objects.select_related("metric")
        .filter(tenant_id=actor.tenant_id, pk=mapping_id)
        .first()
    )
    decisive = meter_check.DECISIVE & changes.keys()
    if draft is not None and any(getattr(draft, name) != changes[name] for name in decisive):
        for name in decisive:
            setattr(draft, name, changes[name])
        meter_check.refuse_unfit_meters(draft, metric=draft.metric.name, now=actor.now)


@transaction.atomic
def change_mapping(
    *, actor: Actor, mapping_id: UUID, changes: dict[str, Any], version: int | None = None
) -> PriceMapping:
    """`update_mapping` for who has looked at the meter already, or changes nothing about it."""
    mapping = _locked(actor.tenant_id, mapping_id)
    if version is not None and version != mapping.version:
        raise ProblemError(
            f"The mapping is at version {mapping.version}; read it again.",
            code="stale_version",
            status=412,
            title="Precondition failed",
        )
    if not changes:
        raise InvalidRequest("Name at least one field to change.", code="nothing_to_change")
    if mapping.ended_at is not None:
        raise Conflict("The mapping was deleted; create a new one.", code="mapping_ended")
    changed = {name for name, value in changes.items() if getattr(mapping, name) != value}
    if not changed <= CHANGEABLE:
        raise InvalidRequest(f"cannot be changed: {', '.join(sorted(changed - CHANGEABLE))}")
    before = _shown(mapping)
    _check_identity(mapping, changed)
    for name, mode in PRICES.items():
        if name in changed:
            _check_price_stays(mapping, name, mode, changes[name], actor.now)
    for name in changed:
        setattr(mapping, name, changes[name])
    _check(mapping)
    if changed & {"active", "effective_from", "effective_to"}:
        _check_not_pushed_elsewhere(mapping)
        _check_covers_pushed(mapping)
    mapping.version += 1
    mapping.updated_at = actor.now
    _store(mapping, new=False)
    _audit(actor, "mapping.updated", mapping, before=before)
    return mapping


@transaction.atomic
def end_mapping(*, actor: Actor, mapping_id: UUID) -> PriceMapping:
    """Delete, softly: no new pushes, open ones resolve, history stays. Raises `NotFound`."""
    mapping = _locked(actor.tenant_id, mapping_id)
    if mapping.ended_at is None:
        before = _shown(mapping)
        mapping.active = False
        mapping.ended_at = mapping.updated_at = actor.now
        mapping.version += 1
        mapping.save()
        _audit(actor, "mapping.deleted", mapping, before=before)
    return mapping


def _locked(tenant_id: int, mapping_id: UUID) -> PriceMapping:
    mapping = (
        PriceMapping.objects.select_for_update().filter(tenant_id=tenant_id, pk=mapping_id).first()
    )
    if mapping is None:
        raise NotFound("No such mapping")
    return mapping


def _store(mapping: PriceMapping, *, new: bool) -> None:
    try:
        with transaction.atomic():
            mapping.save(force_insert=new)
    except IntegrityError as error:
        if "mapping_one_active_per_metric" not in str(error):
            raise
        raise Conflict(
            "Another active mapping of this metric covers the same time. Deactivate it, or"
            " give both segments that do not overlap (effectiveFrom, effectiveTo).",
            code="mapping_overlap",
        ) from error
    _register_account(mapping.stripe_account, Mode.LIVE, mapping.tenant_id)
    if mapping.shadow_stripe_account:
        _register_account(mapping.shadow_stripe_account, Mode.TEST, mapping.tenant_id)


def _register_account(account: str, mode: str, tenant_id: int) -> None:
    found, _ = StripeAccount.objects.get_or_create(account=account, mode=mode)
    if found.owner_id is not None and found.owner_id != tenant_id:
        raise InvalidRequest(f"The account {account} cannot be used.", code="account_not_available")


# --- rules -------------------------------------------------------------------------------


def _check(mapping: PriceMapping) -> None:
    reason = formulas.refusal(mapping.aggregation, mapping.push_semantics)
    if reason:
        raise invalid("pushSemantics", reason, code="formula_refused")
    reason = formulas.steps_refusal(mapping.push_semantics, mapping.value_decimals)
    if reason:
        raise invalid("valueDecimals", reason, code="formula_refused")
    if mapping.aggregation in KEPT_ON_DEMAND:
        _check_kept(mapping)
    if mapping.push_semantics == "usage_record" and not mapping.subscription_item_id:
        raise invalid("subscriptionItemId", "legacy usage records need one", code="required")
    _check_segment(mapping)
    if mapping.push_semantics in formulas.WINDOWED:
        _check_windows(mapping)
    _check_shadow(mapping)
    _check_price(mapping)


def _check_kept(mapping: PriceMapping) -> None:
    """Last values and members are only kept for metrics that ask for them."""
    metric = Metric.objects.get(pk=mapping.metric_id)
    if metric.configured and metric.aggregation != mapping.aggregation:
        raise invalid(
            "aggregation",
            f"{mapping.aggregation} is not kept for this metric, which is {metric.aggregation}",
            code="formula_refused",
        )


def _check_segment(mapping: PriceMapping) -> None:
    for name in ("effective_from", "effective_to"):
        instant = getattr(mapping, name)
        if instant is not None and instant.astimezone(UTC).time() != time():
            raise invalid(
                wire_name(name),
                "must be a midnight UTC, because pushes are cut by UTC day",
                code="not_a_midnight",
            )
    if (
        mapping.effective_from is not None
        and mapping.effective_to is not None
        and mapping.effective_from >= mapping.effective_to
    ):
        raise invalid("effectiveTo", "must be later than effectiveFrom", code="empty_segment")


def _check_windows(mapping: PriceMapping) -> None:
    """Refuse windows that the tenant's billing calendars cut; planning refuses later ones."""
    for row in calendars_of(tenant_id=mapping.tenant_id):
        running = calendar_of(row).period_of(mapping.updated_at)
        reason = slicing.window_refusal(mapping.push_semantics, running)
        if reason is not None:
            whose = row.customer_ref or "the default"
            raise invalid(
                "pushSemantics", f"{reason} Billing calendar: {whose}", code="formula_refused"
            )


def _check_shadow(mapping: PriceMapping) -> None:
    if not mapping.shadow:
        return
    needed = ["shadow_stripe_account", "shadow_price_id"]
    if mapping.push_semantics == "usage_record":
        needed.append("shadow_subscription_item_id")
    for name in needed:
        if not getattr(mapping, name):
            raise invalid(wire_name(name), "is required in shadow mode", code="required")
    same_item = (
        mapping.subscription_item_id is not None
        and mapping.subscription_item_id == mapping.shadow_subscription_item_id
    )
    if mapping.stripe_account == mapping.shadow_stripe_account != "default" and (
        same_item or mapping.price_id == mapping.shadow_price_id
    ):
        raise invalid(
            "shadowPriceId",
            "the shadow target is the live target; name objects of the test account",
            code="shadow_is_live",
        )


def _check_price(mapping: PriceMapping) -> None:
    if mapping.local_price is None:
        return
    try:
        price_from_config(mapping.local_price, rules=RuleSet.STRIPE, path="localPrice")
    except PricingError as error:
        raise invalid("localPrice", str(error), code="invalid_price") from error


def _check_identity(mapping: PriceMapping, changed: set[str]) -> None:
    """Refuse to change what decides where pushed usage went."""
    live, shadow = set(LIVE_IDENTITY), set(SHADOW_IDENTITY | LIVE_IDENTITY)
    if mapping.push_semantics == "usage_record":
        live.add("subscription_item_id")
        shadow.add("shadow_subscription_item_id")
    shadow.discard("stripe_account")
    for mode, fixed in ((Mode.LIVE, live), (Mode.TEST, shadow)):
        touched = sorted(wire_name(name) for name in changed & fixed)
        if touched and _pushes(mapping).filter(mode=mode).exists():
            raise Conflict(
                f"Usage was pushed under this mapping: {', '.join(touched)} cannot change."
                " Give it an effectiveTo at a coming midnight UTC and create a mapping that"
                " is effectiveFrom then.",
                code="usage_pushed",
            )


def _check_price_stays(
    mapping: PriceMapping, name: str, mode: str, new_price: str | None, now: datetime
) -> None:
    """Refuse another price while a period runs whose usage was pushed for the old one.

    The usage so far would be projected, compared and explained at a price that does not bill
    it; in Stripe the same change loses it (`price_change`). A rehearsal keeps to the same
    rule: it shows what live would do.
    """
    running = PushCursor.objects.filter(
        tenant_id=mapping.tenant_id, mapping_id=mapping.pk, mode=mode, period_end__gt=now
    )
    pushed = _pushes(mapping).filter(mode=mode, period_start__in=running.values("period_start"))
    if not pushed.exists():
        return
    ends = running.aggregate(last=Max("period_end"))["last"]
    off = " To end the rehearsal, set shadow to false." if mode == Mode.TEST else ""
    raise Conflict(
        f"Usage of a running period was pushed for {getattr(mapping, name)}. 1. Let"
        f" {new_price or 'another price'} start at Stripe with the next period ({rfc3339(ends)}"
        " at the latest). 2. Give this mapping an effectiveTo at that midnight UTC. 3. Create a"
        f" mapping with the new {wire_name(name)} that is effectiveFrom then.{off}",
        code="price_change_loss",
    )


def _pushes(mapping: PriceMapping) -> Any:
    return Push.objects.filter(tenant_id=mapping.tenant_id, mapping_id=mapping.pk).exclude(
        state="rejected"
    )


def _check_not_pushed_elsewhere(mapping: PriceMapping) -> None:
    """Refuse days that another mapping of the metric has pushed: they would be billed twice."""
    if not mapping.active:
        return
    others = PriceMapping.objects.filter(
        tenant_id=mapping.tenant_id, metric_id=mapping.metric_id
    ).exclude(pk=mapping.pk)
    pushed = Push.objects.filter(
        tenant_id=mapping.tenant_id, mapping_id__in=[each.pk for each in others]
    ).exclude(state="rejected")
    if mapping.effective_from is not None:
        pushed = pushed.filter(slice_day__gte=mapping.effective_from.date())
    if mapping.effective_to is not None:
        pushed = pushed.filter(slice_day__lt=mapping.effective_to.date())
    newest = pushed.aggregate(newest=Max("slice_day"))["newest"]
    if newest is not None:
        free = datetime.combine(newest + timedelta(days=1), time(), tzinfo=UTC)
        raise Conflict(
            f"Usage of this metric up to {newest} was pushed under another mapping and would"
            f" be billed twice. Set effectiveFrom to {rfc3339(free)} or later, or change the"
            " other mapping instead.",
            code="usage_pushed_elsewhere",
        )


def _check_covers_pushed(mapping: PriceMapping) -> None:
    """Refuse a segment that leaves out days pushed under this mapping."""
    outside = Q(pk__isnull=True)
    if mapping.effective_from is not None:
        outside |= Q(slice_day__lt=mapping.effective_from.date())
    if mapping.effective_to is not None:
        outside |= Q(slice_day__gte=mapping.effective_to.date())
    if _pushes(mapping).filter(outside).exists():
        raise Conflict(
            "Usage of days outside this segment was pushed under the mapping.",
            code="usage_pushed",
        )


# --- audit -------------------------------------------------------------------------------


def wire_name(field: str) -> str:
    """The name of a model field on the wire."""
    head, *rest = field.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _shown(mapping: PriceMapping) -> dict[str, Any]:
    shown = {wire_name(name): getattr(mapping, name) for name in sorted(CHANGEABLE)}
    return {**shown, "metricId": mapping.metric_id, "version": mapping.version}


def _audit(
    actor: Actor, action: str, mapping: PriceMapping, *, before: dict[str, Any] | None
) -> None:
    audit.record(
        tenant_id=actor.tenant_id,
        actor=actor.name,
        action=action,
        object_type="mapping",
        object_id=mapping.pk,
        now=actor.now,
        before=before,
        after=_shown(mapping),
    )
