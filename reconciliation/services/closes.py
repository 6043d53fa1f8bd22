"""Closing a period: freeze it, compare once more, certify what it held.

A certificate names the run it rests on and the digest of that run's lines, and is signed
under the server's key. Anyone with the rows can compute it again.
"""

import hashlib
import hmac
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from billing.services.happenings import move_period
from billing.services.notices import Event, emit
from ledger.services import seals
from reconciliation.gathering import Gatherer
from reconciliation.models import Finding, PeriodClose, ReportLine, Run
from reconciliation.reading import StripeReader
from reconciliation.selectors import board, targets
from reconciliation.selectors.snapshot import snapshot
from reconciliation.selectors.targets import Scope
from reconciliation.services.findings import new_id, plain_json
from reconciliation.services.runs import policy
from stripemeter.lib import strictjson
from stripemeter.lib.decimals import EXACT, plain
from stripemeter.lib.errors import Conflict
from stripemeter.lib.instants import rfc3339
from stripemeter.lib.periods import Period
from stripemeter.tenancy import audit
from stripemeter.tenancy.models import Tenant

_SIGNING = b"stripemeter.certificate.v1"
MISMATCHES_MAX = 1_000
#: What a line of a certificate holds, in this order.
_LINE_FIELDS = (
    "ledger", "counter", "carry", "wanted", "acknowledged", "stripe", "invoiced",
)  # fmt: skip


def close(
    *,
    tenant_id: int,
    period: Period,
    actor: str,
    now: datetime,
    note: str = "",
    force: bool = False,
) -> PeriodClose:
    """Freeze every customer's period; late usage is held from now on. Safe to repeat.

    Raises `Conflict` while something on the board blocks it, unless forced with a note.
    A period that is not over is never closed.
    """
    found = board.board(tenant_id=tenant_id, period=period, now=now)
    if now < period.end:
        raise Conflict("The period is not over.", code="period_not_over")
    if found["blockers"] and not (force and note.strip()):
        raise Conflict(
            "Not ready: " + "; ".join(found["blockers"]) + ". Forcing it needs a note.",
            code="close_blocked",
        )
    try:
        with transaction.atomic():
            row = PeriodClose.objects.create(
                id=new_id(),
                tenant_id=tenant_id,
                period_start=period.start,
                period_end=period.end,
                board=plain_json(found),
                closed_by=actor,
                closed_at=now,
                note=note,
            )
            _note(row, "closed", actor, now)
    except IntegrityError:
        row = PeriodClose.objects.get(
            tenant_id=tenant_id, period_start=period.start, period_end=period.end
        )
    for customer_ref, start in list(board.customers_of(tenant_id=tenant_id, period=period)):
        move_period(
            tenant_id=tenant_id,
            customer_ref=customer_ref,
            period_start=start,
            state="frozen",
            now=now,
            actor=actor,
        )
    return row


def _note(row: PeriodClose, verb: str, actor: str, now: datetime) -> None:
    audit.record(
        tenant_id=row.tenant_id,
        actor=actor,
        action=f"period.{verb}",
        object_type="period_close",
        object_id=row.pk,
        now=now,
        after={"period": rfc3339(row.period_start), "note": row.note},
    )


def seal(*, tenant_id: int, period: Period, actor: str, now: datetime) -> PeriodClose:
    """Certify a closed period by the last run since. Raises `Conflict` if it is not proved."""
    with transaction.atomic():
        row = (
            PeriodClose.objects.select_for_update()
            .filter(tenant_id=tenant_id, period_start=period.start, period_end=period.end)
            .first()
        )
        if row is None:
            raise Conflict("The period is not closed.", code="not_closed")
        if row.state == PeriodClose.State.SEALED:
            return row
        run = _run_since(tenant_id, period, row.closed_at)
        if run is None:
            raise Conflict("No run since the period was closed.", code="no_run")
        _refuse_unproved(tenant_id, period, run)
        document = certificate(run, period)
        canonical = strictjson.canonical(document)
        row.certificate = document
        row.certificate_sha256 = hashlib.sha256(canonical).hexdigest()
        row.signature = signature_of(canonical)
        row.run_id, row.state = run.pk, PeriodClose.State.SEALED
        row.sealed_by, row.sealed_at = actor, now
        row.save()
        _note(row, "certified", actor, now)
        data = {
            "customerRef": None,
            "periodStart": rfc3339(row.period_start),
            "periodEnd": rfc3339(row.period_end),
            "state": "sealed",
            "certificateSha256": row.certificate_sha256,
        }
        emit([Event(tenant_id, "period.sealed", data)], now=now)
    return row


def _run_since(tenant_id: int, period: Period, since: datetime) -> Run | None:
    """The newest finished run over the whole period."""
    done = Run.objects.filter(
        tenant_id=tenant_id,
        status=Run.Status.DONE,
        requested_at__gte=since,
        customer_ref__isnull=True,
        metric_id__isnull=True,
        skipped=0,
    )
    for run in done.order_by("-finished_at"):
        covers = run.period_from is None or (
            run.period_from <= period.start and run.period_to is not None
            and run.period_to >= period.end
        )  # fmt: skip
        if covers:
            return run
    return None


def _refuse_unproved(tenant_id: int, period: Period, run: Run) -> None:
    undecided = Finding.objects.filter(
        tenant_id=tenant_id,
        period_start__gte=period.start,
        period_start__lt=period.end,
        closed_at__isnull=True,
        state=Finding.State.OPEN,
    ).count()
    unsettled = _lines(run, period).filter(status__in=["settling", "unread"]).count()
    if undecided or unsettled:
        raise Conflict(
            f"{undecided} findings are open and {unsettled} cursors are settling or unread.",
            code="not_proved",
        )


