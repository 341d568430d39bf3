"""The census: figures of the whole service, counted every 15 s by one worker and shown by that worker alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from time import monotonic

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from goalsvc.context import Context
from goalsvc.domain.outcome import Outcome, Reason, Returned
from goalsvc.models.audit_figures import AuditFigures
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
        """Returns all gauges, without figures that mean anything."""
        return iter(_gauges(Census(audit=AuditFigures(at=datetime.fromtimestamp(0, UTC)))))

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
        *(_audit_gauges(census.audit) if census.audit is not None else ()),
    ]


def _audit_gauges(audit: AuditFigures) -> list[GaugeMetricFamily]:
    return [
        GaugeMetricFamily(
            "goalsvc_ledger_imbalance",
            "By how many tokens all accounts together differ from 0, at the last audit.",
            value=audit.imbalance,
        ),
        GaugeMetricFamily(
            "goalsvc_escrow_stuck",
            "Escrows that hold tokens which nothing will free, at the last audit.",
            value=audit.stuck,
        ),
        GaugeMetricFamily(
            "goalsvc_audit_findings", "What was wrong in the books at the last audit.", value=audit.wrong
        ),
        GaugeMetricFamily(
            "goalsvc_audit_timestamp_seconds", "When the books were last audited.", value=audit.at.timestamp()
        ),
    ]
