"""Checks of what comes of a request later: workers do their part here, in this process."""

import csv
import io
import json
import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import argon2
import pytest
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth import authenticate
from django.db import connection
from django.test import RequestFactory

from billing.models import PriceMapping, Push, WebhookInbox
from billing.services.inbox import process_inbox
from counters.models import Adjustment
from counters.services.fold import fold_everything
from counters.services.verify import verify_counters
from counters.tasks import replay
from ledger.models import Event, Metric, Operation
from ledger.services import backfill
from ledger.tasks import backfill as work_off_backfills
from reconciliation.models import Finding
from reconciliation.models import Run as ReconciliationRun
from reconciliation.services import runs
from stripemeter.lib import clock
from stripemeter.lib.instants import parse_instant
from tests.badinputs import world
from tests.badinputs.checks import Run, known
from tests.badinputs.filling import Filler
from tests.badinputs.sending import send


@known("buckets_sum")
def _buckets_sum(run: Run, _: str) -> str | None:
    if run.last.status != 200:
        return None
    query = {name: value[0] for name, value in parse_qs(urlsplit(run.case.path).query).items()}
    metric = Metric.objects.get(tenant=run.world.tenants["A"], name=query["metric"])
    inside = Event.objects.filter(
        tenant_id=run.world.tenants["A"].pk, metric_id=metric.pk,
        customer_ref=query["customerRef"], ts__gte=parse_instant(query["since"]),
        ts__lt=parse_instant(query["until"]),
    )  # fmt: skip
    body = json.loads(run.last.body, parse_float=Decimal, parse_int=Decimal)
    points = next(value for value in body.values() if isinstance(value, list))
    got = sum((Decimal(str(point["value"])) for point in points), Decimal(0))
    want = sum(inside.values_list("quantity", flat=True), Decimal(0))
    return None if got == want else f"buckets make {got}, events {want}"


@known("counters_equal_ledger")
def _counters_equal_ledger(run: Run, _: str) -> str | None:
    replay()
    fold_everything(now=clock.now())
    found = verify_counters(now=clock.now(), tenant_key=run.world.tenants["A"].key)
    return None if not found.count else f"{found.count} counters differ"


# --- backfills ---------------------------------------------------------------------------


def _operation(run: Run) -> Operation | None:
    """The backfill, worked off; None if the request was refused."""
    if run.last.status >= 400:
        return None
    work_off_backfills()
    return Operation.objects.get(pk=UUID(run.last.json()["operationId"]))


@known("rows_failed")
def _rows_failed(run: Run, wanted: str) -> str | None:
    operation = _operation(run)
    if operation is None:
        return None
    failed = list(backfill.errors_of(operation))
    counts = backfill.counts_of(operation)
    if counts["failed"] != int(wanted) or len(failed) != int(wanted):
        return f"counts are {counts}, errors {failed}"
    return None if all(line >= 1 and reason for line, _, reason in failed) else f"{failed}"


@known("rows_accounted")
def _rows_accounted(run: Run, _: str) -> str | None:
    operation = _operation(run)
    if operation is None:
        return None
    text = json.loads(run.last.sent)["csvData"].lstrip("\ufeff")
    rows = len(list(csv.reader(io.StringIO(text, newline="")))) - 1
    counts = backfill.counts_of(operation)
    found = counts["accepted"] + counts["duplicates"] + counts["failed"]
    return None if found >= rows and counts["total"] == found else f"{rows} rows sent, {counts}"


# --- connections ---------------------------------------------------------------------------


@known("no_outbound", "no_stripe_call")
def _no_outbound(run: Run, _: str) -> str | None:
    return f"connected to {run.calls}" if run.calls else None


@known("no_outbound_except_stripe")
def _only_stripe(run: Run, _: str) -> str | None:
    process_inbox(now=clock.now())
    place = urlsplit(settings.STRIPE_API_BASE)
    foreign = [call for call in run.calls if not call.startswith(f"{place.hostname}:")]
    return f"connected to {foreign}" if foreign else None


# --- reconciliation ------------------------------------------------------------------------


