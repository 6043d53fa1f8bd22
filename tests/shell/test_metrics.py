"""The exposition adds processes together and forgets no process that ended."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import Client

from stripemeter.lib import exposition, metrics

COUNT = """
import os
from prometheus_client import Counter, Gauge, Histogram
counter = Counter("widgets", "Widgets.", ["kind"])
counter.labels("a").inc(3)
Histogram("size", "Sizes.", buckets=(1, 2)).observe(1.5)
Gauge("newest", "Newest.", multiprocess_mode="mostrecent").set(float(os.environ["VALUE"]))
Gauge("alive", "Alive.", multiprocess_mode="livesum").set(1)
"""


def a_process_counts(folder: Path, value: int) -> None:
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder), "VALUE": str(value)}
    subprocess.run([sys.executable, "-c", COUNT], env=env, check=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(metrics, "scraped_gauges", {})
    return tmp_path


def test_processes_are_added_and_the_dead_are_not_forgotten(folder: Path) -> None:
    a_process_counts(folder, 7)
    a_process_counts(folder, 9)
    first = exposition.render().decode()
    assert 'widgets_total{kind="a"} 6.0' in first
    assert 'size_bucket{le="2.0"} 2.0' in first
    assert "newest 9.0" in first
    assert "alive" not in first  # nobody is
    assert {path.stem.rpartition("_")[2] for path in folder.glob("*.db")} == {"0"}
    a_process_counts(folder, 8)
    second = exposition.render().decode()
    assert 'widgets_total{kind="a"} 9.0' in second
    assert "size_count 3.0" in second
    assert "newest 8.0" in second
    assert exposition.render().decode() == second


@pytest.mark.django_db
def test_every_line_of_the_exposition_parses() -> None:
    Client().get("/health/live")
    answer = Client().get("/metrics")
    assert answer["Content-Type"].startswith("text/plain")
    text = answer.content.decode()
    line = re.compile(r'[a-zA-Z_:][\w:]*(\{([a-z_]+="[^"\n]*",?)*\})? \S+')
    for row in text.splitlines():
        assert row.startswith("#") or line.fullmatch(row), row
    assert 'http_requests_total{method="GET",route="health/live",status_code="200"}' in text
    assert 'queue_lag_seconds{queue="aggregation"} 0.0' in text


def test_a_label_of_customers_choice_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_known", {})
    values = {metrics.bounded("meter", f"meter-{n}") for n in range(1_000)}
    assert len(values) == metrics.LABEL_VALUES_MAX + 1
    assert "other" in values


def test_a_gauge_keeps_its_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "scraped_gauges", {})
    metrics.at_scrape("lag", "Lag.", ("queue",), list)
    with pytest.raises(ValueError, match="labels"):
        metrics.at_scrape("lag", "Lag.", ("tenant",), list)
