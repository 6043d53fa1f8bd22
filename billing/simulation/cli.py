"""The `sim` command: validate, run, report. Exit codes are in each command's help."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import click

from billing.pricing.errors import PricingError
from billing.simulation import engine, remote, whatif_files
from billing.simulation.reports import FORMATS
from billing.simulation.whatif import what_if

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _targets(command: _Command) -> _Command:
    """`--scenario` and `--dir`, each any number of times."""
    scenario = click.option(
        "--scenario",
        "files",
        multiple=True,
        type=click.Path(path_type=Path),
        help="A scenario file.",
    )
    directory = click.option(
        "--dir",
        "directories",
        multiple=True,
        type=click.Path(path_type=Path),
        help="A directory; *.sim.json, *.sim.yaml and *.sim.yml below it, recursively.",
    )
    return scenario(directory(command))


@click.group(name="sim")
def sim() -> None:
    """Price what-if scenarios from files."""


@sim.command()
@_targets
def validate(files: tuple[Path, ...], directories: tuple[Path, ...]) -> None:
    """Check scenario files. Exit 1 on any issue or without a target."""
    checked = _guarded(lambda: engine.validate([*files, *directories]))
    for item in checked:
        if item.is_valid:
            click.echo(f"OK: {item.path}")
        else:
            click.echo(f"INVALID: {item.path}")
            for issue in item.issues:
                click.echo(f"  - {issue.text()}")
    _require_some(checked)
    if not all(item.is_valid for item in checked):
        raise SystemExit(1)


@sim.command()
@_targets
@click.option("--seed", help="Kept in the results; prices depend on nothing but the scenario.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results"),
    show_default=True,
    help="Where <name>.result.json go.",
)
@click.option("--record", is_flag=True, help="Also write <name>.expected.json beside the scenario.")
def run(
    files: tuple[Path, ...],
    directories: tuple[Path, ...],
    seed: str | None,
    out: Path,
    record: bool,
) -> None:
    """Run scenarios and write their results. Exit 1 if any could not be run."""
    ran = _guarded(lambda: engine.run([*files, *directories], out=out, record=record, seed=seed))
    for item in ran:
        if item.outcome is not None:
            invoice = item.outcome.invoice
            click.echo(f"{item.result_path}: total {invoice.total} {invoice.currency}")
        else:
            click.echo(f"INVALID: {item.path}", err=True)
            for issue in item.issues:
                click.echo(f"  - {issue.text()}", err=True)
    _require_some(ran)
    if any(item.outcome is None for item in ran):
        raise SystemExit(1)


@sim.command()
@_targets
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    help="Compare the results of an earlier run; without it the scenarios are run now.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(list(FORMATS)),
    default="table",
    show_default=True,
    help="How the report is written.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="A file instead of the screen."
)
@click.option("--fail-on-diff", is_flag=True, help="Exit 1 when anything differs.")
def report(
    files: tuple[Path, ...],
    directories: tuple[Path, ...],
    results: Path | None,
    form: str,
    out: Path | None,
    fail_on_diff: bool,
) -> None:
    """Compare results with expectations. Exit 1 only with --fail-on-diff, or without a target."""
    made = _guarded(lambda: engine.report([*files, *directories], results=results))
    _require_some(made.entries)
    _write(FORMATS[form](made), out)
    if fail_on_diff and made.diffs:
        raise SystemExit(1)


@sim.command()
@click.option(
    "--usage",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="CSV with customer, period, metric, quantity; without it the service's own history.",
)
@click.option(
    "--current",
    type=click.Path(path_type=Path),
    help="The prices of today (file); with --usage only.",
)
@click.option(
    "--proposed", required=True, type=click.Path(path_type=Path), help="The prices to try (file)."
)
@click.option("--from", "since", metavar="DAY", help="First day of the history (service only).")
@click.option("--to", "until", metavar="DAY", help="The day after its last (service only).")
@click.option(
    "--format",
    "form",
    type=click.Choice(list(whatif_files.FORMATS)),
    default="table",
    show_default=True,
    help="How the result is written.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="A file instead of the screen."
)
@click.option("--fail-if-increase", metavar="PERCENT", help="Exit 1 if a customer rises by more.")
@click.pass_obj
def whatif(
    session: Any,
    usage: Path | None,
    current: Path | None,
    proposed: Path,
    since: str | None,
    until: str | None,
    form: str,
    out: Path | None,
    fail_if_increase: str | None,
) -> None:
    """Rate real usage at two price sets. Exit 1 when a customer exceeds --fail-if-increase."""
    limit = None
    if fail_if_increase is not None:
        limit = _guarded(lambda: whatif_files.read_percent(fail_if_increase))
    if (usage is None) != (current is None):
        raise click.UsageError("--usage and --current go together")
    if usage is not None and current is not None:
        text, rising = _of_files(usage, current, proposed, form, limit)
    elif session is None:
        raise click.UsageError("without --usage, run it as `stripemeter sim whatif`")
    else:
        text, rising = _of_service(session, proposed, since, until, form, limit)
    _write(text, out)
    for customer in rising:
        click.echo(f"rises by more than {limit} %: {customer}", err=True)
    if rising:
        raise SystemExit(1)


def _of_files(
    usage: Path, current: Path, proposed: Path, form: str, limit: Decimal | None
) -> tuple[str, list[str]]:
    result = _guarded(
        lambda: what_if(
            whatif_files.load_usage(usage),
            current=whatif_files.load_price_set(current),
            proposed=whatif_files.load_price_set(proposed),
        )
    )
    exceeding = () if limit is None else result.rising_more_than(limit)
    return whatif_files.FORMATS[form](result), [item.customer for item in exceeding]


def _of_service(
    session: Any,
    proposed: Path,
    since: str | None,
    until: str | None,
    form: str,
    limit: Decimal | None,
) -> tuple[str, list[str]]:
    run = _guarded(lambda: remote.ask(session, proposed, since=since, until=until))
    rows = list(remote.customers(session, run)) if form == "csv" or limit is not None else []
    rising = [
        item.customer for item in rows if limit is not None and remote.rises_more_than(item, limit)
    ]
    return remote.as_text(run, rows, form), rising


def _write(text: str, out: Path | None) -> None:
    if out is None:
        click.echo(text, nl=False)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")


_Result = TypeVar("_Result")


def _guarded(call: Callable[[], _Result]) -> _Result:
    """Turn a bad path into a message and exit 1, without a stack trace."""
    try:
        return call()
    except (PricingError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _require_some(found: Any) -> None:
    if not found:
        raise click.ClickException("no scenario found; name one with --scenario or --dir")
