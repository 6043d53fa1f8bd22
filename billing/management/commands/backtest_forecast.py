"""``manage.py backtest_forecast``: how wrong forecasts would have been on the past."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Max, Min
from rich.console import Console
from rich.table import Table

from billing.forecasting import Trial, evaluate, summarise
from counters.models import DailyRollup
from counters.selectors.usage import totals_of
from counters.totals import ADDITIVE
from ledger.models import Metric
from stripemeter.lib import clock
from stripemeter.lib.periods import Period, utc_day_start, utc_month
from stripemeter.tenancy.models import Tenant

#: Fewer days of history than this give no whole month to test on.
MONTHS_FROM_DAYS = 75
CUSTOMERS_DEFAULT = 200


class Command(BaseCommand):
    """Forecasts past periods with only what was known then, and prints the errors."""

    help = (
        "Back-test forecasts on stored usage: at a quarter, half and three quarters of each past"
        " period, beside the plain ratio by elapsed time."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Whose usage, and cut how."""
        parser.add_argument("--tenant", required=True)
        parser.add_argument("--period", choices=("auto", "month", "week"), default="auto")
        parser.add_argument("--customers", type=int, default=CUSTOMERS_DEFAULT, help="at most")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print a row per metric and one for all."""
        tenant = Tenant.objects.filter(key=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"no tenant {options['tenant']}")
        span = DailyRollup.objects.filter(tenant_id=tenant.pk).aggregate(
            first=Min("day"), last=Max("day")
        )
        if span["first"] is None:
            raise CommandError("no usage is stored")
        # Today is not over, so it is no actual.
        until = min(span["last"] + timedelta(days=1), utc_day_start(clock.now()).date())
        kind = options["period"]
        if kind == "auto":
            long = (until - span["first"]).days >= MONTHS_FROM_DAYS
            kind = "month" if long else "week"
        periods = list(_months(span["first"], until) if kind == "month" else _weeks(until))
        periods = [each for each in periods if each.start.date() >= span["first"]]
        if not periods:
            raise CommandError(f"no whole {kind} lies in the stored usage")
        trials = _trials(tenant, periods, customers_max=options["customers"])
        if not any(trials.values()):
            raise CommandError("no metric adds up over days, so there is nothing to test")
        title = f"Back-test of {tenant.key}: {len(periods)} {kind}s until {until}"
        Console(width=120).print(_table(title, trials))


def _months(first: date, until: date) -> Iterator[Period]:
    month = utc_month(datetime.combine(first, time(), UTC))
    while month.end.date() <= until:
        yield month
        month = utc_month(month.end)


def _weeks(until: date) -> Iterator[Period]:
    """Weeks counted back from the last whole day; at most a year of them."""
    end = datetime.combine(until, time(), UTC)
    for _ in range(52):
        yield Period(end - timedelta(days=7), end)
        end -= timedelta(days=7)


def _trials(tenant: Tenant, periods: list[Period], *, customers_max: int) -> dict[str, list[Trial]]:
    bounds = [(each.start, each.end) for each in sorted(periods)]
    found: dict[str, list[Trial]] = {}
    metrics = Metric.objects.filter(tenant=tenant, aggregation__in=ADDITIVE).order_by("name")
    for metric in metrics:
        days: dict[str, dict[date, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
        for row in DailyRollup.objects.filter(tenant_id=tenant.pk, metric_id=metric.pk):
            days[row.customer_ref][row.day] += totals_of(row).of(metric.aggregation)
        chosen = sorted(days)[:customers_max]
        found[metric.name] = [
            trial for customer in chosen for trial in evaluate(days[customer], bounds)
        ]
    return found


def _table(title: str, trials: dict[str, list[Trial]]) -> Table:
    table = Table(title=title)
    for name in ("metric", "at", "trials", "median error", "mean error", "elapsed-time ratio",
                 "80 % interval held", "methods"):  # fmt: skip
        table.add_column(name, justify="left" if name in {"metric", "methods"} else "right")
    everything = [trial for found in trials.values() for trial in found]
    for metric, found in [*trials.items(), ("all", everything)]:
        for cut in sorted({trial.cut for trial in found}):
            part = [trial for trial in found if trial.cut == cut]
            summary = summarise(part)
            coverage = summary.coverage
            methods = sorted(summary.methods.items(), key=lambda item: -item[1])
            table.add_row(
                metric,
                f"{cut:.0%}",
                str(summary.trials),
                f"{summary.median_error:.1%}",
                f"{summary.mean_error:.1%}",
                f"{summary.ratio_median_error:.1%}",
                "–" if coverage is None else f"{coverage:.0%}",
                ", ".join(f"{method} {count}" for method, count in methods[:3]),
            )
        table.add_section()
    return table
