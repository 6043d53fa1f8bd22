"""The command line against a running service: answers as JSON, exit codes, no stack traces."""

import json
import threading
from datetime import timedelta

import pytest
from click.testing import CliRunner
from django.db import connection

from counters import tasks as counter_tasks
from counters.models import Counter
from counters.services.fold import fold_everything
from counters.services.metrics import MetricSettings, create_metric
from ledger import tasks as ledger_tasks
from reconciliation import tasks as reconciliation_tasks
from stripemeter.cli.app import main
from stripemeter.lib import clock
from stripemeter.lib.instants import rfc3339
from tests.builders.tenancy import make_caller


@pytest.fixture
def run(web, transactional_db):
    make_caller("globex")
    acme = make_caller("acme")

    def call(*arguments, key=acme.plaintext, text=None):
        options = ["--api-url", web.url, "--api-key", key, "--tenant", "acme"]
        return CliRunner().invoke(main, [*options, *arguments], input=text)

    return call


def event(quantity, **fields):
    written = {
        "metric": "calls",
        "customerRef": "c",
        "quantity": quantity,
        "ts": rfc3339(clock.now() - timedelta(minutes=1)),
        **fields,
    }
    return json.dumps(written) + "\n"


def test_the_commands_of_one_working_day(run, tmp_path):
    lines = event(1, idempotencyKey="a") + event(2, idempotencyKey="b")
    sent = run("ingest", "-", text=lines)
    assert (sent.exit_code, json.loads(sent.output)["accepted"]) == (0, 2)
    again = run("ingest", "-", text=lines)
    assert json.loads(again.output)["duplicates"] == 2
    conflict = run("ingest", "-", text=event(3, idempotencyKey="a"))
    assert conflict.exit_code == 1

    table = tmp_path / "old.csv"
    old, new = clock.now() - timedelta(days=3), clock.now() - timedelta(hours=1)
    table.write_text(
        f"id,customer,meter,qty,ts\nk1,c,calls,5,{rfc3339(new)}\nk2,c,calls,7,{rfc3339(old)}\n"
    )
    dry = run("replay", "--input", str(table), "--dry-run")
    assert json.loads(dry.output) == {"total": 2, "considered": 1}
    resent = json.loads(run("replay", "--input", str(table), "--rate", "1000").output)
    assert (resent["sent"], resent["errors"]) == (1, 0)

    planned = run("replay", "--metric", "calls")
    assert json.loads(planned.output)["mode"] == "dry-run"
    listed = run("adjustments", "list")
    assert json.loads(listed.output)["adjustments"] == []
    assert json.loads(run("mappings", "list").output) == []
    made = json.loads(run("apikey", "create", "--scope", "usage:read").output)
    assert made["key"]["scopes"] == ["usage:read"]
    ended = run("apikey", "revoke", made["key"]["id"])
    assert json.loads(ended.output)["key"]["status"] == "revoked"


@pytest.fixture
def worker(transactional_db):
    """Works off long operations beside the test, as the Celery worker does."""
    stop = threading.Event()

    def work():
        while not stop.wait(0.05):
            ledger_tasks.backfill()
            counter_tasks.replay()
            reconciliation_tasks.tick()
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


def test_a_reconciliation_is_followed_to_its_end(run, worker):
    done = run("reconcile", "--wait", "240")
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert (told["run"]["status"], told["run"]["drifting"]) == ("done", 0)
    assert told["summary"]["overall"]["drift_abs"] == 0


def test_a_backfill_and_a_long_replay_are_followed_to_their_end(run, worker, tmp_path):
    table = tmp_path / "old.csv"
    now = clock.now()
    good = f"c,5,{rfc3339(now - timedelta(hours=1))}\n"
    table.write_text("customerRef,quantity,ts\n" + good + "c,many,today\n")
    day = (now - timedelta(hours=1)).date().isoformat()
    asked = ["--metric", "calls", "--period-start", day, "--reason", "old"]
    first = run("backfill", str(table), *asked)
    told = json.loads(first.output)
    assert (first.exit_code, told["acceptedEvents"], told["failedEvents"]) == (1, 1, 1)
    table.write_text("customerRef,quantity,ts\n" + good)
    again = run("backfill", str(table), *asked)
    assert (again.exit_code, json.loads(again.output)["duplicateEvents"]) == (0, 1)

    fold_everything(now=now)
    # So many that a worker has to do it; and wrong, so that there is something to do.
    Counter.objects.update(event_count=2_000_000)
    replayed = run("replay", "--metric", "calls", "--since=-P2D", "--apply")
    assert replayed.exit_code == 0
    assert json.loads(replayed.output)["result"]["countersChanged"] == 1
    assert Counter.objects.get().event_count == 1


def test_refusals_say_why_and_have_their_exit_codes(run):
    foreign = run("mappings", "list", key="sm_live_nonsense")
    assert foreign.exit_code == 2
    assert "Invalid API key" in foreign.output
    refused = run("ingest", "-", text=event(-1))
    assert refused.exit_code == 1
    assert "must not be negative" in refused.output
    assert run("replay").exit_code == 2
    broken = run("ingest", "-", text="{")
    assert "line 1" in broken.output
    assert "Traceback" not in broken.output


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (b"customer,meter,qty,ts\nc,m,1,2026-11-22T10:00:00Z\nc,m,x,2026-11-22T10:00:00Z\n",
         "row 2: qty"),
        (b"customer,meter,ts\nc,m,2026-11-22T10:00:00Z\n", "row 1: qty"),
        (b"customer,meter,qty,ts\nc,m,1,yesterday\n", "row 1: ts"),
        (b"\xff\xfe", "bad.csv: "),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_told_by_its_row(tmp_path, written, told):
    source = tmp_path / "bad.csv"
    source.write_bytes(written)
    sent = CliRunner().invoke(main, ["replay", "--input", str(source), "--window-hours", "999999"])
    assert (sent.exit_code, type(sent.exception)) == (1, SystemExit)
    assert told in sent.output


def test_address_key_and_tenant_may_follow_the_command(web, transactional_db):
    key = make_caller("acme").plaintext
    options = ["--tenant", "acme", "--api-url", web.url, "--api-key", key]
    for command in (["replay", "--metric", "calls"], ["adjustments", "list"]):
        done = CliRunner().invoke(main, [*command, *options])
        assert done.exit_code == 0, done.output


def test_doctor_names_an_unmapped_metric(run):
    create_metric(
        tenant_id=make_caller("acme").tenant.pk,
        name="calls",
        settings=MetricSettings(aggregation="sum"),
        actor="test",
        now=clock.now(),
    )
    found = run("doctor")
    assert "metric calls: is used but not mapped" in found.output
    assert "API key: works for tenant acme" in found.output


def test_explain_config_masks_secrets(run, monkeypatch):
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_live_canary")
    shown = run("explain-config").output
    assert "STRIPE_SECRET_KEY=(set)" in shown
    assert "canary" not in shown
