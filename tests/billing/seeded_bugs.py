"""Seeded bugs: each is planted in a scratch copy, and a named test must fail because of it.

A fault suite that cannot fail proves nothing. ``python -m tests.billing.seeded_bugs [M10 ...]``
prints one line per bug and ends with 1 if any survived.
"""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_IGNORED = shutil.ignore_patterns(
    ".git", ".venv", "node_modules", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"
)


@dataclass(frozen=True, slots=True)
class Bug:
    """One patch of a line or two, and the test that has to notice."""

    name: str
    what: str
    path: str
    right: str
    wrong: str
    test: str


BUGS = (
    Bug(
        "M7",
        "pushed total read and written without a lock",
        "billing/services/plan_sql.py",
        "FOR UPDATE OF k SKIP LOCKED",
        "",
        "test_push_faults.py::test_two_planners_at_once_intend_a_delta_once",
    ),
    Bug(
        "M8",
        "pushed total keyed without customer",
        "billing/services/planning.py",
        "            known[_key(key)].intended[day] = intended",
        "            for facts in known.values():\n                facts.intended[day] = intended",
        "test_pushes.py::test_tenants_and_customers_never_mix",
    ),
    Bug(
        "M9",
        "identifier made of the total",
        "billing/services/planning.py",
        "        sequence = known.next_sequence + len(rows)",
        "        sequence = int(exact_sum([*known.intended.values(), each.delta]))",
        "test_pushes.py::test_a_total_that_returns_to_an_old_value_is_said_each_time",
    ),
    Bug(
        "M10",
        "new identifier on retry",
        "billing/services/delivery.py",
        "            identifier=self.identifier,",
        '            identifier=f"{self.identifier}-{self.attempts}",',
        "test_push_faults.py::test_a_fault_on_the_way_neither_loses_nor_doubles",
    ),
    Bug(
        "M11",
        "duplicate answer taken for an error",
        "billing/services/delivery.py",
        'Reaction("acknowledged" if before else "needs_review", before)',
        'Reaction("parked", before, hold="duplicate")',
        "test_push_faults.py::test_a_stored_500_is_left_behind_by_a_new_http_key",
    ),
    Bug(
        "M12",
        "sent again after 24 hours",
        "billing/services/delivery.py",
        "RESEND_MAX = timedelta(hours=23)",
        "RESEND_MAX = timedelta(hours=230)",
        "test_push_faults.py::test_after_23_hours_nothing_is_sent_again_and_summaries_decide",
    ),
    Bug(
        "M13",
        "somebody else's duplicate swallowed",
        "billing/services/delivery.py",
        '"acknowledged" if before else "needs_review"',
        '"acknowledged"',
        "test_push_faults.py::test_a_duplicate_at_the_first_try_is_not_taken_for_ours",
    ),
    Bug(
        "M14",
        "webhook ended before its effect",
        "billing/services/inbox.py",
        '        event.save(update_fields=["attempts", "not_before"])',
        '        event.status = "processed"\n        event.save()',
        "test_webhooks.py::test_a_subscription_cuts_the_customers_time_and_its_invoice_freezes_it",
    ),
    Bug(
        "M15",
        "newest wins by arrival",
        "billing/services/webhook_effects.py",
        "        found = reading.invoice(mode=bare.mode, account=bare.account,"
        " invoice_id=identifier)",
        '        found = {"status": event.type.partition(".")[2], "lines": {"data": []}, **said}',
        "test_webhooks.py::test_six_events_in_any_order_and_doubled_end_in_the_same_state",
    ),
    Bug(
        "M17",
        "lease without fencing",
        "billing/services/delivery_sql.py",
        "  AND p.state = 'sending' AND p.token = u.token",
        "  AND p.state = 'sending'",
        "test_push_faults.py::test_a_zombie_whose_lease_ran_out_changes_nothing",
    ),
    Bug(
        "M22",
        "shadow writes the live cursor",
        "billing/services/planning.py",
        "        cursor.execute(plan_sql.SLICES, keys)",
        '        keys[4] = ["live"] * len(keys[4])\n        cursor.execute(plan_sql.SLICES, keys)',
        "test_shadow.py::test_toggling_mid_period_loses_and_repeats_nothing",
    ),
    Bug(
        "M28",
        "carry dropped",
        "billing/slicing.py",
        "        wanted = step.floor(total) - exact_sum",
        "        wanted = sum(map(step.floor, totals.values()), Decimal(0)) - exact_sum",
        "test_formulas.py::test_unit_factor_and_carry_never_lose_a_fraction_over_a_rollover",
    ),
)


def is_caught(bug: Bug, scratch: Path) -> bool:
    """Plant the bug in ``scratch``, run its test, take it out again."""
    path = scratch / bug.path
    text = path.read_text(encoding="utf-8")
    if text.count(bug.right) != 1:
        raise SystemExit(f"{bug.name}: the line to break is not in {bug.path} exactly once")
    path.write_text(text.replace(bug.right, bug.wrong), encoding="utf-8")
    try:
        done = subprocess.run(
            [
                sys.executable, "-m", "pytest", f"tests/billing/{bug.test}",
                "-q", "-x", "-p", "no:randomly", "-p", "no:cacheprovider",
            ],
            cwd=scratch,
            capture_output=True,
            check=False,
        )  # fmt: skip
    finally:
        path.write_text(text, encoding="utf-8")
    if done.returncode not in {0, 1}:
        raise SystemExit(f"{bug.name}: pytest could not run\n{done.stdout.decode()[-3000:]}")
    return done.returncode == 1


def main(names: list[str]) -> int:
    """Try the bugs named, or all; the number that survived."""
    survived = 0
    with tempfile.TemporaryDirectory(prefix="seeded-bugs-") as folder:
        scratch = Path(folder) / "copy"
        shutil.copytree(ROOT, scratch, ignore=_IGNORED, symlinks=True)
        scratch.parent.chmod(0o711)
        kept = ROOT / ".pytest_cache"
        if kept.exists():
            (scratch / ".pytest_cache").symlink_to(kept)
        for bug in BUGS:
            if names and bug.name not in names:
                continue
            caught = is_caught(bug, scratch)
            survived += not caught
            print(f"{bug.name:4} {'caught' if caught else 'SURVIVED'}  {bug.what}", flush=True)
    return 1 if survived else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
