"""Commands that send files: live events, re-sent events, old events."""

import csv
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
import httpx
from rich.progress import Progress

from stripemeter.cli.session import (
    FAILED,
    Session,
    Unusable,
    pass_session,
    read_answer,
    show,
)
from stripemeter.lib import clock, strictjson
from stripemeter.lib.decimals import NotANumber, decimal_of
from stripemeter.lib.instants import InvalidInstant, parse_instant

BATCH = 1_000
DONE = {"completed", "failed", "cancelled"}


@click.command()
@click.argument("file", type=click.File("r", encoding="utf-8"))
@pass_session
def ingest(session: Session, file: Any) -> None:
    """Send events from FILE (or -), one JSON object a line, in batches."""
    tally = {"accepted": 0, "duplicates": 0, "conflicts": 0, "errors": 0}
    for batch in _batches(_json_lines(file), BATCH):
        for event in batch:
            event.setdefault("tenantId", session.tenant)
        _add(tally, session.call("POST", "/v1/events/ingest", {"events": batch}))
    show(tally)
    sys.exit(FAILED if tally["errors"] or tally["conflicts"] else 0)


def _json_lines(file: Any) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            value = strictjson.loads(line)
        except strictjson.InvalidJSON as error:
            raise click.ClickException(f"line {number}: {error}") from error
        if not isinstance(value, dict):
            raise click.ClickException(f"line {number}: must be a JSON object")
        yield value


