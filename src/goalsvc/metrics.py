"""Prometheus metrics of a process: how they are shown, also when several processes share one port."""

import os
import tempfile

import prometheus_client
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from goalsvc import __version__

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


def share_between_processes() -> None:
    """Lets the processes that this one starts count together. Call it before prometheus-client is imported by them."""
    os.environ[_DIRECTORY] = tempfile.mkdtemp(prefix="goalsvc-metrics-")


def introduce(process: str) -> None:
    """Names this process (`api` or `worker`) in `goalsvc_build_info`; leaves out the times at which counters began."""
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    BUILD.labels(process, __version__).set(1)


def exposition() -> bytes:
    """Returns the metrics in Prometheus's text format: of this process, or the sums over all that share its port."""
    if not os.environ.get(_DIRECTORY):
        return generate_latest()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
