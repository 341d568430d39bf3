"""Traces and tracking events, written in bulk and off the path: no answer and no task waits for them."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import Counter
from pymongo.errors import BulkWriteError, PyMongoError

from goalsvc.models.records import TraceSegment, TrackingEvent

log = logging.getLogger(__name__)

DROPPED = Counter("goalsvc_records_dropped_total", "Traces and tracking events that could not be written.", ["kind"])

#: More than this is not kept in memory while the database does not answer.
_MOST_WAITING = 50_000
_DUPLICATE_KEY = 11000


class BulkRecorder:
    """Takes records and writes them in batches that the load forms by itself."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Mapping[str, Any]]] = {"trace": [], "tracking": []}
        self._writer: asyncio.Task[None] | None = None

    def trace(self, segment: Mapping[str, Any]) -> None:
        """Takes one piece of a trace."""
        self._take("trace", segment)

    def track(self, event: Mapping[str, Any]) -> None:
        """Takes one tracking event; the same `_id` twice is kept once."""
        self._take("tracking", event)

    async def flush(self) -> None:
        """Waits until all that was taken has been written (or could not be)."""
        while self._writer is not None and not self._writer.done():
            await asyncio.shield(self._writer)

    def _take(self, kind: str, record: Mapping[str, Any]) -> None:
        waiting = self._waiting[kind]
        if len(waiting) >= _MOST_WAITING:
            DROPPED.labels(kind).inc()
            return
        waiting.append(record)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all(), name="record writer")

    async def _write_all(self) -> None:
        while any(self._waiting.values()):
            batches, self._waiting = self._waiting, {"trace": [], "tracking": []}
            for kind, batch in batches.items():
                if batch:
                    await self._write(kind, batch)

    async def _write(self, kind: str, batch: Sequence[Mapping[str, Any]]) -> None:
        model = TraceSegment if kind == "trace" else TrackingEvent
        try:
            await model.get_motor_collection().insert_many(batch, ordered=False)
        except BulkWriteError as error:
            errors = (error.details or {}).get("writeErrors", [])
            lost = [e for e in errors if e.get("code") != _DUPLICATE_KEY]
            if lost:
                DROPPED.labels(kind).inc(len(lost))
                log.warning("%d of %d %s records not written: %s", len(lost), len(batch), kind, lost[0].get("errmsg"))
        except PyMongoError as error:
            DROPPED.labels(kind).inc(len(batch))
            log.warning("%d %s records not written: %s", len(batch), kind, error)