def _batches(events: Iterator[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for event in events:
        batch.append(event)
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch


def _add(tally: dict[str, int], answer: dict[str, Any]) -> None:
    for name in ("accepted", "duplicates", "conflicts"):
        tally[name] += answer[name]
    tally["errors"] += sum(result["status"] == "error" for result in answer["results"])


@click.command()
@click.option("--input", "source", type=click.Path(exists=True, path_type=Path))
@click.option("--format", "kind", type=click.Choice(["csv", "json"]), default="csv")
@click.option("--window-hours", default=24, show_default=True, help="older rows are left out")
@click.option("--batch-size", type=click.IntRange(1, BATCH), default=100, show_default=True)
@click.option(
    "--rate", type=click.IntRange(1), default=10, show_default=True, help="requests per second"
)
@click.option("--concurrency", default=1, help="kept for scripts; requests go one by one")
@click.option("--metric", "metrics", multiple=True, help="replay counters on the server instead")
@click.option("--since", default="-PT24H", show_default=True)
@click.option("--until", default="now", show_default=True)
@click.option("--apply", "mode", flag_value="apply", default="dry-run")
@click.option("--dry-run", "dry", is_flag=True)
@click.option("--wait", "seconds", default=600, show_default=True, help="for a long replay")
@pass_session
def replay(session: Session, /, source: Path | None, dry: bool, **options: Any) -> None:
    """Re-send the events of a file (--input), or replay counters on the server (--metric)."""
    if source is not None:
        sys.exit(_resend(session, source, dry=dry, **options))
    if not options["metrics"]:
        raise click.UsageError("give --input FILE, or --metric NAME to replay on the server")
    body = {
        "tenantId": session.tenant,
        "metrics": list(options["metrics"]),
        "since": options["since"],
        "until": options["until"],
        "mode": "dry-run" if dry else options["mode"],
    }
    found = session.call("POST", "/v1/replay", body)
    if "operationId" not in found:
        show(found)
        return
    # Too much for one request: a worker does it month by month.
    path = f"/v1/operations/{found['operationId']}"
    ended = _followed(session, path, "replay", options["seconds"], _steps_of)
    show(ended)
    sys.exit(0 if ended["status"] == "completed" else FAILED)


def _steps_of(found: dict[str, Any]) -> tuple[int, int]:
    return found["progress"]["done"], found["progress"]["total"]


def _rows_of(found: dict[str, Any]) -> tuple[int, int]:
    return found["processedEvents"], found["totalEvents"]


def _followed(
    session: Session,
    path: str,
    name: str,
    seconds: int,
    counts: Callable[[dict[str, Any]], tuple[int, int]],
) -> dict[str, Any]:
    """The operation at ``path`` once it has ended, or after ``seconds``, with a progress bar."""
    deadline = time.monotonic() + seconds
    with Progress(transient=True) as progress:
        task = progress.add_task(name, total=None)
        while True:
            found: dict[str, Any] = session.call("GET", path)
            done, total = counts(found)
            progress.update(task, completed=done, total=total or None)
            if found["status"] in DONE or time.monotonic() > deadline:
                return found
            time.sleep(0.5)


def _resend(session: Session, source: Path, *, dry: bool, **options: Any) -> int:
    try:
        rows = list(_rows(source, options["kind"]))
    except (UnicodeDecodeError, csv.Error) as error:
        raise click.ClickException(f"{source.name}: {error}") from error
    oldest = clock.now() - timedelta(hours=options["window_hours"])
    events = list(_events_since(oldest, rows, session.tenant))
    if dry:
        show({"total": len(rows), "considered": len(events)})
        return 0
    tally = {"accepted": 0, "duplicates": 0, "conflicts": 0, "errors": 0}
    with Progress(transient=True) as progress:
        task = progress.add_task(source.name, total=len(events))
        for batch in _batches(iter(events), options["batch_size"]):
            started = time.monotonic()
            _add(tally, session.call("POST", "/v1/events/ingest", {"events": batch}))
            progress.update(task, advance=len(batch))
            time.sleep(max(0.0, 1 / options["rate"] - (time.monotonic() - started)))
    sent = {"total": len(rows), "considered": len(events), "sent": tally.pop("accepted")}
    show({**sent, **tally})
    return FAILED if tally["errors"] or tally["conflicts"] else 0


def _rows(source: Path, kind: str) -> Iterator[dict[str, Any]]:
    with source.open(encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream) if kind == "csv" else _json_lines(stream)


def _events_since(
    oldest: datetime, rows: list[dict[str, Any]], tenant: str
) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows, 1):
        try:
            if parse_instant(row.get("ts")) >= oldest:
                yield _event(row, tenant)
        except InvalidInstant as error:
            raise click.ClickException(f"row {number}: ts {error}") from error
        except NotANumber as error:
            raise click.ClickException(f"row {number}: qty {error}") from error


def _event(row: dict[str, Any], tenant: str) -> dict[str, Any]:
    event: dict[str, Any] = {
        "tenantId": tenant,
        "metric": row.get("meter"),
        "customerRef": row.get("customer"),
        "quantity": decimal_of(row.get("qty", "")),
        "ts": row.get("ts"),
        "source": "etl",
    }
    for name, column in (("idempotencyKey", "id"), ("resourceId", "resourceId"), ("meta", "meta")):
        if row.get(column):
            event[name] = row[column]
    return event


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--metric", required=True)
@click.option("--customer")
@click.option("--period-start", required=True, help="YYYY-MM-DD")
@click.option("--period-end", help="YYYY-MM-DD; the end of that month if absent")
@click.option("--reason", required=True)
@click.option("--wait", "seconds", default=600, show_default=True)
@pass_session
def backfill(session: Session, /, file: Path, seconds: int, **options: Any) -> None:
    """Send old events from FILE (CSV or NDJSON, .gz too) and follow the operation."""
    operation = _upload(session, file, options)
    path = f"/v1/events/backfill/{operation}"
    found = _followed(session, path, file.name, seconds, _rows_of)
    show(found)
    failed = found["status"] != "completed" or found["failedEvents"]
    sys.exit(FAILED if failed else 0)


def _upload(session: Session, file: Path, options: dict[str, Any]) -> str:
    fields = {
        "tenantId": session.tenant,
        "metric": options["metric"],
        "periodStart": options["period_start"],
        "reason": options["reason"],
    }
    if options["customer"]:
        fields["customerRef"] = options["customer"]
    if options["period_end"]:
        fields["periodEnd"] = options["period_end"]
    headers = {"Authorization": f"Bearer {session.key}"} if session.key else {}
    address = f"{session.url}/v1/events/backfill"
    with file.open("rb") as stream:
        upload = {"file": (file.name, stream)}
        try:
            response = httpx.post(
                address, data=fields, files=upload, headers=headers, timeout=300, trust_env=False
            )
        except httpx.TransportError as error:
            raise Unusable(f"{session.url} cannot be reached: {error}") from error
    return str(read_answer(response)["operationId"])