def _compare(run: Run, queued: ReconciliationRun | None = None) -> ReconciliationRun:
    """A run over tenant A as a worker carries it out: the one that was queued, or another."""
    later = clock.now() + timedelta(days=1)  # nothing is young enough to settle by itself
    if queued is None:
        tenant_id = run.world.tenants["A"].pk
        queued, _ = runs.request_run(tenant_id=tenant_id, actor="test", now=clock.now())
    claimed = runs.claim(now=later, run_id=queued.pk)
    return queued if claimed is None else runs.execute(claimed, clock=lambda: later)


@known("drift_still_flagged")
def _drift_flagged(run: Run, _: str) -> str | None:
    """Usage that was never pushed is named as critical by the run the client asked for.

    If the request was refused, the next run has to.
    """
    metric = f"drift_{uuid4().hex[:8]}"
    event = {
        "tenantId": run.world.tenants["A"].key, "metric": metric, "customerRef": "cus_drift",
        "quantity": 3, "ts": f"{clock.now() - timedelta(minutes=5):%Y-%m-%dT%H:%M:%SZ}",
    }  # fmt: skip
    run.world.api("POST", "/v1/events/ingest", {"events": [event]})
    if run.world._mapping(metric, "KEY_A") is None:
        return "no mapping could be made"
    fold_everything(now=clock.now())
    queued = None
    if run.last.status < 300:
        queued = ReconciliationRun.objects.get(pk=UUID(run.last.json()["jobId"]))
    done = _compare(run, queued)
    found = Finding.objects.filter(last_run_id=done.pk, customer_ref="cus_drift", mode="live")
    told = [(str(each.cause), each.units, str(each.severity)) for each in found]
    return None if told == [("unpushed", Decimal(3), "critical")] else f"the run says {told}"


@known("one_report")
def _one_report(run: Run, _: str) -> str | None:
    jobs = {answer.json()["jobId"] for answer in run.answers if answer.status < 300}
    rows, _total = run.after["reconciliation_run"]
    made = rows - run.before["reconciliation_run"][0]
    return None if len(jobs) == 1 and made <= 1 else f"{len(jobs)} jobs, {made} runs"


