"""The mirror: what Stripe holds of customers, products, prices, subscriptions and invoices.

Rows are dj-stripe's models, so that its admin and its relations work; they are written from
documents that `billing.stripe.reading` fetched, since dj-stripe's own sync calls Stripe
through globals, object by object. Only this module knows those models. A document is kept
whole in ``stripe_data``, with the instant its read began: an older read never wins.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from django.db import connection, transaction
from djstripe import models as dj

from billing.stripe.errors import StripeRefused
from stripemeter.lib import strictjson
from stripemeter.lib.instants import parse_instant, rfc3339

READ_AT = "stripemeter_read_at"
KINDS = ("product", "price", "customer", "subscription", "invoice", "dispute")
_MODELS: dict[str, Any] = {
    "product": dj.Product,
    "price": dj.Price,
    "customer": dj.Customer,
    "subscription": dj.Subscription,
    "subscription_item": dj.SubscriptionItem,
    "invoice": dj.Invoice,
    "dispute": dj.Dispute,
}
#: Members that are columns, too: without them a row cannot be found by SQL.
_COLUMNS = {
    "product": ("name", "active"),
    "price": ("active", "currency", "nickname", "lookup_key"),
    "customer": ("email",),
}
_NEVER_NULL = {"name": "", "nickname": "", "email": "", "currency": ""}

Fetch = Callable[[str, str], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Source:
    """Which account and mode a document came from, and when its read began."""

    account_id: str
    mode: str
    read_at: datetime
    #: Reads an object that a document points at and the mirror lacks: (kind, id).
    fetch: Fetch


def read_instant() -> datetime:
    """The database server's own instant, which orders reads of all processes; no rule uses it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        row = cursor.fetchone()
    assert row is not None
    return cast("datetime", row[0])


def plain_document(found: Any) -> dict[str, Any]:
    """A document of the SDK as plain JSON values, decimals as text."""
    document = found.to_dict() if hasattr(found, "to_dict") else found
    plain = strictjson.loads(strictjson.dumps(document, decimals_as_text=True))
    assert isinstance(plain, dict)
    return plain


@transaction.atomic
def store(kind: str, document: dict[str, Any], source: Source) -> bool:
    """Write one object and what it needs to point at; False if a newer read is stored.

    Raises `StripeRefused` or `StripeUnavailable` if a parent cannot be read.
    """
    model = _MODELS[kind]
    known = model.objects.select_for_update().filter(id=document["id"]).first()
    if known is not None and _read_at(known) > source.read_at:
        return False
    if document.get("deleted"):
        document = {**(known.stripe_data if known is not None else {}), **document}
        if known is None:
            return False
    fields = _fields(kind, document, source)
    row, _ = model.objects.update_or_create(id=document["id"], defaults=fields)
    if kind == "subscription":
        _store_items(row, document, source)
    return True


def ensure_parents(kind: str, document: dict[str, Any], source: Source) -> None:
    """Read and write what the object points at and the mirror lacks, before a transaction.

    Raises `StripeRefused` or `StripeUnavailable`.
    """
    if document.get("deleted"):
        return
    if kind == "price":
        _parent("product", document.get("product"), source)
    elif kind in {"subscription", "invoice"}:
        _parent("customer", document.get("customer"), source)
    if kind == "subscription":
        for item in (document.get("items") or {}).get("data") or []:
            _parent("price", item.get("price"), source)


def _fields(kind: str, document: dict[str, Any], source: Source) -> dict[str, Any]:
    created = document.get("created")
    fields: dict[str, Any] = {
        "stripe_data": {**document, READ_AT: rfc3339(source.read_at)},
        "livemode": bool(document.get("livemode", source.mode == "live")),
        "created": datetime.fromtimestamp(created, UTC) if created else None,
        "metadata": document.get("metadata") or {},
        "djstripe_owner_account": _account(source),
    }
    for name in _COLUMNS.get(kind, ()):
        value = document.get(name)
        fields[name] = _NEVER_NULL.get(name) if value is None else value
    if kind == "price":
        fields["product"] = _parent("product", document.get("product"), source)
    elif kind in {"subscription", "invoice"}:
        fields["customer"] = _parent("customer", document.get("customer"), source)
    return fields


