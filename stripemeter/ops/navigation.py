"""The sidebar: what an operator can go to, in the order of a working day."""

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from stripemeter.tenancy.operators import operator_of, tenants_of


@dataclass(frozen=True, slots=True)
class Entry:
    """One link; ``route`` is a URL name, ``role`` who sees it."""

    label: str
    route: str
    icon: str
    role: str = "viewer"


SECTIONS: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    ("", (Entry("Home", "ops:home", "home"),)),
    (
        "Usage",
        (
            Entry("Customers", "ops:customers", "customers"),
            Entry("Events", "ops:events", "events"),
            Entry("Inbox", "ops:inbox", "inbox"),
            Entry("Metrics", "ops:metrics", "metrics"),
            Entry("Adjustments", "ops:adjustments", "adjustments"),
            Entry("Periods", "ops:periods", "periods"),
            Entry("Replay", "ops:replay", "replay", "maintainer"),
            Entry("Backfill", "ops:backfill", "backfill", "maintainer"),
            Entry("Operations", "ops:operations", "operations"),
        ),
    ),
    (
        "Billing",
        (
            Entry("Mappings", "ops:mappings", "mappings"),
            Entry("Pushes", "ops:pushes", "pushes"),
            Entry("Stripe accounts", "ops:accounts", "accounts"),
            Entry("Alerts", "ops:alerts", "alerts"),
            Entry("Webhooks", "ops:webhooks", "webhooks"),
            Entry("Simulator", "ops:simulator", "simulator"),
            Entry("What if", "ops:what-if", "simulator"),
        ),
    ),
    (
        "Proof",
        (
            Entry("Reconciliation", "ops:reconciliation", "reconciliation"),
            Entry("Findings", "ops:findings", "findings"),
            Entry("Repair plans", "ops:plans", "repair-plans"),
            Entry("Period close", "ops:closes", "closes"),
            Entry("Exports", "ops:exports", "exports"),
        ),
    ),
    (
        "Operate",
        (
            Entry("API keys", "ops:api-keys", "keys", "maintainer"),
            Entry("Members", "ops:members", "members", "owner"),
            Entry("Audit trail", "ops:audit", "audit"),
            Entry("Settings", "ops:settings", "settings", "maintainer"),
            Entry("System", "ops:system", "system"),
            Entry("Records", "ops:records", "records"),
        ),
    ),
)


def frame(request: HttpRequest) -> dict[str, Any]:
    """Context of every operator page: who, where, and where else. Pages not built have no link."""
    if not hasattr(request, "user"):
        return {}
    operator = getattr(request, "operator", None) or operator_of(request)
    if operator is None:
        return {}
    sections = []
    for title, entries in SECTIONS:
        links = []
        for entry in entries:
            try:
                url = reverse(entry.route)
            except NoReverseMatch:
                continue
            if operator.may(entry.role):
                current = request.path == url or (
                    entry.route != "ops:home" and request.path.startswith(url)
                )
                links.append({"label": entry.label, "url": url, "icon": entry.icon, "on": current})
        if links:
            sections.append({"title": title, "links": links})
    return {
        "operator": operator,
        "tenants": tenants_of(operator.user),
        "sections": sections,
    }
