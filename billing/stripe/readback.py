"""What reconciliation reads back: meters by name, usage by hour, lines of final invoices."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from billing.stripe.client import client_for, options_for
from billing.stripe.errors import all_rows, reading

PAGE_ROWS = 100
PAGES_MAX = 20
LINE_PAGES_MAX = 100
#: Error reports of one meter that a run reads.
REPORTS_MAX = 20
FINAL_STATUSES = frozenset({"open", "paid", "uncollectible"})


@dataclass(frozen=True, slots=True)
class MetersOfName:
    """The meters that an event name has had: the active one, and former ones."""

    active: str | None = None
    former: tuple[str, ...] = ()

    @property
    def current(self) -> str | None:
        """The meter that usage is read from: the active one, else the newest former one."""
        return self.active or (self.former[0] if self.former else None)


def meters_by_name(*, mode: str, account: str) -> dict[str, MetersOfName]:
    """Every meter of the account by event name; two calls per hundred meters.

    Raises `StripeUnavailable`, `StripeRefused`.
    """
    found: dict[str, MetersOfName] = {}
    for status in ("active", "inactive"):
        rows = all_rows(
            client_for(mode).v1.billing.meters.list,
            params={"status": status, "limit": PAGE_ROWS},
            options=options_for(account),
            pages_max=PAGES_MAX,
        )
        for row in sorted(rows, key=lambda meter: -int(meter["created"])):
            known = found.get(row["event_name"], MetersOfName())
            if status == "active":
                found[row["event_name"]] = MetersOfName(row["id"], known.former)
            else:
                found[row["event_name"]] = MetersOfName(known.active, (*known.former, row["id"]))
    return found


def read_hours(
    *, mode: str, account: str, meter_id: str, customer: str, start: datetime, end: datetime
) -> dict[datetime, Decimal]:
    """What Stripe has summed per UTC hour of [start, end), both on whole hours.

    Raises `StripeUnavailable`, `StripeRefused`.
    """
    rows = all_rows(
        client_for(mode).v1.billing.meters.event_summaries.list,
        meter_id,
        params={
            "customer": customer,
            "start_time": int(start.timestamp()),
            "end_time": int(end.timestamp()),
            "value_grouping_window": "hour",
            "limit": PAGE_ROWS,
        },
        options=options_for(account),
        pages_max=PAGES_MAX,
    )
    return {
        datetime.fromtimestamp(row["start_time"], UTC): Decimal(str(row["aggregated_value"]))
        for row in rows
    }


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """One line of a finalised invoice."""

    invoice_id: str
    line_id: str
    price_id: str
    subscription_item_id: str
    quantity: Decimal
    start: datetime
    end: datetime
    finalized_at: datetime


@dataclass(slots=True)
class Invoices:
    """The final lines of one customer, and whether a draft is still open."""

    lines: list[InvoiceLine] = field(default_factory=list)
    has_draft: bool = False


def invoices_of(*, mode: str, account: str, customer: str, since: datetime) -> Invoices:
    """Lines of the customer's invoices created from ``since`` on.

    Raises `StripeUnavailable`, `StripeRefused`.
    """
    rows = all_rows(
        client_for(mode).v1.invoices.list,
        params={
            "customer": customer,
            "created": {"gte": int(since.timestamp())},
            "limit": PAGE_ROWS,
        },
        options=options_for(account),
        pages_max=PAGES_MAX,
    )
    found = Invoices()
    for invoice in rows:
        found.has_draft = found.has_draft or invoice.get("status") == "draft"
        finalized = (invoice.get("status_transitions") or {}).get("finalized_at")
        if invoice.get("status") not in FINAL_STATUSES or not finalized:
            continue
        found.lines += [
            _line(str(invoice["id"]), line, int(finalized))
            for line in _lines_of(invoice, mode=mode, account=account)
        ]
    return found


def _lines_of(invoice: dict[str, Any], *, mode: str, account: str) -> list[dict[str, Any]]:
    """All lines: a listed invoice shows the first ten (docs.stripe.com/api/invoice-line-item)."""
    shown = invoice.get("lines") or {}
    if not shown.get("has_more"):
        return list(shown.get("data") or [])
    return all_rows(
        client_for(mode).v1.invoices.line_items.list,
        str(invoice["id"]),
        params={"limit": PAGE_ROWS},
        options=options_for(account),
        pages_max=LINE_PAGES_MAX,
    )


def _line(invoice_id: str, line: dict[str, Any], finalized: int) -> InvoiceLine:
    price = ((line.get("pricing") or {}).get("price_details") or {}).get("price") or ""
    parent = (line.get("parent") or {}).get("subscription_item_details") or {}
    quantity = line.get("quantity_decimal")
    if quantity is None:
        quantity = line.get("quantity") or 0
    return InvoiceLine(
        invoice_id=invoice_id,
        line_id=str(line["id"]),
        price_id=price if isinstance(price, str) else str(price.get("id", "")),
        subscription_item_id=str(parent.get("subscription_item") or ""),
        quantity=Decimal(str(quantity)),
        start=datetime.fromtimestamp(line["period"]["start"], UTC),
        end=datetime.fromtimestamp(line["period"]["end"], UTC),
        finalized_at=datetime.fromtimestamp(finalized, UTC),
    )


@dataclass(frozen=True, slots=True)
class Rejection:
    """An asynchronous rejection: which event of Stripe reported it, and why."""

    event_id: str
    code: str


def rejections_of(*, mode: str, account: str, meter_id: str) -> dict[str, Rejection]:
    """Rejected identifiers that the newest error reports of a meter name (samples only).

    Stripe keeps these events for 30 days. Raises `StripeUnavailable`, `StripeRefused`.
    """
    client, options = client_for(mode), options_for(account)
    params: Any = {"object_id": meter_id, "limit": REPORTS_MAX}
    page = reading(client.v2.core.events.list, params, options)
    found: dict[str, Rejection] = {}
    for listed in page.data:
        if listed.type != "v1.billing.meter.error_report_triggered":
            continue
        event = reading(client.v2.core.events.retrieve, listed.id, {}, options).to_dict()
        reason = (event.get("data") or {}).get("reason") or {}
        for kind in reason.get("error_types") or []:
            for sample in kind.get("sample_errors") or []:
                request = sample.get("request") or {}
                name = str(request.get("identifier") or request.get("idempotency_key") or "")
                found[name.partition("#")[0]] = Rejection(str(listed.id), str(kind.get("code")))
    return found


def make_customer(*, mode: str, name: str, test_clock: str = "") -> str:
    """A new customer's id; for the demo, whose Stripe is the sandbox."""
    params: Any = {"name": name, **({"test_clock": test_clock} if test_clock else {})}
    return str(client_for(mode).v1.customers.create(params).id)


