"""Traces and tracking events, written in bulk and off the path: no answer and no task waits for them."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from beanie import Document
from prometheus_client import Counter
from pymongo.errors import PyMongoError

from goalsvc.coalescer import Batches
from goalsvc.models.inserting import insert_each
from goalsvc.models.records import TraceSegment, TrackingEvent

log = logging.getLogger(__name__)

DROPPED = Counter("goalsvc_records_dropped_total", "Traces and tracking events that could not be written.", ["kind"])

Record = Mapping[str, object]
Export = Callable[[Sequence[Record]], None]

#: More than this is not kept in memory while the database does not answer.
_MOST_WAITING = 50_000
#: People and analysts read them, who can wait a moment: what comes within it is one write.
_REST_SECONDS = 0.25


class BulkRecorder:
    """Takes records and writes them in batches that the load forms by itself."""

    def __init__(self, export: Export | None = None) -> None:
        """With `export`, each batch of segments is handed to it as well; it must not raise, and not wait."""
        self._traces = _Kind("trace", TraceSegment, export)
        self._tracking = _Kind("tracking", TrackingEvent)

    def trace(self, segment: Record) -> None:
        """Takes one piece of a trace."""
        self._traces.take(segment)

    def track(self, event: Record) -> None:
        """Takes one tracking event; the same `_id` twice is kept once."""
        self._tracking.take(event)

    async def flush(self) -> None:
        """Waits until all that was taken has been written (or could not be)."""
        await asyncio.gather(self._traces.batches.flush(), self._tracking.batches.flush())


class _Kind:
    """Records of one collection."""

    def __init__(self, kind: str, model: type[Document], export: Export | None = None) -> None:
        self._kind, self._model, self._export = kind, model, export
        DROPPED.labels(kind)  # shown as 0 from the start: Prometheus sees no increase of a series that begins above 0
        self.batches: Batches[Record] = Batches(f"{kind} writer", self._write, rest_seconds=_REST_SECONDS)

    def take(self, record: Record) -> None:
        if len(self.batches) >= _MOST_WAITING:
            DROPPED.labels(self._kind).inc()
            return
        self.batches.take(record)

    async def _write(self, batch: Sequence[Record]) -> None:
        if self._export is not None:
            self._export(batch)
        try:
            faults = await insert_each(self._model.get_motor_collection(), batch)
        except PyMongoError as error:
            self._dropped(len(batch), len(batch), error)
        else:
            if faults:
                self._dropped(len(faults), len(batch), next(iter(faults.values())))

    def _dropped(self, lost: int, of: int, why: object) -> None:
        DROPPED.labels(self._kind).inc(lost)
        log.warning("%d of %d %s records not written: %s", lost, of, self._kind, why)
