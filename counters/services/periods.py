"""Rows of billing periods, made on demand.

A period's row exists once an event of a customer with a calendar was folded into it, or once
it has left the state open. Rows are derived from calendars as long as they are open; from then on
they are fixed and calendars give way to them (`counters.calendars.Cut`).
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from counters.selectors.periods import cuts_of
from stripemeter.lib.periods import Period

#: Ranges are half-open: this takes the last instant in.
MICROSECOND = timedelta(microseconds=1)
_SPANS = """
SELECT customer_ref, min(ts), max(ts) FROM ledger_event WHERE batch_id = ANY(%s) GROUP BY 1
"""
_ENSURE = """
INSERT INTO counters_billingperiod (tenant_id, customer_ref, span, state)
SELECT %(tenant)s, u.customer_ref, tstzrange(u.period_start, u.period_end, '[)'), 'open'
FROM unnest(%(customers)s::text[], %(starts)s::timestamptz[], %(ends)s::timestamptz[])
     AS u(customer_ref, period_start, period_end)
ORDER BY 2, 3 ON CONFLICT DO NOTHING
"""


def of_batches(tenant_id: int, batches: list[int]) -> dict[str, list[Any]]:
    """The periods that hold the events of ``batches``, as arrays for the fold's join."""
    with connection.cursor() as cursor:
        cursor.execute(_SPANS, [batches])
        spans = cursor.fetchall()
    return of_spans(tenant_id, spans)


def of_spans(
    tenant_id: int, spans: Iterable[tuple[str, datetime, datetime]]
) -> dict[str, list[Any]]:
    """The periods that touch each customer's ``[first, last]``, as arrays; rows are ensured."""
    spans = list(spans)
    cuts = cuts_of(tenant_id=tenant_id, customers={ref for ref, _, _ in spans})
    found: list[tuple[str, Period]] = []
    for ref, first, last in spans:
        found += [(ref, period) for period in cuts[ref].periods(first, last + MICROSECOND)]
    arrays: dict[str, list[Any]] = {
        "customers": [ref for ref, _ in found],
        "starts": [period.start for _, period in found],
        "ends": [period.end for _, period in found],
    }
    with connection.cursor() as cursor:
        cursor.execute(_ENSURE, {"tenant": tenant_id, **arrays})
    return arrays
