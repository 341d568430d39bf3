"""The census: figures of the whole service, counted every 15 s by one worker and shown by that worker alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from goalsvc.context import Context
from goalsvc.domain.outcome import Outcome, Reason, Returned
from goalsvc.models.census import Census, take_census
from goalsvc.tasks.task import Task, task

EVERY_SECONDS = 15.0
#: Figures that are older are not shown: another worker has taken the census since.
_SHOWN_SECONDS = 2.5 * EVERY_SECONDS


class CensusFigures(Collector):
    """The last census that this process took, as gauges, for as long as it is recent."""

    def __init__(self) -> None:
        self._census: Census | None = None
        self._taken_at = 0.0

    def show(self, census: Census) -> None:
        """Shows this census from now on."""
        self._census, self._taken_at = census, monotonic()

    @contextmanager
    def shown_by(self, registry: CollectorRegistry) -> Iterator[None]:
        """Lets scrapes of this registry find the figures, until the block is left."""
        registry.register(self)
        try:
            yield
        finally:
            registry.unregister(self)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Returns the gauges without figures."""
        return iter(_gauges(Census()))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Returns the gauges; none when this process took no recent census."""
        if self._census is not None and monotonic() - self._taken_at < _SHOWN_SECONDS:
            yield from _gauges(self._census)


def make_census(figures: CensusFigures) -> Task[[]]:
    """Returns the periodic task that takes the census for these figures."""

    @task()
    async def count_what_waits(context: Context) -> Outcome:
        """Counts promises, dead letters and clocks for the metrics of this process."""
        confirmed_within = timedelta(seconds=3 * context.settings.reconcile_seconds)
        figures.show(await take_census(context.clock.now(), confirmed_within))
        return Returned(Reason.ALREADY_DONE)  # nothing is changed, so no trace is written

    return count_what_waits


def _gauges(census: Census) -> list[GaugeMetricFamily]:
    promises = GaugeMetricFamily("goalsvc_promises_owed", "Promises that documents hold.", labels=["task"])
    for name, count in census.promises.items():
        promises.add_metric([name], count)
    letters = GaugeMetricFamily("goalsvc_dead_letters", "Dead letters that wait for an operator.", labels=["task"])
    for name, count in census.dead_letters.items():
        letters.add_metric([name], count)
    oldest = census.oldest_promise.total_seconds()
    return [
        promises,
        letters,
        GaugeMetricFamily("goalsvc_promises_oldest_seconds", "How long the oldest promise has been due.", value=oldest),
        GaugeMetricFamily("goalsvc_clocks_running", "Clocks of goals that run.", value=census.running_clocks),
        GaugeMetricFamily(
            "goalsvc_clocks_unconfirmed",
            "Running clocks that neither a webhook nor Pusher's answer has confirmed for long.",
            value=census.unconfirmed_clocks,
        ),
    ]