@known("totals_exact")
def _totals_exact(run: Run, _: str) -> str | None:
    """Each number of the CSV is the sum of the newest report lines, and TOTAL that of the rows."""
    run.world.known["MAPPING_A"]()
    fold_everything(now=clock.now())
    _compare(run)
    again = send(run.world.base, run.case, Filler(run.world.known, run.world.base))
    head, *rows = csv.reader(io.StringIO(again.body.decode(), newline=""))
    if [len(row) for row in rows] != [len(head)] * len(rows) or len(rows) != 2:
        return f"rows are {rows}"
    named = [dict(zip(head, row, strict=True)) for row in rows]
    now = clock.now()
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT sum(counter), sum(coalesce(stripe, acknowledged) * unit_factor),
                   sum(abs(counter - coalesce(stripe, acknowledged) * unit_factor)), count(*)
            FROM (
                SELECT DISTINCT ON (l.mapping_id, l.customer_ref, l.period_start) l.*
                FROM reconciliation_reportline l JOIN ledger_metric m ON m.id = l.metric_id
                WHERE l.tenant_id = %s AND m.name = 'api_calls' AND l.mode = 'live'
                  AND l.period_start >= date_trunc('month', %s) AND l.period_start <= %s
                ORDER BY l.mapping_id, l.customer_ref, l.period_start, l.checked_at DESC
            ) newest
            """,
            [run.world.tenants["A"].pk, now, now],
        )
        wanted = list(cursor.fetchone() or ())
    columns = ("local", "stripe", "drift_abs", "items")
    for line in named:
        found = [Decimal(line[name]) for name in columns]
        if found != wanted or not wanted[-1]:
            return f"{line['metric']}: {found}, the lines make {wanted}"
    return None


# --- mappings and adjustments ----------------------------------------------------------------


@known("sum_of_segments")
def _sum_of_segments(run: Run, _: str) -> str | None:
    """What was pushed before a segment began stays with the old one; nothing is said twice."""
    told = Push.objects.filter(tenant_id=run.world.tenants["A"].pk, target="requests")
    total = sum(told.values_list("delta", flat=True), Decimal(0))
    return None if total == 7 else f"the segments say {total}"


@known("history_kept")
def _history_kept(run: Run, _: str) -> str | None:
    told = Push.objects.filter(tenant_id=run.world.tenants["A"].pk, target="requests")
    if not told.exists():
        return "the push is gone"
    kept = PriceMapping.objects.filter(pk__in=told.values_list("mapping_id", flat=True))
    return None if kept.exists() else "the mapping is gone"


@known("adjustment_applied_once")
def _applied_once(run: Run, _: str) -> str | None:
    rows = Adjustment.objects.filter(tenant_id=run.world.tenants["A"].pk, status="approved")
    found = verify_counters(now=clock.now(), tenant_key=run.world.tenants["A"].key)
    return None if rows.count() == 1 and not found.count else f"{rows.count()}, {found.count}"


# --- signing in ----------------------------------------------------------------------------


@known("same_as_known_user")
def _same_as_known(run: Run, _: str) -> str | None:
    """Status, page and length are the same, and so is the work: one hash for either.

    The work is counted and not timed: on a busy machine a stopwatch tells about the machine.
    """
    run.world.operator("operator", "owner")
    fields = {name: getattr(run.case, name) for name in type(run.case).__slots__}
    known_user = type(run.case)(
        **{**fields, "body": fields["body"].replace("no-such-user", "operator")}
    )
    answer = send(run.world.base, known_user, Filler(run.world.known, run.world.base))
    if (run.last.status, answer.status) != (200, 200):
        return f"{run.last.status} for nobody, {answer.status} for somebody"

    def plain(body: bytes, name: bytes) -> bytes:
        body = re.sub(rb'csrfmiddlewaretoken"[^>]*value="[^"]*"', b"", body)
        return re.sub(rb'nonce="[^"]*"', b"", body).replace(name, b"")

    if plain(answer.body, b"operator") != plain(run.last.body, b"no-such-user"):
        return "another page"
    work = {name: _hashes_of(name) for name in ("no-such-user", "operator")}
    AccessAttempt.objects.all().delete()
    return None if set(work.values()) == {1} else f"hashes computed: {work}"


def _hashes_of(username: str) -> int:
    """How often a wrong password of ``username`` is hashed."""
    found = 0

    def counted(compute: Callable[..., Any]) -> Callable[..., Any]:
        def count(*args: Any, **kwargs: Any) -> Any:
            nonlocal found
            found += 1
            return compute(*args, **kwargs)

        return count

    request = RequestFactory().post("/admin/login/")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("hash_secret", "verify_secret"):
            patch.setattr(argon2.low_level, name, counted(getattr(argon2.low_level, name)))
        # The server's hasher imports them by name as well.
        patch.setattr(argon2._password_hasher, "verify_secret", argon2.low_level.verify_secret)
        assert authenticate(request, username=username, password="wrong") is None
    return found


# --- webhooks --------------------------------------------------------------------------------


def _events_of(run: Run) -> Any:
    return WebhookInbox.objects.filter(event_id=json.loads(run.last.sent)["id"])


@known("stored_once")
def _stored_once(run: Run, _: str) -> str | None:
    count = _events_of(run).count()
    return None if count == 1 else f"stored {count} times"


@known("effect_once")
def _effect_once(run: Run, _: str) -> str | None:
    process_inbox(now=clock.now())
    first = world.snapshot()
    process_inbox(now=clock.now())
    changed = [name for name, rows in world.snapshot().items() if rows != first[name]]
    return f"processed again: {changed}" if changed or _events_of(run).count() != 1 else None


@known("flagged")
def _flagged(run: Run, _: str) -> str | None:
    row = _events_of(run).get()
    first = json.loads(bytes(row.body))["data"]["object"]["id"]
    return None if row.mismatches and first != "in_999" else f"{row.mismatches}, {first}"


@known("state_not_regressed")
def _not_regressed(run: Run, _: str) -> str | None:
    process_inbox(now=clock.now())
    now = world.snapshot()
    changed = [
        name for name, rows in now.items()
        if rows != run.before.get(name) and "webhookinbox" not in name
    ]  # fmt: skip
    return f"changed {changed}" if changed else None
