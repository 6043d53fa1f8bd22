"""Shadow against live, day by day, and the cut-over from one to the other.

A day is clean when every customer of the shadow side was told the same on both sides and
nothing is open, parked or in review. The cut-over ends the mapping at a coming midnight
and starts its successor there: what was pushed stays where it is, nothing is said twice.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, LiteralString
from uuid import UUID

from django.db import connection, transaction

from billing import formulas
from billing.models import Mode, PriceMapping, Push, PushCursor, StripeAccount
from billing.models.pushes import OPEN_STATES
from billing.services import mappings, meter_check, prices
from billing.services.mappings import Actor
from billing.stripe.client import has_key
from stripemeter.lib.errors import Conflict, Forbidden, InvalidRequest, invalid
from stripemeter.lib.instants import rfc3339
from stripemeter.tenancy import audit
from stripemeter.tenancy.models import Tenant

#: Days that a cut-over wants clean in a row, up to yesterday.
CLEAN_DAYS_MIN = 7
DAYS_SHOWN = 35
#: What is told on a day without pushes.
_QUIET = (None, Decimal(0), Decimal(0), 0, 0)
_UNSETTLED = (*OPEN_STATES, "needs_review", "parked")


@dataclass(frozen=True, slots=True)
class Day:
    """One UTC day of usage on both sides, in Stripe's units."""

    day: date
    live: Decimal
    shadow: Decimal
    customers: int
    #: Customers whose two sums differ, and pushes of the day that are not settled.
    differing: int
    unsettled: int

    @property
    def is_clean(self) -> bool:
        """Both sides were told the same, and everything is settled."""
        return not self.differing and not self.unsettled


@dataclass(frozen=True, slots=True)
class Parity:
    """A mapping's two sides over the last days."""

    days: list[Day]
    #: Clean days in a row up to yesterday; quiet days count once the shadow has started.
    clean_days: int
    #: Customers with live usage that have no customer at the shadow account.
    uncovered: int


#: Days with sums of those customers that the shadow side knows. ``uncovered`` counts the
#: others with live usage, over all days: the same in each row.
_TOLD: LiteralString = """
WITH told AS MATERIALIZED (
    SELECT p.slice_day AS day, p.customer_ref,
           coalesce(sum(p.delta) FILTER (WHERE p.mode = 'live'), 0) AS live,
           coalesce(sum(p.delta) FILTER (WHERE p.mode = 'test'), 0) AS shadow,
           bool_or(p.mode = 'live') AS has_live, bool_or(p.mode = 'test') AS has_shadow
    FROM billing_push p
    WHERE p.tenant_id = %(tenant)s AND p.mapping_id = %(mapping)s AND p.slice_day >= %(since)s
      AND p.state = 'acknowledged'
    GROUP BY 1, 2
), linked AS (
    SELECT DISTINCT customer_ref, true AS is_linked FROM billing_customerlink
    WHERE tenant_id = %(tenant)s AND mode = 'test'
)
SELECT day,
       coalesce(sum(live) FILTER (WHERE is_linked OR has_shadow), 0),
       coalesce(sum(shadow) FILTER (WHERE is_linked OR has_shadow), 0),
       count(*) FILTER (WHERE is_linked OR has_shadow),
       count(*) FILTER (WHERE (is_linked OR has_shadow) AND live <> shadow),
       bool_or(has_shadow),
       (SELECT count(DISTINCT customer_ref) FROM told LEFT JOIN linked USING (customer_ref)
        WHERE has_live AND is_linked IS NULL)
FROM told LEFT JOIN linked USING (customer_ref)
GROUP BY day
"""


def parity(*, mapping: PriceMapping, now: datetime) -> Parity:
    """Acknowledged sums per UTC day and customer, live against shadow, newest day first."""
    today = now.astimezone(UTC).date()
    since = today - timedelta(days=DAYS_SHOWN)
    with connection.cursor() as cursor:
        cursor.execute(_TOLD, {"tenant": mapping.tenant_id, "mapping": mapping.pk, "since": since})
        told = {row[0]: row for row in cursor.fetchall()}
    unsettled = Counter(
        Push.objects.filter(
            tenant_id=mapping.tenant_id,
            mapping_id=mapping.pk,
            slice_day__gte=since,
            state__in=_UNSETTLED,
        ).values_list("slice_day", flat=True)
    )
    days = []
    first = min((day for day, row in told.items() if row[5]), default=None)
    moment = today
    while first is not None and moment >= first:
        _, live, shadow, customers, differing, *_ = told.get(moment, _QUIET)
        days.append(Day(moment, live, shadow, customers, differing, unsettled[moment]))
        moment -= timedelta(days=1)
    clean = 0
    for each in days:
        if each.day == today:
            continue
        if not each.is_clean:
            break
        clean += 1
    return Parity(days, clean, next((row[6] for row in told.values()), 0))