def _account(source: Source) -> Any:
    data = {"id": source.account_id, "object": "account"}
    row, _ = dj.Account.objects.get_or_create(
        id=source.account_id,
        defaults={"stripe_data": data, "livemode": source.mode == "live"},
    )
    return row


def _parent(kind: str, pointer: Any, source: Source) -> Any:
    identifier = pointer["id"] if isinstance(pointer, dict) else str(pointer or "")
    found = _MODELS[kind].objects.filter(id=identifier).first()
    if found is None:
        if not identifier:
            raise StripeRefused(f"names no {kind}", http_status=None, code="no_parent")
        document = plain_document(source.fetch(kind, identifier))
        if document.get("deleted"):
            # Needed to point at; only its id is left.
            document = {"id": identifier, "object": kind, "deleted": True}
            fields = _fields(kind, document, source)
            return _MODELS[kind].objects.create(id=identifier, **fields)
        store(kind, document, source)
        found = _MODELS[kind].objects.get(id=identifier)
    return found


def _store_items(row: Any, document: dict[str, Any], source: Source) -> None:
    """The subscription's items as they are now; those that left it go."""
    items = (document.get("items") or {}).get("data") or []
    for item in items:
        price = item.get("price") or {}
        fields = _fields("subscription_item", item, source)
        fields["price"] = _parent("price", price, source) if price else None
        fields["subscription"] = row
        dj.SubscriptionItem.objects.update_or_create(id=item["id"], defaults=fields)
    if items or document.get("status") == "canceled":
        dj.SubscriptionItem.objects.filter(subscription=row).exclude(
            id__in=[item["id"] for item in items]
        ).delete()


def _read_at(row: Any) -> datetime:
    written = (row.stripe_data or {}).get(READ_AT)
    return parse_instant(written) if written else datetime.min.replace(tzinfo=UTC)


# --- reads -------------------------------------------------------------------------------


def document_of(kind: str, identifier: str) -> dict[str, Any] | None:
    """The object as last read, with the instant of that read under `READ_AT`."""
    row = _MODELS[kind].objects.filter(id=identifier).first()
    return None if row is None else dict(row.stripe_data)


def counts(*, account_id: str, mode: str) -> dict[str, int]:
    """How many objects of each kind the mirror holds of one account and mode."""
    return {
        kind: _MODELS[kind]
        .objects.filter(djstripe_owner_account_id=account_id, livemode=mode == "live")
        .count()
        for kind in (*KINDS, "subscription_item")
    }


def prices(*, account_id: str, mode: str, limit: int = 500) -> list[dict[str, Any]]:
    """Active metered prices of an account, newest first, each with its product's name."""
    rows = (
        dj.Price.objects.filter(
            djstripe_owner_account_id=account_id,
            livemode=mode == "live",
            active=True,
            stripe_data__recurring__usage_type="metered",
        )
        .select_related("product")
        .order_by("-created")[:limit]
    )
    return [{**row.stripe_data, "product_name": row.product.name} for row in rows]


def items_of_price(price_id: str) -> list[dict[str, Any]]:
    """Subscription items on a price, each with its subscription's customer and status."""
    rows = dj.SubscriptionItem.objects.filter(price__id=price_id).select_related(
        "subscription", "subscription__customer"
    )
    return [
        {
            **row.stripe_data,
            "customer": row.subscription.customer_id,
            "status": row.subscription.stripe_data.get("status"),
            "subscription": row.subscription_id,
        }
        for row in rows
    ]


def items_of_customer(customer_id: str) -> list[dict[str, Any]]:
    """Items of all mirrored subscriptions of a customer, with price ids and periods."""
    rows = dj.SubscriptionItem.objects.filter(subscription__customer_id=customer_id).select_related(
        "subscription"
    )
    return [
        {**row.stripe_data, "status": row.subscription.stripe_data.get("status")} for row in rows
    ]