def make_meter(*, mode: str, event_name: str, replace: bool = False) -> str:
    """A new summing meter's id; ``replace`` archives the active one first. For the demo, too."""
    meters = client_for(mode).v1.billing.meters
    if replace:
        for known in meters.list({"status": "active", "limit": PAGE_ROWS}).data:
            if known.event_name == event_name:
                meters.deactivate(known.id)
    params: Any = {
        "display_name": event_name,
        "event_name": event_name,
        "default_aggregation": {"formula": "sum"},
    }
    return str(meters.create(params).id)


def make_prices(*, mode: str, meter_id: str, cents: list[int]) -> list[str]:
    """Ids of new monthly prices of a meter's units. For the demo, too."""
    client = client_for(mode)
    product = client.v1.products.create({"name": "Demo units"}).id
    recurring = {"interval": "month", "usage_type": "metered", "meter": meter_id}
    made = []
    for each in cents:
        params: Any = {
            "currency": "usd", "product": product, "unit_amount": each, "recurring": recurring
        }  # fmt: skip
        made.append(str(client.v1.prices.create(params).id))
    return made


def subscribe(*, mode: str, customer: str, price: str) -> str:
    """A new classic subscription's item. For the demo, too."""
    params: Any = {
        "customer": customer, "items": [{"price": price}], "billing_mode": {"type": "classic"}
    }  # fmt: skip
    made = client_for(mode).v1.subscriptions.create(params)
    return str(made["items"].data[0].id)


def change_price(*, mode: str, item: str, price: str) -> None:
    """Change an item's price at once, without proration. For the demo, too."""
    params: Any = {"price": price, "proration_behavior": "none"}
    client_for(mode).v1.subscription_items.update(item, params)
