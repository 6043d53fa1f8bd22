"""What events of Stripe do here: `prepare` reads, `apply` writes in the inbox's transaction.

Invoices move billing periods; subscriptions set billing calendars; meter error reports
reject the pushes they name. Every object that the mirror knows is read again into it, and
a price becomes a new version. Everything else is kept and shown, and changes nothing.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Q

from billing.models import CustomerLink, PriceMapping, Push, PushCursor, WebhookInbox
from billing.services import delivery, mirroring
from billing.services.happenings import move_period
from billing.stripe import mirror, reading
from billing.stripe.errors import StripeRefused
from counters.models import BillingCalendar, Counter, PeriodState
from counters.selectors import period_of
from counters.services.calendars import set_calendar
from stripemeter.lib import strictjson
from stripemeter.lib.errors import Conflict
from stripemeter.lib.logs import get_logger
from stripemeter.lib.periods import Period

log = get_logger(__name__)

ACTOR = "stripe"
HTTP_NOT_FOUND = 404
#: Which types of events tell of which objects that are read again.
_TYPES = {
    "product": "product.",
    "price": "price.",
    "customer": "customer.",
    "subscription": "customer.subscription.",
    "invoice": "invoice.",
    "dispute": "charge.dispute.",
    "meter": "billing.meter.",
}
METER_ERRORS = frozenset(
    {"v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found"}
)
#: A draft is deleted; what is void was final, and its usage is on no other invoice.
_FROZEN_BY = frozenset({"open", "paid", "uncollectible", "void"})
#: Asynchronous rejections of a cursor that are planned again by themselves, with waits.
REPLAN_AFTER = (timedelta(0), timedelta(minutes=15), timedelta(hours=2))
#: Nothing can succeed until somebody changes something.
_DEAD = frozenset({"archived_meter", "no_meter"})


@dataclass(frozen=True, slots=True)
class Effect:
    """How processing ended: a status of the inbox, and what was done in words."""

    status: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Prepared:
    """An event with what was read again for it."""

    event: WebhookInbox
    kind: str = ""
    found: dict[str, Any] = field(default_factory=dict)
    #: How mappings may name the account: an event of the key's own account names none.
    accounts: tuple[str, ...] = ()
    #: When the read began (`mirror.read_instant`).
    read_at: datetime | None = None

    @property
    def mode(self) -> str:
        """Live or test."""
        return "live" if self.event.livemode else "test"

    @property
    def account(self) -> str:
        """The account as mappings name it."""
        return self.event.account or "default"


def prepare(event: WebhookInbox) -> Prepared:
    """Read again what the event is about. Raises `StripeUnavailable`, `StripeRefused`."""
    bare = Prepared(event)
    if event.type in METER_ERRORS:
        found = reading.thin_event(mode=bare.mode, account=bare.account, event_id=event.event_id)
        return Prepared(event, "meter_error", found, _names(bare))
    if event.kind != WebhookInbox.Kind.SNAPSHOT:
        return bare
    said = strictjson.loads(bytes(event.body))["data"]["object"]
    identifier = said.get("id")
    kind = "meter" if said.get("object") == "billing.meter" else said.get("object")
    prefix = _TYPES.get(str(kind))
    if not isinstance(identifier, str) or prefix is None or not event.type.startswith(prefix):
        return bare
    read_at = mirror.read_instant()
    try:
        found = reading.retrieve(
            mode=bare.mode, account=bare.account, kind=kind, object_id=identifier
        )
    except StripeRefused as error:
        if error.http_status != HTTP_NOT_FOUND or not event.type.endswith(".deleted"):
            raise
        found = {"id": identifier, "object": said["object"], "deleted": True}
    if kind != "meter":
        mirroring.fetch_parents(kind, found, mode=bare.mode, account=bare.account, read_at=read_at)
    return Prepared(event, kind, found, _names(bare), read_at)


def _names(prepared: Prepared) -> tuple[str, ...]:
    own = reading.own_account(mode=prepared.mode)
    if prepared.account in {"default", own}:
        return ("default", own)
    return (prepared.account,)


def apply(prepared: Prepared, *, now: datetime) -> Effect:
    """Write what the event means, inside the caller's transaction."""
    if prepared.kind == "meter_error":
        return _apply_meter_error(prepared, now)
    if not prepared.kind:
        return Effect("ignored", "nothing to do for this type")
    if prepared.kind == "meter":
        return _apply_meter(prepared)
    mirrored = mirroring.take(
        prepared.kind,
        prepared.found,
        mode=prepared.mode,
        account=prepared.account,
        read_at=prepared.read_at or now,
        now=now,
    )
    done = [mirrored]
    if prepared.event.livemode and not prepared.found.get("deleted"):
        if prepared.kind == "invoice":
            done.append(_apply_invoice(prepared, now))
        elif prepared.kind == "subscription":
            done.append(_apply_subscription(prepared, now))
    return Effect("processed", "; ".join(text for text in done if text))


