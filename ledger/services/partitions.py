"""From one ledger table to monthly partitions that can be dropped, and back to nothing lost.

PostgreSQL keeps uniqueness only within a partition, so (tenant, key) moves to `EventKey`: a
trigger claims the key there for each event, and an event whose key is claimed is left out, as
ON CONFLICT did. Ingest stays as it is. Keys stay for ever, also those of dropped months.

Runs as the owner of the tables, in one transaction that locks the ledger: see docs/retention.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.db import connection, transaction

from ledger.services.export_month import file_problems, ledger_problems, read_manifest
from stripemeter.lib import rowsecurity
from stripemeter.lib.errors import Conflict
from stripemeter.lib.periods import Period, utc_month
from stripemeter.tenancy.models import Tenant

MONTHS_AHEAD = 3
_COLUMNS = (
    "tenant_id, batch_id, ts, recorded_at, key, fingerprint, metric_id, customer_ref, "
    "resource_id, quantity, source, key_text, meta"
)
_SPLIT = f"""
INSERT INTO ledger_eventkey (tenant_id, key, fingerprint, batch_id)
SELECT tenant_id, key, fingerprint, batch_id FROM ledger_event ORDER BY 1, 2;

ALTER TABLE ledger_event RENAME TO ledger_event_single;
ALTER INDEX event_by_batch RENAME TO event_by_batch_single;
ALTER INDEX event_by_series RENAME TO event_by_series_single;
ALTER INDEX event_by_time RENAME TO event_by_time_single;
CREATE TABLE ledger_event (LIKE ledger_event_single INCLUDING DEFAULTS INCLUDING CONSTRAINTS
    INCLUDING STORAGE) PARTITION BY RANGE (ts);
CREATE TABLE ledger_event_other PARTITION OF ledger_event DEFAULT;
{{months}}
INSERT INTO ledger_event ({_COLUMNS}) SELECT {_COLUMNS} FROM ledger_event_single;

CREATE INDEX event_by_key ON ledger_event (tenant_id, key);
CREATE INDEX event_by_batch ON ledger_event (batch_id);
CREATE INDEX event_by_series ON ledger_event (tenant_id, metric_id, customer_ref, ts);
CREATE INDEX event_by_time ON ledger_event
    USING brin (recorded_at timestamptz_minmax_ops, ts timestamptz_minmax_multi_ops)
    WITH (pages_per_range = 128, autosummarize = on);

CREATE OR REPLACE FUNCTION ledger_event_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger_eventkey (tenant_id, key, fingerprint, batch_id)
    VALUES (NEW.tenant_id, NEW.key, NEW.fingerprint, NEW.batch_id) ON CONFLICT DO NOTHING;
    IF FOUND THEN RETURN NEW; END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER event_is_once BEFORE INSERT ON ledger_event
    FOR EACH ROW EXECUTE FUNCTION ledger_event_once();
CREATE TRIGGER event_is_append_only BEFORE UPDATE OR DELETE ON ledger_event
    FOR EACH ROW EXECUTE FUNCTION stripemeter_refuse_change();
CREATE TRIGGER event_is_never_truncated BEFORE TRUNCATE ON ledger_event
    FOR EACH STATEMENT EXECUTE FUNCTION stripemeter_refuse_change();
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'stripemeter_app') THEN
        GRANT SELECT, INSERT ON ledger_event TO stripemeter_app;
        REVOKE UPDATE, DELETE, TRUNCATE ON ledger_event FROM stripemeter_app;
    END IF;
END $$;
"""
#: What must be the same before and after: compared by month.
_SUMMARY = """
SELECT date_trunc('month', ts), count(*), sum(quantity),
       sum(hashtextextended(key::text || fingerprint, 0)::numeric)
FROM {table} GROUP BY 1 ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Split:
    """What a split did."""

    events: int
    months: list[str]


