"""``python -m tests.mutants``: a suite that cannot fail proves nothing.

Each mutant is a seeded bug (docs of the reliability standard, M1 to M30): a few lines replaced in
a scratch copy of the tree, where the named tests must then fail. A mutant whose text no longer
occurs in the source is an error, so that mutants age with the code.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.mutants import billing

ROOT = Path(__file__).resolve().parents[2]
COPIED = (
    "billing", "counters", "ledger", "reconciliation", "stripemeter", "tests", "widget",
    "templates", "static", "manage.py", "pyproject.toml", "requirements.lock",
    "requirements-dev.lock",
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A bug, and the tests that must notice it."""

    name: str
    story: str
    path: str
    find: str
    replace: str
    tests: tuple[str, ...]


MUTANTS = [
    Mutant(
        "M1",
        "the key is claimed before the write: a retry after a failure is called a duplicate",
        "ledger/services/ingest.py",
        "        statuses = _store_with_retries(tenant_id, prepared, chosen, now)\n",
        "        claimed = globals().setdefault('_claimed', set())\n"
        "        statuses = {i: 'duplicate' for i in chosen if prepared.keys[i] in claimed}\n"
        "        chosen = [i for i in chosen if i not in statuses]\n"
        "        claimed.update(prepared.keys[i] for i in chosen)\n"
        "        point('mutant.claimed')\n"
        "        if chosen:\n"
        "            statuses |= _store_with_retries(tenant_id, prepared, chosen, now)\n",
        ("tests/ledger/test_ingest.py::test_a_retry_after_a_failed_write_is_accepted",),
    ),
    Mutant(
        "M2",
        "the answer is given before the commit: a crash loses what was acknowledged",
        "ledger/services/ingest.py",
        "        cursor.execute(_STORE, parameters)\n",
        "        if len(chosen) == 1:\n"
        "            return dict.fromkeys(chosen, 'accepted')\n"
        "        cursor.execute(_STORE, parameters)\n",
        ("tests/ledger/test_ingest.py",),
    ),
    Mutant(
        "M3",
        "quantities go through a float",
        "ledger/packing.py",
        "        data = pack_numeric(Decimal(value))\n",
        "        data = pack_numeric(Decimal(float(value)))\n",
        ("tests/ledger/test_ingest.py::test_an_event_is_stored_as_sent",),
    ),
    Mutant(
        "M4",
        "a cursor on batch ids skips a batch that commits late",
        "counters/services/fold.py",
        "    taken: list[Claim] = []\n",
        "    top = globals().get('_top', 0)\n"
        "    found = [claim for claim in found if claim.batch_id > top]\n"
        "    globals()['_top'] = max([top, *[claim.batch_id for claim in found]])\n"
        "    taken: list[Claim] = []\n",
        ("tests/concurrency/test_fold_races.py",),
    ),
    Mutant(
        "M5",
        "a recompute reads the ledger from the lateness window on only",
        "counters/services/recompute.py",
        "  AND e.ts >= %(since)s AND e.ts < %(until)s\n",
        "  AND e.ts >= %(since)s AND e.ts < %(until)s\n"
        "  AND e.ts > (SELECT max(ts) - interval '12 hours' FROM ledger_event)\n",
        ("tests/counters/test_recut.py",),
    ),
    Mutant(
        "M6",
        "periods include their end",
        "counters/aggregate_sql.py",
        "  ON p.customer_ref = e.customer_ref AND e.ts >= p.period_start AND e.ts < p.period_end\n",
        "  ON p.customer_ref = e.customer_ref AND e.ts > p.period_start AND e.ts <= p.period_end\n",
        ("tests/counters/test_recut.py",),
    ),
    Mutant(
        "M18",
        "a late event is counted and adjusted",
        "counters/services/fold.py",
        "    kept = aggregate_sql.NOT_LATE.format(source=source)\n",
        "    kept = source\n",
        ("tests/counters/test_lateness.py",),
    ),
    Mutant(
        "M19",
        "an adjustment takes effect when it is asked for",
        "counters/services/adjustments.py",
        '    _record(wanted, "created", actor=actor, now=now, before=None)\n',
        '    _apply(wanted)\n    _record(wanted, "created", actor=actor, now=now, before=None)\n',
        ("tests/counters/test_adjustments.py",),
    ),
    Mutant(
        "M20",
        "a cached answer is taken for the truth",
        "counters/selectors/usage.py",
        "        return usage_of_rows(cursor.fetchall())\n",
        "        seen = globals().setdefault('_seen', {})\n"
        "        key = (tenant_id, customer_ref, period, metric_id)\n"
        "        return seen.setdefault(key, usage_of_rows(cursor.fetchall()))\n",
        ("tests/counters/test_usage_reads.py",),
    ),
    Mutant(
        "M21",
        "a replay adds to what is there, so a second one counts again",
        "counters/services/recompute.py",
        "    _clear(KEYS, parameters)\n",
        "",
        ("tests/counters/test_replay.py",),
    ),
    Mutant(
        "M26",
        "periods are cut in UTC whatever the calendar's zone",
        "counters/calendars.py",
        "        zone = ZoneInfo(self.zone)\n        wall",
        '        zone = ZoneInfo("UTC")\n        wall',
        ("tests/counters/test_calendars.py",),
    ),
    Mutant(
        "M27",
        "an anchor that was clamped to a short month stays clamped",
        "counters/calendars.py",
        "            day = min(wall.day, monthrange(year, month + 1)[1])\n",
        "            day = min(wall.day, monthrange(year, month + 1)[1], 28 if steps else 31)\n",
        ("tests/counters/test_calendars.py",),
    ),
]
MUTANTS += [Mutant(*bug) for bug in billing.BUGS]


def _scratch(folder: Path, mutant: Mutant) -> Path:
    tree = folder / mutant.name
    tree.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy2(source, tree / name)
    cache = ROOT / ".pytest_cache"
    if cache.exists():
        shutil.copytree(cache, tree / ".pytest_cache", symlinks=True)
    path = tree / mutant.path
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.find) < 1:
        raise SystemExit(f"{mutant.name}: its text is no longer in {mutant.path}")
    path.write_text(text.replace(mutant.find, mutant.replace), encoding="utf-8")
    return tree


def _caught(mutant: Mutant) -> tuple[Mutant, bool, float, str]:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="stripemeter-mutant-", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        tree = _scratch(Path(folder), mutant)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:randomly", "-n", "0",
             *mutant.tests],
            cwd=tree,
            env={**os.environ, "CI": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    # Only a failed test counts as caught: a tree that cannot be imported proves nothing.
    caught = done.returncode == 1 and bool(failed)
    told = failed[0] if failed else done.stdout[-300:] + done.stderr[-300:]
    return mutant, caught, time.monotonic() - started, told


def main() -> None:
    """Try the named mutants (all, if none is named); exit code 1 if one survives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="M1 M4 …")
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    chosen = [m for m in MUTANTS if not arguments.names or m.name in arguments.names]
    survivors = 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for mutant, caught, seconds, told in pool.map(_caught, chosen):
            survivors += not caught
            verdict = "caught  " if caught else "SURVIVED"
            print(f"{mutant.name:4} {verdict} {seconds:5.0f} s  {mutant.story}", flush=True)
            print(f"     {told}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants caught")
    raise SystemExit(1 if survivors else 0)


if __name__ == "__main__":
    main()
