"""The text that Prometheus reads: all processes together, and what only the database knows."""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import DatabaseError
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from stripemeter.lib import metrics
from stripemeter.lib.logs import get_logger

log = get_logger(__name__)

CONTENT_TYPE = CONTENT_TYPE_LATEST
SAMPLES_MAX = 2_000


class _ScrapedGauges:
    """Reads every `metrics.at_scrape` source; a source that fails drops its samples only."""

    def collect(self) -> Iterator[Metric]:
        """One family a gauge."""
        for gauge in metrics.scraped_gauges.values():
            family = GaugeMetricFamily(gauge.name, gauge.documentation, labels=gauge.labels)
            for labels, value in scraped(gauge)[:SAMPLES_MAX]:
                family.add_metric(labels, value)
            yield family


def scraped(gauge: metrics.ScrapedGauge) -> list[metrics.Sample]:
    """The samples of one gauge now, from all its sources."""
    samples: list[metrics.Sample] = []
    for source in gauge.sources:
        try:
            samples += source()
        except DatabaseError as error:
            log.warning("scrape.failed", gauge=gauge.name, error=str(error).splitlines()[0])
    return samples


def render() -> bytes:
    """The exposition in text format 0.0.4."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")
    if not folder or not Path(folder).is_dir():
        registry: CollectorRegistry = CollectorRegistry()
        registry.register(_ScrapedGauges())
        return generate_latest(REGISTRY) + generate_latest(registry)
    with _alone(Path(folder)):
        fold_dead_processes(Path(folder))
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
        registry.register(_ScrapedGauges())
        return generate_latest(registry)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One scrape at a time: no reader meets a file that is being folded away."""
    with (folder / "scrape.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fold_dead_processes(folder: Path) -> None:
    """Add the numbers of processes that ended to one file of each kind, and drop theirs.

    Without it every restart leaves files for ever; dropping them would make counters fall.
    """
    dead: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.db")):
        kind, _, pid = path.stem.rpartition("_")
        if kind and pid.isdigit() and int(pid) != 0 and not _lives(int(pid)):
            dead.setdefault(kind, []).append(path)
    for kind, paths in dead.items():
        if not kind.startswith("gauge_") or kind == "gauge_mostrecent":
            _fold(folder, kind, paths)
        for path in paths:
            path.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _fold(folder: Path, kind: str, paths: Iterable[Path]) -> None:
    target, scratch = folder / f"{kind}_0.db", folder / f"{kind}.folding"
    scratch.unlink(missing_ok=True)
    total = MmapedDict(str(scratch))  # type: ignore[no-untyped-call]
    for path in [target, *paths]:
        if not path.exists():
            continue
        for key, value, stamp, _ in MmapedDict.read_all_values_from_file(str(path)):  # type: ignore[no-untyped-call]
            known, known_stamp = total.read_value(key)  # type: ignore[no-untyped-call]
            if kind == "gauge_mostrecent":
                newest = (value, stamp) if stamp >= known_stamp else (known, known_stamp)
                total.write_value(key, *newest)  # type: ignore[no-untyped-call]
            else:
                total.write_value(key, known + value, 0.0)  # type: ignore[no-untyped-call]
    total.close()  # type: ignore[no-untyped-call]
    scratch.replace(target)