def is_partitioned() -> bool:
    """Whether the ledger is partitioned already."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT relkind = 'p' FROM pg_class WHERE oid = 'ledger_event'::regclass")
        return bool(cursor.fetchone()[0])


def dropped(period: Period) -> bool:
    """Whether any month that the period touches has been dropped."""
    if not is_partitioned():
        return False
    names = [name_of(month.start) for month in _months(period.start, period.end)]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT bool_or(to_regclass(name) IS NULL) FROM unnest(%s::text[]) AS name", [names]
        )
        return bool(cursor.fetchone()[0])


def name_of(month: datetime) -> str:
    """The partition of a month."""
    return f"ledger_event_{month:%Y_%m}"


def _create(month: Period) -> str:
    # Names and bounds come from datetimes alone.
    name = name_of(month.start)
    return (
        f"CREATE TABLE {name} PARTITION OF ledger_event "
        f"FOR VALUES FROM ('{month.start.isoformat()}') TO ('{month.end.isoformat()}');\n"
        f"CREATE TRIGGER event_is_never_truncated BEFORE TRUNCATE ON {name} "
        "FOR EACH STATEMENT EXECUTE FUNCTION stripemeter_refuse_change();\n"
    )


def _months(first: datetime, last: datetime) -> list[Period]:
    """The months that ``[first, last)`` touches."""
    months = [utc_month(first)]
    while months[-1].end < last:
        months.append(utc_month(months[-1].end))
    return months


def _ahead(now: datetime) -> datetime:
    return now + timedelta(days=31 * MONTHS_AHEAD)


@transaction.atomic
def split(*, now: datetime, say: Callable[[str], Any] = lambda _: None) -> Split:
    """Move the ledger into monthly partitions; nothing is changed if anything differs after.

    Raises `Conflict` if it is partitioned already. The old table is dropped at the end.
    """
    if is_partitioned():
        raise Conflict("The ledger is partitioned already.", code="ledger_is_partitioned")
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE ledger_event IN ACCESS EXCLUSIVE MODE")
        cursor.execute(_SUMMARY.format(table="ledger_event"))
        before = cursor.fetchall()
        cursor.execute("SELECT min(ts), max(ts) FROM ledger_event")
        oldest, newest = cursor.fetchone()
        months = _months(oldest or now, max(newest or now, _ahead(now)) + timedelta(seconds=1))
        say(f"{sum(row[1] for row in before)} events into {len(months)} partitions")
        script = _SPLIT.replace("{months}", "".join(map(_create, months)))
        connection.connection.execute(script)
        cursor.execute(_SUMMARY.format(table="ledger_event"))
        if cursor.fetchall() != before:
            raise Conflict("The partitions do not hold what the table held; nothing is changed.")
        cursor.execute("SELECT count(*) FROM ledger_eventkey")
        if cursor.fetchone()[0] != sum(row[1] for row in before):
            raise Conflict("Not every event has its key; nothing is changed.")
        cursor.execute("DROP TABLE ledger_event_single")
    rowsecurity.protect_tables()
    return Split(sum(row[1] for row in before), [name_of(month.start) for month in months])


@transaction.atomic
def add_months(*, now: datetime) -> list[str]:
    """Make the partitions of the coming months that are missing; their names.

    A month whose events already lie in ``ledger_event_other`` is left there.
    """
    made = []
    for month in _months(now, _ahead(now)):
        with connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass(%s)", [name_of(month.start)])
            exists = cursor.fetchone()[0]
            cursor.execute(
                "SELECT EXISTS (SELECT FROM ledger_event_other WHERE ts >= %s AND ts < %s)",
                [month.start, month.end],
            )
            if exists or cursor.fetchone()[0]:
                continue
        connection.connection.execute(_create(month))
        made.append(name_of(month.start))
    if made:
        rowsecurity.protect_tables()
    return made


@transaction.atomic
def drop_month(*, month: datetime, manifests: list[Path]) -> int:
    """Drop a month's partition; how many events went. Their keys stay.

    Raises `Conflict` unless every tenant with events in it has a manifest that both its file and
    the ledger still equal. Whether counters still need the events is for the caller to know.
    """
    if not is_partitioned():
        raise Conflict("The ledger is one table; see docs/retention.md.")
    period = utc_month(month)
    name = name_of(period.start)
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)", [name])
        if cursor.fetchone()[0] is None:
            raise Conflict(f"There is no partition {name}.")
        cursor.execute(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE")
        cursor.execute(f"SELECT tenant_id, count(*) FROM {name} GROUP BY 1")
        counts = dict(cursor.fetchall())
        _check_exported(counts, period, manifests)
        cursor.execute(f"ALTER TABLE ledger_event DETACH PARTITION {name}")
        cursor.execute(f"DROP TABLE {name}")
    return sum(counts.values())


def _check_exported(counts: dict[int, int], period: Period, manifests: list[Path]) -> None:
    proven = {}
    for path in manifests:
        problems = file_problems(path) + ledger_problems(path)
        if problems:
            raise Conflict(f"{path.name}: {'; '.join(problems)}")
        manifest = read_manifest(path)
        if manifest["month"] == f"{period.start:%Y-%m}":
            proven[manifest["tenant"]] = manifest
    for tenant in Tenant.objects.filter(pk__in=counts):
        if tenant.key not in proven:
            raise Conflict(f"{tenant.key} has {counts[tenant.pk]} events and no export.")
