"""What-if runs: small ones at once, large ones by a worker, with progress."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from billing import rerating
from billing.models import WhatIfCustomer, WhatIfRun
from billing.pricing import PricingError
from billing.services import notices
from billing.services.mappings import Actor
from billing.services.simulations import plain
from billing.simulation.whatif import (
    Comparison,
    CustomerDelta,
    PeriodRater,
    WhatIf,
    grouped,
)
from billing.simulation.whatif_files import as_dict
from counters.models import Counter
from stripemeter.lib.errors import FieldError, InvalidRequest, NotFound, invalid
from stripemeter.lib.instants import InvalidInstant, parse_date
from stripemeter.lib.logs import get_logger
from stripemeter.tenancy import audit

log = get_logger(__name__)

#: Up to so many counters a run is computed in the request.
INLINE_COUNTERS_MAX = 20_000
LEASE = timedelta(minutes=5)
RANGE_MAX = timedelta(days=3_660)
MONTHS_DEFAULT = 3
FIELDS = frozenset(
    {"name", "from", "to", "prices", "currency", "fixedFee", "minimumSpend", "coupons", "tenantId"}
)
#: Customers named in the summary: the largest increases and savings.
SHOWN = 50


def start(*, actor: Actor, document: dict[str, Any], clock: Callable[[], datetime]) -> WhatIfRun:
    """Ask a question; computed already when it comes back, unless it is large.

    Raises `InvalidRequest` with the place of what cannot be read.
    """
    since, until = _range(document, actor.now)
    _read(actor.tenant_id, document)
    with transaction.atomic():
        run = WhatIfRun.objects.create(
            id=notices.new_id(),
            tenant_id=actor.tenant_id,
            name=_name(document),
            document=plain({k: v for k, v in document.items() if k != "tenantId"}),
            since=since,
            until=until,
            created_by=actor.name,
            created_at=actor.now,
        )
        audit.record(
            tenant_id=actor.tenant_id,
            actor=actor.name,
            action="what_if.asked",
            object_type="what_if",
            object_id=run.pk,
            now=actor.now,
            after={"name": run.name, "from": since, "to": until},
        )
    counters = Counter.objects.filter(
        tenant_id=actor.tenant_id, period_start__gte=since, period_end__lte=until
    )
    if counters[: INLINE_COUNTERS_MAX + 1].count() <= INLINE_COUNTERS_MAX:
        _claim(run_id=run.pk, now=actor.now)
        _compute(run, clock)
        run.refresh_from_db()
    return run


def _name(document: dict[str, Any]) -> str:
    name = document.get("name", "")
    if not isinstance(name, str) or len(name) > 255:
        raise invalid("name", "must be text of at most 255 characters")
    return name


def _read(tenant_id: int, document: dict[str, Any]) -> rerating.Question:
    unknown = sorted(set(document) - FIELDS)
    if unknown:
        raise invalid(unknown[0], "unknown field", code="unknown_field")
    try:
        return rerating.read_question(tenant_id=tenant_id, document=document)
    except PricingError as error:
        raise InvalidRequest(
            str(error),
            code="invalid_prices",
            errors=[FieldError(error.code, error.detail, error.path)],
        ) from error


def _range(document: dict[str, Any], now: datetime) -> tuple[datetime, datetime]:
    """Whole periods between two days; the last three finished months if none are named."""
    month = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    start = month
    for _ in range(MONTHS_DEFAULT):
        start = (start - timedelta(days=1)).replace(day=1)
    since = _day(document, "from") or start
    until = _day(document, "to") or month
    if not since < until <= since + RANGE_MAX:
        raise invalid("to", "must lie after from, by ten years at most", code="out_of_range")
    return since, until


def _day(document: dict[str, Any], name: str) -> datetime | None:
    if document.get(name) is None:
        return None
    try:
        found: date = parse_date(document[name])
    except InvalidInstant as error:
        raise invalid(name, str(error), code="invalid_date") from error
    return datetime.combine(found, time(), UTC)


# --- computing ----------------------------------------------------------------------------


def compute_pending(*, clock: Callable[[], datetime]) -> int:
    """Compute the runs that wait or whose worker died; how many."""
    computed = 0
    while run := _claim(now=clock()):
        _compute(run, clock)
        computed += 1
    return computed


@transaction.atomic
def _claim(*, now: datetime, run_id: UUID | None = None) -> WhatIfRun | None:
    waiting = WhatIfRun.objects.select_for_update(skip_locked=True).filter(
        Q(lease_until__isnull=True) | Q(lease_until__lt=now), status__in=["pending", "running"]
    )
    if run_id is not None:
        waiting = waiting.filter(pk=run_id)
    run = waiting.order_by("created_at").first()
    if run is not None:
        run.status, run.lease_until = WhatIfRun.Status.RUNNING, now + LEASE
        run.save(update_fields=["status", "lease_until"])
    return run


def _compute(run: WhatIfRun, clock: Callable[[], datetime]) -> None:
    try:
        result, left_out = _rate(run, clock)
        _store(run, result, left_out, clock())
    except (InvalidRequest, PricingError) as error:
        WhatIfRun.objects.filter(pk=run.pk).update(
            status=WhatIfRun.Status.FAILED, error=str(error)[:1_000], completed_at=clock()
        )


def _rate(run: WhatIfRun, clock: Callable[[], datetime]) -> tuple[WhatIf, list[str]]:
    question = _read(run.tenant_id, run.document)
    customers = rerating.customers_with_usage(
        tenant_id=run.tenant_id, since=run.since, until=run.until
    )
    work = Comparison(PeriodRater(question.current), PeriodRater(question.proposed))
    following = iter(customers)
    done = 0
    while chunk := list(islice(following, rerating.CUSTOMERS_PER_CHUNK)):
        usage = rerating.usage_rows(
            tenant_id=run.tenant_id,
            customers=chunk,
            since=run.since,
            until=run.until,
            billed=question.billed,
        )
        for (customer, period), quantities in grouped(usage).items():
            work.take(customer, period, quantities)
        done += len(chunk)
        WhatIfRun.objects.filter(pk=run.pk).update(
            steps_total=len(customers), steps_done=done, lease_until=clock() + LEASE
        )
    return work.result(), question.left_out


@transaction.atomic
def _store(run: WhatIfRun, result: WhatIf, left_out: list[str], now: datetime) -> None:
    run.customers.all().delete()
    WhatIfCustomer.objects.bulk_create(
        (
            WhatIfCustomer(
                run=run,
                tenant_id=run.tenant_id,
                rank=rank,
                customer_ref=item.customer,
                periods=item.periods,
                before_minor=item.before_minor,
                after_minor=item.after_minor,
            )
            for rank, item in enumerate(result.customers)
        ),
        batch_size=2_000,
    )
    summary = as_dict(result, customers_max=0)
    del summary["customers"]
    summary["leftOut"] = left_out
    summary["exponent"] = result.exponent
    WhatIfRun.objects.filter(pk=run.pk).update(
        status=WhatIfRun.Status.COMPLETED,
        result=plain(summary),
        completed_at=now,
        lease_until=None,
    )
    log.info("what_if.computed", run_id=str(run.pk), customers=len(result.customers))


def run_of(*, tenant_id: int, run_id: UUID) -> WhatIfRun:
    """One run of the tenant. Raises `NotFound`."""
    run = WhatIfRun.objects.filter(tenant_id=tenant_id, pk=run_id).first()
    if run is None:
        raise NotFound("What-if not found")
    return run


def result_of(run: WhatIfRun) -> dict[str, Any] | None:
    """The summary with its numbers as Decimals; money with the places of the currency."""
    if run.result is None:
        return None
    places = Decimal(1).scaleb(-int(run.result["exponent"]))

    def money(row: dict[str, Any], *names: str) -> dict[str, Any]:
        found = {name: Decimal(row[name]).quantize(places) for name in names}
        return {**row, **found}

    def exact(row: dict[str, Any], *names: str) -> dict[str, Any]:
        found = {name: None if row[name] is None else Decimal(row[name]) for name in names}
        return {**row, **found}

    kept = run.result
    return {
        **kept,
        "revenue": exact(money(kept["revenue"], "before", "after", "delta"), "percent"),
        "quantiles": money(kept["quantiles"], *kept["quantiles"]),
        "distribution": [
            exact(money(each, "delta"), "over", "upTo") for each in kept["distribution"]
        ],
        "periods": [money(each, "before", "after") for each in kept["periods"]],
        "cliffs": [exact(money(each, "jump"), "quantity", "at") for each in kept["cliffs"]],
    }


def customer_deltas(run: WhatIfRun, *, after: int = -1, limit: int | None = None) -> list[Any]:
    """Rows of the table per customer from a rank on, as `CustomerDelta`."""
    rows = run.customers.filter(rank__gt=after).order_by("rank")
    return [delta_of(row) for row in (rows if limit is None else rows[:limit])]


def delta_of(row: WhatIfCustomer) -> CustomerDelta:
    """A stored row as the library has it."""
    return CustomerDelta(row.customer_ref, row.periods, row.before_minor, row.after_minor)