# --- cut-over ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that must hold before a cut-over, and what was found."""

    text: str
    holds: bool
    found: str


@dataclass(frozen=True, slots=True)
class Target:
    """What becomes live: names of objects in a live account."""

    stripe_account: str
    price_id: str
    stripe_meter_event_name: str | None

    def as_json(self) -> dict[str, str | None]:
        """As the request keeps it."""
        return {
            "stripeAccount": self.stripe_account,
            "priceId": self.price_id,
            "stripeMeterEventName": self.stripe_meter_event_name,
        }


def cut_at(mapping: PriceMapping, *, now: datetime) -> datetime:
    """The first instant at which the mapping can be followed by another.

    Sums and counts are cut at the coming midnight UTC; other totals are levels of a whole
    period, so they are cut where the next UTC month begins.
    """
    tomorrow = datetime.combine(now.astimezone(UTC).date(), time(), UTC) + timedelta(days=1)
    if formulas.is_additive(mapping.aggregation) and mapping.push_semantics != "level":
        return tomorrow
    year, month = tomorrow.year, tomorrow.month
    if tomorrow.day == 1:
        return tomorrow
    return datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)


def conditions(*, mapping: PriceMapping, target: Target, found: Parity) -> list[Condition]:
    """Everything that must hold before the shadow side is promoted; ``found`` is of now."""
    unsettled = Push.objects.filter(
        tenant_id=mapping.tenant_id, mapping_id=mapping.pk, state__in=_UNSETTLED
    ).count()
    held = PushCursor.objects.filter(
        tenant_id=mapping.tenant_id, mapping_id=mapping.pk, held_at__isnull=False
    ).count()
    account = StripeAccount.objects.filter(account=target.stripe_account, mode="live").first()
    stopped = account is not None and (account.halted_at or account.gate_closed_at)
    return [
        Condition("Shadow mode is on", mapping.shadow and mapping.active, ""),
        Condition(
            f"{CLEAN_DAYS_MIN} clean days in a row",
            found.clean_days >= CLEAN_DAYS_MIN,
            f"{found.clean_days} so far",
        ),
        Condition(
            "Every customer is in the shadow account",
            found.uncovered == 0,
            f"{found.uncovered} are not",
        ),
        Condition(
            "Nothing is open, parked or in review", unsettled == 0, f"{unsettled} pushes are"
        ),
        Condition("No customer is held", held == 0, f"{held} are"),
        Condition("A live key is configured", has_key(Mode.LIVE), ""),
        Condition(
            "The live account takes pushes",
            not stopped,
            "halted or gate closed" if stopped else "",
        ),
        _same_terms(mapping, target),
    ]


def _same_terms(mapping: PriceMapping, target: Target) -> Condition:
    """The live price charges what the shadow price charged."""
    text = "The live price charges what the rehearsed one did"
    live = prices.newest_version(
        account=target.stripe_account, mode=Mode.LIVE, price_id=target.price_id
    )
    shadow = prices.newest_version(
        account=mapping.shadow_stripe_account or "",
        mode=Mode.TEST,
        price_id=mapping.shadow_price_id or "",
    )
    if live is None or shadow is None:
        which = "live" if live is None else "shadow"
        return Condition(text, False, f"the {which} price was not read from Stripe yet")
    same = prices.same_terms(live.document, shadow.document)
    return Condition(text, same, "" if same else "their amounts, tiers or currency differ")


def request_cutover(*, actor: Actor, mapping_id: UUID, target: Target, typed: str) -> PriceMapping:
    """Ask for the promotion; somebody else approves it. ``typed`` is the metric's name.

    Raises `InvalidRequest` for another text or a meter that adds up otherwise, `Conflict`
    while a condition does not hold.
    """
    _check_target_meter(actor, mapping_id, target)
    return _request(actor, mapping_id, target, typed)


def _check_target_meter(actor: Actor, mapping_id: UUID, target: Target) -> None:
    """Here, outside a transaction; a meter's formula never changes, so approving need not."""
    mapping = (
        PriceMapping.objects.select_related("metric")
        .filter(tenant_id=actor.tenant_id, pk=mapping_id)
        .first()
    )
    if mapping is not None:
        draft = PriceMapping(
            tenant_id=actor.tenant_id, **_successor_values(mapping, target, actor.now)
        )
        meter_check.refuse_unfit_meters(draft, metric=mapping.metric.name, now=actor.now)


