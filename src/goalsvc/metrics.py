"""Prometheus metrics of a process: how they are shown, also when several processes share one port."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from threading import Lock
from time import monotonic

import prometheus_client
from prometheus_client import REGISTRY, CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from goalsvc import __version__
from goalsvc.scratch import working_directory

#: prometheus-client writes its numbers to files in this directory, if it is set before the library is imported.
_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"

#: Bounds of durations from a millisecond to ten seconds, and of delays up to the age at which a webhook is refused.
DURATIONS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
DELAYS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 360.0, 900.0)

BUILD = Gauge(
    "goalsvc_build_info",
    "Always 1; which process runs which version.",
    ["process", "version"],
    multiprocess_mode="max",
)
LAG = Gauge(
    "goalsvc_event_loop_lag_seconds",
    "How late the event loop last woke up.",
    ["process"],
    multiprocess_mode="livemax",
)

_LOOK_SECONDS = 1.0


@contextmanager
def shared_between_processes() -> Iterator[None]:
    """Lets the processes that this one starts count together. Enter it before prometheus-client is imported by them."""
    with working_directory("metrics") as directory:
        os.environ[_DIRECTORY] = str(directory)
        try:
            yield
        finally:
            del os.environ[_DIRECTORY]


def introduce(process: str) -> None:
    """Names this process (`api` or `worker`) in `goalsvc_build_info`; leaves out the times at which counters began."""
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    BUILD.labels(process, __version__).set(1)


@asynccontextmanager
async def lag_watched(process: str) -> AsyncIterator[None]:
    """Keeps `goalsvc_event_loop_lag_seconds` of this process until the block is left: one wake-up a second."""
    watching = asyncio.create_task(_watch_lag(process), name="event loop lag")
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _watch_lag(process: str) -> None:
    lag = LAG.labels(process)
    while True:
        rested_at = monotonic()
        await asyncio.sleep(_LOOK_SECONDS)
        lag.set(max(0.0, monotonic() - rested_at - _LOOK_SECONDS))


def exposition() -> bytes:
    """Returns the metrics in Prometheus's text format: of this process, or the sums over all that share its port."""
    shared = os.environ.get(_DIRECTORY)
    if not shared:
        with _one_at_a_time:
            return generate_latest(_WithChildren(_child_directories))
    _forget_the_dead(shared)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


# -- a child process that has no port ---------------------------------------------------------------------------------

#: Where the children of this process count.
_child_directories: list[str] = []
_one_at_a_time = Lock()

#: A directory with more files than this is emptied of what ended processes have counted: something ends again and again.
_MOST_FILES = 200


@contextmanager
def child_counts() -> Iterator[Mapping[str, str]]:
    """Yields what to add to the environment of a child, so that `exposition` shows what it counts, until the block is left."""
    if os.environ.get(_DIRECTORY):
        yield {}  # it is inherited, and shared already
        return
    with working_directory("metrics") as made:
        directory = str(made)
        _child_directories.append(directory)
        try:
            yield {_DIRECTORY: directory}
        finally:
            _child_directories.remove(directory)


class _WithChildren(Collector):
    """This process's metrics and those of its children: what is counted is added, of gauges the greatest holds."""

    def __init__(self, directories: list[str]) -> None:
        self._directories = directories

    def collect(self) -> Iterator[Metric]:
        """Returns each metric once."""
        found = {metric.name: metric for metric in REGISTRY.collect()}
        for directory in self._directories:
            _forget_the_dead(directory)
            children: Collector = MultiProcessCollector(None, directory)  # type: ignore[no-untyped-call]
            for metric in children.collect():
                own = found.get(metric.name)
                found[metric.name] = metric if own is None else _added(own, metric)
        yield from found.values()


def _added(one: Metric, other: Metric) -> Metric:
    added = Metric(one.name, one.documentation, one.type)
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for sample in (*one.samples, *other.samples):
        key = sample.name, tuple(sorted(sample.labels.items()))
        known = values.get(key)
        together = max if one.type == "gauge" else float.__add__
        values[key] = float(sample.value) if known is None else together(known, float(sample.value))
    for (name, labels), value in values.items():
        added.add_sample(name, dict(labels), value)
    return added


def _forget_the_dead(directory: str) -> None:
    """Drops the gauges of processes that have ended; what they counted stays counted."""
    files = list(Path(directory).glob("*.db"))
    for pid in {file.stem.rpartition("_")[2] for file in files}:
        if not _lives(pid):
            with suppress(FileNotFoundError):  # another process of the same port forgets it at the same time
                mark_process_dead(pid, directory)  # type: ignore[no-untyped-call]
            for file in files if len(files) > _MOST_FILES else ():
                if file.stem.endswith(f"_{pid}"):
                    file.unlink(missing_ok=True)


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