def _apply_meter(prepared: Prepared) -> Effect:
    """A meter that takes nothing stops pushes by their answers; here it is told early."""
    meter = prepared.found
    name = str(meter.get("event_name", ""))
    if meter.get("status") == "active":
        return Effect("processed", f"meter {name} is active")
    fed = PriceMapping.objects.filter(
        Q(stripe_meter_event_name=name) | Q(stripe_meter_event_name=None, metric__name=name),
        stripe_account__in=prepared.accounts,
        active=True,
    ).count()
    if fed:
        log.error("meter.inactive", event_name=name, mappings=fed)
    return Effect("processed", f"meter {name} is inactive; {fed} active mappings push to it")


# --- whom it concerns --------------------------------------------------------------------


def _mappings_of(accounts: tuple[str, ...], price_ids: set[str]) -> dict[int, list[PriceMapping]]:
    """By tenant, those in force first, then the oldest: the first one's item sets a calendar."""
    by_tenant: dict[int, list[PriceMapping]] = {}
    found = PriceMapping.objects.filter(stripe_account__in=accounts, price_id__in=price_ids)
    for mapping in found.order_by("-active", "created_at", "pk"):
        by_tenant.setdefault(mapping.tenant_id, []).append(mapping)
    return by_tenant


def _reference(tenant_id: int, stripe_customer_id: str) -> str | None:
    """The tenant's reference of a live Stripe customer."""
    linked = (
        CustomerLink.objects.filter(
            tenant_id=tenant_id, mode="live", stripe_customer_id=stripe_customer_id
        )
        .values_list("customer_ref", flat=True)
        .first()
    )
    if linked is not None:
        return linked
    used = Counter.objects.filter(tenant_id=tenant_id, customer_ref=stripe_customer_id)
    return stripe_customer_id if used.exists() else None


def _price_id(line: dict[str, Any]) -> str:
    details = (line.get("pricing") or {}).get("price_details") or {}
    price = details.get("price")
    return str(price.get("id") if isinstance(price, dict) else price or "")


# --- invoices ----------------------------------------------------------------------------


def _apply_invoice(prepared: Prepared, now: datetime) -> str:
    invoice = prepared.found
    state = _period_state_of(str(invoice.get("status")))
    if state is None:
        return f"invoice is {invoice.get('status')}: periods stay as they are"
    lines = [line for line in invoice["lines"]["data"] if _price_id(line)]
    finalizes = invoice.get("automatically_finalizes_at")
    finalizes_at = datetime.fromtimestamp(finalizes, UTC) if finalizes else None
    done: set[str] = set()
    for tenant_id, mappings in _mappings_of(
        prepared.accounts, {_price_id(line) for line in lines}
    ).items():
        reference = _reference(tenant_id, str(invoice.get("customer")))
        if reference is None:
            continue
        prices = {mapping.price_id for mapping in mappings}
        for period in {_span(line) for line in lines if _price_id(line) in prices} - {None}:
            assert period is not None
            done.add(_move_period(tenant_id, reference, period, state, finalizes_at, now))
    return "; ".join(sorted(done)) or "no line of a mapped price"


def _period_state_of(status: str) -> str | None:
    if status == "draft":
        return PeriodState.CLOSING
    return PeriodState.FROZEN if status in _FROZEN_BY else None


def _span(line: dict[str, Any]) -> Period | None:
    start, end = line["period"]["start"], line["period"]["end"]
    if not start < end:
        return None
    return Period(datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC))


def _move_period(
    tenant_id: int,
    reference: str,
    billed: Period,
    state: str,
    finalizes_at: datetime | None,
    now: datetime,
) -> str:
    """Move the customer's period if it is the one billed and it is over."""
    ours = period_of(tenant_id=tenant_id, customer_ref=reference, instant=billed.start)
    if ours != billed:
        log.warning(
            "period.not_aligned", tenant_id=tenant_id, start=str(billed.start), end=str(billed.end)
        )
        return "billed time is not one of our periods: set the customer's billing calendar"
    if billed.end > now:
        return "the period still runs"
    try:
        move_period(
            tenant_id=tenant_id,
            customer_ref=reference,
            period_start=billed.start,
            state=state,
            now=now,
            actor=ACTOR,
            finalizes_at=finalizes_at,
        )
    except Conflict:
        return f"period is past {state} already"
    return f"period is {state}"