def _lines(run: Run, period: Period) -> Any:
    return ReportLine.objects.filter(
        tenant_id=run.tenant_id,
        run_id=run.pk,
        period_start__gte=period.start,
        period_start__lt=period.end,
    ).order_by("mapping_id", "customer_ref", "period_start", "mode")


def _line_text(line: ReportLine) -> bytes:
    values = {name: getattr(line, name) for name in _LINE_FIELDS}
    document = {
        "mapping": str(line.mapping_id),
        "customer": line.customer_ref,
        "period": rfc3339(line.period_start),
        "mode": line.mode,
        "status": line.status,
        **{name: None if value is None else plain(value) for name, value in values.items()},
        "causes": line.causes,
    }
    return strictjson.canonical(document) + b"\n"


def certificate(run: Run, period: Period) -> dict[str, Any]:
    """The document: totals by metric, digest of every line, every decided difference."""
    digest = hashlib.sha256()
    metrics: dict[str, dict[str, Decimal]] = {}
    count = 0
    for line in _lines(run, period).iterator(chunk_size=2_000):
        digest.update(_line_text(line))
        sums = metrics.setdefault(f"{line.metric_id}/{line.mode}", {})
        for name in ("ledger", "counter", "acknowledged", "stripe"):
            value = getattr(line, name)
            if value is not None:
                sums[name] = EXACT.add(sums.get(name, Decimal(0)), value)
        count += 1
    decided = Finding.objects.filter(
        tenant_id=run.tenant_id,
        period_start__gte=period.start,
        period_start__lt=period.end,
        closed_at__isnull=True,
    ).order_by("pk")
    document: dict[str, Any] = plain_json(
        {
            "version": 1,
            "tenant": Tenant.objects.get(pk=run.tenant_id).key,
            "period": {"start": rfc3339(period.start), "end": rfc3339(period.end)},
            "run": str(run.pk),
            "comparedAt": rfc3339(run.finished_at) if run.finished_at else None,
            "cursors": count,
            "linesSha256": digest.hexdigest(),
            # `manage.py verify_ledger` proves the events behind these totals up to this seal.
            "ledgerSeal": seals.shown_head(run.tenant_id),
            "totals": metrics,
            "differences": [
                {
                    "finding": str(each.pk),
                    "cause": each.cause,
                    "customerRef": each.customer_ref,
                    "units": each.units,
                    "state": each.state,
                    "note": each.note,
                    "by": each.decided_by,
                }
                for each in decided
            ],
        }
    )
    return document


def signature_of(canonical: bytes) -> str:
    """HMAC-SHA256 of a certificate under the server's key."""
    key = hashlib.sha256(_SIGNING + settings.SECRET_KEY.encode()).digest()
    return hmac.new(key, canonical, hashlib.sha256).hexdigest()


def verify(row: PeriodClose, *, clock: Callable[[], datetime]) -> list[dict[str, Any]]:
    """What does not agree with the certificate any more, by layer; empty if all does.

    Checks signature and digests, then reads ledger, counters, pushes and Stripe again.
    """
    if row.certificate is None or row.run_id is None:
        raise Conflict("The period has no certificate yet.", code="not_sealed")
    canonical = strictjson.canonical(row.certificate)
    found: list[dict[str, Any]] = []
    signed = hmac.compare_digest(signature_of(canonical), row.signature)
    if not signed or hashlib.sha256(canonical).hexdigest() != row.certificate_sha256:
        found.append({"layer": "certificate", "why": "the signature does not fit"})
    period = Period(row.period_start, row.period_end)
    run = Run.objects.get(pk=row.run_id)
    digest = hashlib.sha256()
    for line in _lines(run, period).iterator(chunk_size=2_000):
        digest.update(_line_text(line))
    if digest.hexdigest() != row.certificate["linesSha256"]:
        found.append({"layer": "report", "why": "the lines of the run were changed"})
    for mismatch in _now_and_then(run, period, clock):
        found.append(mismatch)
        if len(found) >= MISMATCHES_MAX:
            break
    return found


def _now_and_then(
    run: Run, period: Period, clock: Callable[[], datetime]
) -> Iterator[dict[str, Any]]:
    """Cursors whose numbers are not those of the certified run."""
    certified = {
        (line.mapping_id, line.customer_ref, line.period_start, line.mode): line
        for line in _lines(run, period)
    }
    scope = Scope(
        tenant_id=run.tenant_id, now=clock(), period_from=period.start, period_to=period.end
    )
    reader = StripeReader()
    try:
        gatherer = Gatherer(scope=scope, reader=reader, clock=clock, policy=policy())
        after = None
        while True:
            with snapshot():
                page, after = targets.page(scope, after=after)
                mine = targets.ours(page)
            for each in gatherer.assess(page, mine):
                line = certified.pop(each.target.key[1:], None)
                layers = {
                    "ledger": each.ledger,
                    "counter": each.counter,
                    "acknowledged": each.acknowledged,
                    "stripe": each.stripe,
                    "invoiced": each.invoiced,
                }
                for layer, value in layers.items():
                    then = getattr(line, layer) if line else None
                    if value != then:
                        yield {
                            "layer": layer,
                            "customerRef": each.target.customer_ref,
                            "certified": then,
                            "now": value,
                        }
            if after is None:
                break
        for line in certified.values():
            yield {
                "layer": "cursor",
                "customerRef": line.customer_ref,
                "certified": line.ledger,
                "now": None,
            }
    finally:
        reader.close()
