"""The sandbox's own web page: what it holds, for people.

One HTML document without requests to anywhere else. It reads the same storage as
the API and changes nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from billing.stripe_sandbox.answers import render as render_object
from billing.stripe_sandbox.delivery import Deliverer
from billing.stripe_sandbox.engine import DEFAULT_SETTINGS, Sandbox, World

ROWS_MAX = 50
EXACT_EVENTS_MAX = 50_000
"""Above this many events of a meter the page adds up in floating point, and says so."""

GOOD = frozenset({"applied", "paid", "active", "200", "enabled"})
BAD = frozenset({"lost", "rejected", "duplicated", "foreign", "dropped", "void", "uncollectible"})

SCRIPT = """
const live = document.getElementById("live");
setInterval(async () => {
  if (!live.checked || document.hidden) return;
  const answer = await fetch("/");
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  document.querySelector("main").replaceWith(fresh.querySelector("main"));
}, 3000);
"""

Row = list[Any]


@cache
def _style() -> str:
    return Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def _moment(seconds: float) -> str:
    """Returns a moment as "2026-11-22 08:15:02", UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def _cell(value: Any) -> str:
    """Returns one table cell; numbers stand right, known words are coloured."""
    text = escape(str(value))
    if isinstance(value, int | Decimal):
        return f'<td class="number">{text}</td>'
    kind = "good" if value in GOOD else "bad" if value in BAD else ""
    return f'<td class="{kind}">{text}</td>' if kind else f"<td>{text}</td>"