# --- subscriptions -----------------------------------------------------------------------


def _apply_subscription(prepared: Prepared, now: datetime) -> str:
    done = adopt_subscription(prepared.found, accounts=prepared.accounts, now=now)
    return "; ".join(sorted(done)) or "no item of a mapped price"


def adopt_subscription(
    subscription: dict[str, Any], *, accounts: tuple[str, ...], now: datetime
) -> set[str]:
    """Cut the customer's time as its subscription does; what was done, in words.

    A calendar that an operator set is left alone.
    """
    done: set[str] = set()
    if subscription.get("status") in {"canceled", "incomplete_expired"}:
        return {f"subscription is {subscription['status']}: calendar stays"}
    items = {str(item["price"]["id"]): item for item in subscription["items"]["data"]}
    for tenant_id, mappings in _mappings_of(accounts, set(items)).items():
        reference = _reference(tenant_id, str(subscription.get("customer")))
        if reference is None:
            continue
        item = items[mappings[0].price_id]
        by_operator = BillingCalendar.objects.filter(
            Q(customer_ref=reference) & Q(source=BillingCalendar.Source.OPERATOR),
            tenant_id=tenant_id,
        )
        if by_operator.exists():
            done.add("an operator's calendar is in force")
            continue
        recurring = item["price"]["recurring"]
        set_calendar(
            tenant_id=tenant_id,
            customer_ref=reference,
            anchor=datetime.fromtimestamp(subscription["billing_cycle_anchor"], UTC),
            interval=recurring["interval"],
            interval_count=recurring["interval_count"],
            actor=ACTOR,
            now=now,
            source=BillingCalendar.Source.STRIPE,
            stripe_subscription_item=str(item["id"]),
        )
        done.add("calendar follows the subscription")
    return done


# --- meter errors ------------------------------------------------------------------------


def _apply_meter_error(prepared: Prepared, now: datetime) -> Effect:
    reason = (prepared.found.get("data") or {}).get("reason") or {}
    named = rejected = 0
    for kind in reason.get("error_types") or []:
        code = str(kind.get("code") or "meter_error")
        for sample in kind.get("sample_errors") or []:
            named += 1
            message = str(sample.get("error_message") or code)
            rejected += _reject_named(prepared, _identifier(sample), code, message, now)
    total = int(reason.get("error_count") or named)
    text = f"{rejected} of {named} named pushes rejected"
    if total > named:
        text += f"; {total - named} more are not named: reconciliation finds them"
    return Effect("processed", text)


def _identifier(sample: dict[str, Any]) -> str:
    request = sample.get("request") or {}
    name = str(request.get("identifier") or request.get("idempotency_key") or "")
    return name.partition("#")[0]


def _reject_named(
    prepared: Prepared, identifier: str, code: str, message: str, now: datetime
) -> int:
    push = Push.objects.filter(
        identifier=identifier, mode=prepared.mode, account__account__in=prepared.accounts
    ).first()
    if push is None:
        return 0
    evidence = {"webhookEvent": prepared.event.event_id, "code": code, "message": message}
    rejected = delivery.reject(
        pushes=[(push.tenant_id, push.id)],
        code=code,
        message=message,
        now=now,
        evidence=strictjson.dumps(evidence).decode(),
    )
    if rejected:
        _replan_or_hold(push, code, message, now)
        log.warning("push.rejected", identifier=identifier, code=code)
    return rejected


def _replan_or_hold(push: Push, code: str, message: str, now: datetime) -> None:
    cursor = PushCursor.objects.select_for_update().get(
        tenant_id=push.tenant_id,
        mapping_id=push.mapping_id,
        customer_ref=push.customer_ref,
        period_start=push.period_start,
        mode=push.mode,
    )
    if code in _DEAD or cursor.rejections >= len(REPLAN_AFTER):
        cursor.held_at, cursor.held_reason = now, f"{code}: {message}"[:500]
    else:
        cursor.not_before = now + REPLAN_AFTER[cursor.rejections]
    cursor.rejections += 1
    cursor.save(update_fields=["held_at", "held_reason", "not_before", "rejections"])
