"""Commands about keys, adjustments, mappings, pushes and reconciliation."""

import sys
import time
from typing import Any

import click

from stripemeter.cli.session import FAILED, Session, pass_session, show
from stripemeter.lib.decimals import NotANumber, decimal_of

POLL_SECONDS = 0.5


@click.group()
def apikey() -> None:
    """API keys of the tenant."""


@apikey.command("list")
@click.pass_obj
def apikey_list(session: Session) -> None:
    """Every key, newest first; secrets are never shown again."""
    show(list(session.pages("/v1/admin/api-keys", "apiKeys", {})))


@apikey.command("create")
@click.option("--name", default="New API Key")
@click.option("--scope", "scopes", multiple=True, help="may be repeated")
@click.pass_obj
def apikey_create(session: Session, name: str, scopes: tuple[str, ...]) -> None:
    """Make a key; it is shown this once."""
    body: dict[str, Any] = {"name": name}
    if scopes:
        body["scopes"] = list(scopes)
    show(session.call("POST", "/v1/admin/api-keys", body))


@apikey.command("rotate")
@click.argument("key_id")
@click.pass_obj
def apikey_rotate(session: Session, key_id: str) -> None:
    """Make a successor; the old key goes on for a while."""
    show(session.call("POST", f"/v1/admin/api-keys/{key_id}/rotate", {}))


@apikey.command("revoke")
@click.argument("key_id")
@click.pass_obj
def apikey_revoke(session: Session, key_id: str) -> None:
    """End a key for good."""
    show(session.call("POST", f"/v1/admin/api-keys/{key_id}/revoke", {}))


@click.group()
def adjustments() -> None:
    """Signed corrections of counters."""


@adjustments.command("list")
@click.option("--metric")
@click.option("--customer", "customerRef")
@click.option("--status")
@pass_session
def adjustments_list(session: Session, /, **filters: str | None) -> None:
    """Adjustments that match."""
    query = {name: value for name, value in filters.items() if value}
    show(session.call("GET", "/v1/adjustments", query={"tenantId": session.tenant, **query}))


@adjustments.command("create")
@click.option("--metric", required=True)
@click.option("--customer", required=True)
@click.option("--period", required=True, help="first day of the period, YYYY-MM-DD")
@click.option("--delta", required=True, help="signed, in the metric's unit")
@click.option(
    "--reason",
    required=True,
    type=click.Choice(["backfill", "correction", "promo", "credit", "manual"]),
)
@click.option("--note", default="")
@pass_session
def adjustments_create(
    session: Session, metric: str, customer: str, period: str, delta: str, reason: str, note: str
) -> None:
    """Ask for an adjustment; another person approves it."""
    try:
        exact = decimal_of(delta)
    except NotANumber as error:
        raise click.BadParameter("must be a plain decimal number", param_hint="--delta") from error
    body = {
        "tenantId": session.tenant,
        "metric": metric,
        "customerRef": customer,
        "periodStart": period,
        "delta": exact,
        "reason": reason,
        **({"note": note} if note else {}),
    }
    show(session.call("POST", "/v1/adjustments", body))


def _decision(verb: str, summary: str) -> None:
    @adjustments.command(verb, help=summary)
    @click.argument("adjustment_id")
    @click.option("--note", default="")
    @pass_session
    def decide(session: Session, adjustment_id: str, note: str) -> None:
        body = {"tenantId": session.tenant, **({"note": note} if note else {})}
        show(session.call("POST", f"/v1/adjustments/{adjustment_id}/{verb}", body))


_decision("approve", "Approve an adjustment that somebody else asked for.")
_decision("reject", "Reject a pending adjustment.")
_decision("revert", "Undo an approved adjustment by a counter-entry.")


@click.group()
def mappings() -> None:
    """How metrics are billed at Stripe."""


@mappings.command("list")
@click.option("--metric")
@click.pass_obj
def mappings_list(session: Session, metric: str | None) -> None:
    """The tenant's mappings."""
    query = {"tenantId": session.tenant, **({"metric": metric} if metric else {})}
    show(session.call("GET", "/v1/mappings", query=query))


@click.command()
@click.pass_obj
def push(session: Session) -> None:
    """Push to Stripe what it does not know yet, now."""
    show(session.call("POST", "/v1/pushes/run", {"tenantId": session.tenant}))


@click.command()
@click.option("--month", help="YYYY-MM; the running month if absent")
@click.option("--wait", "seconds", default=300, show_default=True)
@click.pass_obj
def reconcile(session: Session, month: str | None, seconds: int) -> None:
    """Compare ledger, counters, pushes and Stripe; exit 1 unless everything is in parity."""
    job = session.call("POST", "/v1/reconciliation/run", {"tenantId": session.tenant})
    deadline = time.monotonic() + seconds
    path = f"/v1/reconciliation/runs/{job['jobId']}"
    found = session.call("GET", path)
    while found["status"] not in {"done", "failed"}:
        if time.monotonic() > deadline:
            raise click.ClickException(f"run {job['jobId']} is not done after {seconds} s")
        time.sleep(POLL_SECONDS)
        found = session.call("GET", path)
    chosen = month or time.strftime("%Y-%m", time.gmtime())
    query = {"tenantId": session.tenant, "periodStart": chosen, "periodEnd": chosen}
    summary = session.call("GET", "/v1/reconciliation/summary", query=query)
    show({"run": found, "summary": summary})
    in_parity = found["status"] == "done" and found["parity"] == found["cursors"]
    if not in_parity or summary["overall"]["drift_abs"] != 0:
        sys.exit(FAILED)