@transaction.atomic
def _request(actor: Actor, mapping_id: UUID, target: Target, typed: str) -> PriceMapping:
    mapping = _locked(actor.tenant_id, mapping_id)
    _check(mapping, target, typed, actor.now)
    mapping.cutover = {
        **target.as_json(),
        "requestedBy": actor.name,
        "requestedAt": rfc3339(actor.now),
    }
    mapping.save(update_fields=["cutover"])
    _audit(actor, "mapping.cutover_requested", mapping, mapping.cutover)
    return mapping


def _check(mapping: PriceMapping, target: Target, typed: str, now: datetime) -> None:
    if typed.strip() != mapping.metric.name:
        raise invalid("typed", f"type the metric's name, {mapping.metric.name}, to confirm")
    found = parity(mapping=mapping, now=now)
    missing = [
        each for each in conditions(mapping=mapping, target=target, found=found) if not each.holds
    ]
    if missing:
        raise Conflict(
            "Not yet: " + "; ".join(f"{each.text} ({each.found})" for each in missing),
            code="cutover_not_ready",
        )


@transaction.atomic
def approve_cutover(*, actor: Actor, mapping_id: UUID, typed: str) -> PriceMapping:
    """Do it: the mapping ends at the cut, its successor starts there; returns the successor.

    Conditions are checked again. Raises `Forbidden` for who asked for it, unless the tenant
    has one operator and says so.
    """
    mapping = _locked(actor.tenant_id, mapping_id)
    asked = mapping.cutover
    if not asked:
        raise Conflict("Nobody asked for a cut-over of this mapping.")
    alone = Tenant.objects.values_list("single_operator", flat=True).get(pk=actor.tenant_id)
    if asked["requestedBy"] == actor.name and not alone:
        raise Forbidden("A cut-over is approved by someone else than who asked for it.")
    target = Target(asked["stripeAccount"], asked["priceId"], asked["stripeMeterEventName"])
    _check(mapping, target, typed, actor.now)
    at = cut_at(mapping, now=actor.now)
    values = _successor_values(mapping, target, at)
    metric = mapping.metric.name
    mapping.cutover = None
    mapping.save(update_fields=["cutover"])
    mappings.change_mapping(
        actor=actor, mapping_id=mapping_id, changes={"effective_to": at, "shadow": False}
    )
    successor = mappings.insert_mapping(actor=actor, metric=metric, values=values)
    _audit(
        actor,
        "mapping.cut_over",
        mapping,
        {**asked, "approvedBy": actor.name, "at": rfc3339(at), "successor": str(successor.pk)},
    )
    return successor


def _successor_values(mapping: PriceMapping, target: Target, at: datetime) -> dict[str, Any]:
    kept = (
        "aggregation", "push_semantics", "unit_factor", "value_decimals", "currency",
        "local_price",
    )  # fmt: skip
    return {
        **{name: getattr(mapping, name) for name in kept},
        "stripe_account": target.stripe_account,
        "price_id": target.price_id,
        "stripe_meter_event_name": target.stripe_meter_event_name,
        "effective_from": at,
        "effective_to": mapping.effective_to,
        "active": True,
    }


@transaction.atomic
def withdraw_cutover(*, actor: Actor, mapping_id: UUID) -> PriceMapping:
    """Take the request back. Raises `Conflict` if there is none."""
    mapping = _locked(actor.tenant_id, mapping_id)
    if not mapping.cutover:
        raise Conflict("Nobody asked for a cut-over of this mapping.")
    asked, mapping.cutover = mapping.cutover, None
    mapping.save(update_fields=["cutover"])
    _audit(actor, "mapping.cutover_withdrawn", mapping, asked)
    return mapping


def _locked(tenant_id: int, mapping_id: UUID) -> PriceMapping:
    found = (
        PriceMapping.objects.select_for_update(of=("self",))
        .select_related("metric")
        .filter(tenant_id=tenant_id, pk=mapping_id)
        .first()
    )
    if found is None or found.ended_at is not None:
        raise InvalidRequest("No such mapping, or it has ended.", code="not_found")
    return found


def _audit(actor: Actor, action: str, mapping: PriceMapping, after: dict[str, Any]) -> None:
    audit.record(
        tenant_id=actor.tenant_id,
        actor=actor.name,
        action=action,
        object_type="mapping",
        object_id=mapping.pk,
        now=actor.now,
        after=after,
    )
