"""What the documents say of work that waits, counted for metrics; every query is bounded and served by an index."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from goalsvc.models.audit_figures import AuditFigures, last_audit
from goalsvc.models.database import WITH_PROMISES
from goalsvc.models.goal import Goal
from goalsvc.models.records import DeadLetter

#: More documents of a kind than this are not counted: the figure is then a lower bound, and an alert long since.
MOST_COUNTED = 20_000
_MOST_MILLISECONDS = 5_000


@dataclass(slots=True)
class Census:
    """How much work waits."""

    promises: dict[str, int] = field(default_factory=dict)
    """Task → promises that documents hold."""
    oldest_promise: timedelta = timedelta(0)
    """How long the oldest promise has been due."""
    dead_letters: dict[str, int] = field(default_factory=dict)
    """Task → dead letters that were not redriven."""
    running_clocks: int = 0
    unconfirmed_clocks: int = 0
    """Running clocks that neither a webhook nor Pusher's answer has confirmed for long."""
    audit: AuditFigures | None = None
    """The figures of the last audit of the books; None where none was made."""


async def take_census(now: datetime, confirmed_within: timedelta) -> Census:
    """Counts promises, dead letters and clocks, and reads the last audit's figures.

    Raises PyMongoError when the database does not answer.
    """
    census = Census()
    oldest: datetime | None = None
    for model in WITH_PROMISES.values():
        async for row in await _grouped(model.get_motor_collection(), _PROMISES):
            task = str(row["_id"])
            census.promises[task] = census.promises.get(task, 0) + int(row["count"])
            at = row["oldest"]
            if isinstance(at, datetime) and (oldest is None or at < oldest):
                oldest = at
    if oldest is not None and oldest < now:
        census.oldest_promise = now - oldest
    async for row in await _grouped(DeadLetter.get_motor_collection(), _DEAD_LETTERS):
        census.dead_letters[str(row["_id"])] = int(row["count"])
    census.running_clocks, census.unconfirmed_clocks = await count_clocks(now, confirmed_within)
    census.audit = await last_audit()
    return census


async def count_clocks(now: datetime, confirmed_within: timedelta) -> tuple[int, int]:
    """Returns how many clocks run, and how many of them neither a webhook nor Pusher has confirmed for longer than that."""
    goals: Any = Goal.get_motor_collection()
    bounds = {"limit": MOST_COUNTED, "maxTimeMS": _MOST_MILLISECONDS}
    running: Mapping[str, object] = {"clock.running": True}
    unconfirmed = {**running, "clock.known_at": {"$lt": now - confirmed_within}}
    return await goals.count_documents(running, **bounds), await goals.count_documents(unconfirmed, **bounds)


#: The filter makes the sparse index on `promises.at` serve it.
_PROMISES: list[Mapping[str, object]] = [
    {"$match": {"promises.at": {"$gt": datetime(1970, 1, 1, tzinfo=UTC)}}},
    {"$limit": MOST_COUNTED},
    {"$unwind": "$promises"},
    {"$group": {"_id": "$promises.task", "count": {"$sum": 1}, "oldest": {"$min": "$promises.at"}}},
]
_DEAD_LETTERS: list[Mapping[str, object]] = [
    {"$match": {"state": "dead"}},
    {"$limit": MOST_COUNTED},
    {"$group": {"_id": "$task", "count": {"$sum": 1}}},
]


async def _grouped(collection: Any, pipeline: list[Mapping[str, object]]) -> Any:
    return collection.aggregate(pipeline, maxTimeMS=_MOST_MILLISECONDS)