def _table(title: str, names: list[str], rows: list[Row], empty: str) -> str:
    """Returns a titled table, or a sentence when there is nothing to show."""
    head = f"<h2>{escape(title)}</h2>"
    if not rows:
        return f"{head}<p>{empty}</p>"
    headings = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in rows)
    return (
        f'{head}<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">'
        f"<table><thead><tr>{headings}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _meters(sandbox: Sandbox) -> str:
    rows = []
    for world in sandbox.store.worlds():
        for meter in sandbox.store.all(world, "meter"):
            events, customers, total = _sum(sandbox, world, meter["id"])
            rows.append(
                [
                    world,
                    meter["event_name"],
                    meter["default_aggregation"]["formula"],
                    meter["event_time_window"] or "none",
                    meter["status"],
                    events,
                    customers,
                    total,
                ]
            )
    names = ["Account", "Event name", "Formula", "Window", "Status", "Events", "Customers"]
    return _table("Meters", [*names, "Sum of values"], rows, "No meter was created yet.")


def _sum(sandbox: Sandbox, world: str, meter: str) -> tuple[int, int, str]:
    """Returns (events, customers, sum of values as text) of what counts on a meter."""
    where = "FROM meter_events WHERE world = ? AND meter = ? AND state = 'applied'"
    row = sandbox.store.db.execute(
        f"SELECT count(*) AS events, count(DISTINCT customer) AS customers, "
        f"total(value) AS roughly {where}",
        (world, meter),
    ).fetchone()
    if row["events"] > EXACT_EVENTS_MAX:
        return row["events"], row["customers"], f"about {row['roughly']:.15g}"
    values = sandbox.store.db.execute(f"SELECT value {where}", (world, meter))
    exact = sum((Decimal(found["value"]) for found in values), Decimal())
    return row["events"], row["customers"], format(exact, "f")


def _customers(sandbox: Sandbox) -> str:
    rows = []
    for world in sandbox.store.worlds():
        for customer in sandbox.store.all(world, "customer")[-ROWS_MAX:][::-1]:
            count = sandbox.store.db.execute(
                "SELECT count(*) AS events FROM meter_events WHERE world = ? AND customer = ?",
                (world, customer["id"]),
            ).fetchone()
            label = customer["name"] or customer["email"] or ""
            clock = customer["test_clock"] or ""
            rows.append([world, customer["id"], label, clock, int(count["events"])])
    names = ["Account", "Customer", "Name", "Test clock", "Events"]
    return _table("Customers (newest 50)", names, rows, "No customer was created yet.")


def _journal(sandbox: Sandbox) -> str:
    found = sandbox.store.db.execute(
        "SELECT * FROM journal ORDER BY seq DESC LIMIT ?", (ROWS_MAX,)
    ).fetchall()
    rows = [
        [
            _moment(row["at"]),
            row["outcome"],
            row["event_name"],
            row["customer"],
            row["value"],
            _moment(row["timestamp"]),
            row["identifier"],
        ]
        for row in found
    ]
    names = ["Received", "Outcome", "Event name", "Customer", "Value", "Timestamp", "Identifier"]
    return _table("Meter events (newest 50)", names, rows, "No meter event has arrived yet.")


def _invoices(sandbox: Sandbox) -> str:
    rows = []
    for name in sandbox.store.worlds():
        for stored in sandbox.store.all(name, "invoice")[-ROWS_MAX:][::-1]:
            doc = render_object(sandbox, World.named(name), "invoice", stored)
            period = f"{_moment(doc['period_start'])} to {_moment(doc['period_end'])}"
            rows.append(
                [
                    name,
                    doc["number"] or doc["id"],
                    doc["customer"],
                    doc["status"],
                    period,
                    len(doc["lines"]["data"]),
                    f"{doc['total']} {doc['currency']} minor units",
                ]
            )
    names = ["Account", "Invoice", "Customer", "Status", "Period (UTC)", "Lines", "Total"]
    return _table("Invoices (newest 50)", names, rows, "No billing period has ended yet.")


def _webhooks(sandbox: Sandbox, deliverer: Deliverer) -> str:
    rows = [
        [_moment(row["at"]), row["type"], row["event"], row["endpoint"], row["outcome"]]
        for row in list(deliverer.log)[-ROWS_MAX:][::-1]
    ]
    names = ["Sent", "Type", "Event", "Endpoint", "Outcome"]
    endpoints = sum(
        len(sandbox.store.all(world, kind))
        for world in sandbox.store.worlds()
        for kind in ("webhook_endpoint", "event_destination")
    )
    waiting = f"{len(sandbox.outbox)} waiting, {len(deliverer.held)} held"
    title = f"Webhooks ({endpoints} endpoints, {waiting})"
    return _table(title, names, rows, "Nothing was delivered yet.")


def _faults(sandbox: Sandbox) -> str:
    rows = []
    for fault in sandbox.faults.all():
        match = {
            name: getattr(fault, name)
            for name in ("method", "path", "customer", "event_name", "identifier", "event_type")
            if getattr(fault, name)
        }
        wanted = ", ".join(f"{name} {text}" for name, text in match.items()) or "every call"
        times = "for ever" if fault.count is None else f"{fault.count} times"
        rows.append([fault.id, fault.kind, wanted, times, fault.seen, fault.struck])
    names = ["Id", "Kind", "Hits", "How often", "Seen", "Struck"]
    return _table("Scripted faults", names, rows, "No fault is scripted: everything works.")


def _settings(sandbox: Sandbox) -> str:
    rows: list[Row] = [
        [name, str(value), str(DEFAULT_SETTINGS[name])]
        for name, value in sandbox.settings.items()
        if value != DEFAULT_SETTINGS[name]
    ]
    names = ["Setting", "Value", "Default"]
    return _table("Changed settings", names, rows, "All settings have their default value.")


def _facts(sandbox: Sandbox) -> str:
    """Returns the row of numbers at the top."""
    clock = sandbox.clock.state()
    stats = sandbox.stats
    refused = sum(count for name, count in stats.items() if name.startswith("status.4"))
    failed = sum(count for name, count in stats.items() if name.startswith("status.5"))
    facts = {
        "Clock (UTC)" + (", frozen" if clock["frozen"] else ""): _moment(clock["now"]),
        "API calls": stats["requests"],
        "Replayed": stats["replayed"],
        "Refused (4xx)": refused,
        "Failed (5xx)": failed,
        "Overlapping calls": stats["overlapping_calls"],
    }
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in facts.items()
    )
    return f"<dl>{items}</dl>"


def render(sandbox: Sandbox, deliverer: Deliverer) -> str:
    """Returns the whole page as HTML."""
    sections = "".join(
        (
            _facts(sandbox),
            _meters(sandbox),
            _journal(sandbox),
            _customers(sandbox),
            _invoices(sandbox),
            _webhooks(sandbox, deliverer),
            _faults(sandbox),
            _settings(sandbox),
        )
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>Stripe sandbox</title><style>{_style()}</style></head><body>"
        "<header><h1>Stripe sandbox</h1>"
        "<p>A stand-in for Stripe on this machine. No money moves here.</p>"
        '<label><input type="checkbox" id="live" checked> Refresh every 3 seconds</label>'
        f"</header><main>{sections}</main><script>{SCRIPT}</script></body></html>"
    )
