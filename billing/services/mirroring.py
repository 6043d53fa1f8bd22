"""Keeps the mirror of Stripe: one object at a time from webhooks, all of them by command."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q

from billing.models import Mode, PriceMapping
from billing.services import price_change, prices
from billing.stripe import mirror, reading
from billing.stripe.client import KeyMissing, KeyOfWrongMode, has_key
from billing.stripe.errors import StripeRefused, StripeUnavailable
from stripemeter.lib.logs import get_logger

log = get_logger(__name__)

#: Parents before children, so that nothing is fetched one by one.
_ORDER = ("product", "price", "customer", "subscription", "invoice", "dispute")


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A page of one kind that was written."""

    mode: str
    account: str
    kind: str
    rows: int


def take(
    kind: str, found: dict[str, Any], *, mode: str, account: str, read_at: datetime, now: datetime
) -> str:
    """Write one object that was just read; what became of it, in words.

    Parents that the mirror lacks are read from Stripe. Raises `StripeUnavailable`.
    """
    own = reading.own_account(mode=mode)
    source = _source(mode, account, read_at)
    document = mirror.plain_document(found)
    before = mirror.document_of(kind, str(document["id"])) if kind == "subscription" else None
    try:
        stored = mirror.store(kind, document, source)
    except StripeRefused as error:
        return f"{kind} is not mirrored: {error}"
    if not stored:
        return f"{kind}: a newer read is mirrored already"
    if kind == "price" and not document.get("deleted"):
        _keep_version(document, mode=mode, account=account, own=own, now=now)
    if kind == "subscription" and mode == Mode.LIVE:
        warned = price_change.note_changes(before, document, now=now)
        if warned:
            return f"{kind} is mirrored; {warned}"
    return f"{kind} is mirrored"


def fetch_parents(
    kind: str, found: dict[str, Any], *, mode: str, account: str, read_at: datetime
) -> None:
    """Read what ``found`` points at and the mirror lacks; `take` then needs no call.

    Raises `StripeUnavailable`; a parent that Stripe refuses shows when the object is taken.
    """
    try:
        mirror.ensure_parents(kind, mirror.plain_document(found), _source(mode, account, read_at))
    except StripeRefused as error:
        log.warning("mirror.parent_refused", kind=kind, error=str(error))


def _source(mode: str, account: str, read_at: datetime) -> mirror.Source:
    own = reading.own_account(mode=mode)
    return mirror.Source(
        account_id=own if account == "default" else account,
        mode=mode,
        read_at=read_at,
        fetch=lambda parent, identifier: reading.retrieve(
            mode=mode, account=account, kind=parent, object_id=identifier
        ),
    )


def _keep_version(
    document: dict[str, Any], *, mode: str, account: str, own: str, now: datetime
) -> None:
    """Prices that mappings name are kept in every version that was seen."""
    names = {account, "default"} if account in {"default", own} else {account}
    side = "" if mode == Mode.LIVE else "shadow_"
    named = PriceMapping.objects.filter(
        Q(**{f"{side}price_id": document["id"], f"{side}stripe_account__in": names})
    )
    for each in set(named.values_list(f"{side}stripe_account", flat=True)):
        prices.store_price(account=each, mode=mode, document=document, now=now)


def sync(*, now: datetime) -> Iterator[Mirrored]:
    """Fill the mirror from every account that mappings name, in both modes; page by page.

    Each object is a transaction of its own. Raises `StripeUnavailable`, `StripeRefused`;
    what was written before stays.
    """
    for mode, column in ((Mode.LIVE, "stripe_account"), (Mode.TEST, "shadow_stripe_account")):
        if not has_key(mode):
            continue
        named = PriceMapping.objects.exclude(**{column: None}).values_list(column, flat=True)
        own = reading.own_account(mode=mode)
        for account in sorted({"default" if each == own else each for each in named}):
            for kind in _ORDER:
                yield from _sync_kind(mode, account, kind, now)


def _sync_kind(mode: str, account: str, kind: str, now: datetime) -> Iterator[Mirrored]:
    pages = _pages(mode, account, kind)
    while True:
        read_at = mirror.read_instant()
        page = next(pages, None)
        if page is None:
            return
        for found in page:
            text = take(kind, found, mode=mode, account=account, read_at=read_at, now=now)
            if "not mirrored" in text:
                log.warning("mirror.left_out", kind=kind, reason=text)
        yield Mirrored(mode, account, kind, len(page))


def _pages(mode: str, account: str, kind: str) -> Iterator[list[dict[str, Any]]]:
    try:
        yield from reading.each(mode=mode, account=account, kind=kind)
    except StripeRefused as error:
        # A restricted key may lack one kind; the others are mirrored.
        log.warning("mirror.kind_refused", kind=kind, mode=mode, error=str(error))


def refresh_prices(*, now: datetime) -> int:
    """Read every price that an active mapping names; how many could be read.

    A price that cannot be read keeps its last version; the reason is logged.
    """
    wanted: set[tuple[str, str, str]] = set()
    for mapping in PriceMapping.objects.filter(active=True):
        wanted.add((Mode.LIVE, mapping.stripe_account, mapping.price_id))
        if mapping.shadow and mapping.shadow_stripe_account and mapping.shadow_price_id:
            wanted.add((Mode.TEST, mapping.shadow_stripe_account, mapping.shadow_price_id))
    return sum(
        refresh_price(mode=mode, account=account, price_id=price_id, now=now)
        for mode, account, price_id in sorted(wanted)
    )


def refresh_price(*, mode: str, account: str, price_id: str, now: datetime) -> bool:
    """Read one price, with its product, into the mirror; False if it cannot be read now."""
    try:
        read_at = mirror.read_instant()
        found = reading.retrieve(mode=mode, account=account, kind="price", object_id=price_id)
        take("price", found, mode=mode, account=account, read_at=read_at, now=now)
    except (StripeRefused, StripeUnavailable, KeyMissing, KeyOfWrongMode) as error:
        log.warning("price.unreadable", price_id=price_id, mode=mode, error=str(error))
        return False
    return True
