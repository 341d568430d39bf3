"""Roots of the trace, for readers that follow what happens, and for those that know the id of a request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from pymongo import ASCENDING

from goalsvc import request_id as request_ids
from goalsvc.clock import from_epoch_milliseconds, to_epoch_milliseconds
from goalsvc.models.bounded import MOST_MILLISECONDS
from goalsvc.models.records import TraceSegment

#: Traces are written in batches: what is dated a moment ago may still appear.
SETTLES = timedelta(seconds=1)
_LONGEST_ID = 128
#: A request has arrived after 20 s at most, and begins its trace then; clocks of one machine may step back by a second.
_BEFORE_SECONDS, _BEHIND_SECONDS = 1, 25
#: The id that a caller chose says no time: it is looked for among so many of the latest segments.
MOST_LOOKED_THROUGH = 10_000
_MOST_OF_ONE_REQUEST = 1_000


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a reader is; as text, a cursor."""

    at: datetime
    segment: str = ""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Returns the place of that text; None if it is not the text of a place."""
        milliseconds, _, segment = text.partition("-")
        if milliseconds.isascii() and milliseconds.isdecimal() and len(milliseconds) < 15:
            return cls(from_epoch_milliseconds(int(milliseconds)), segment[:_LONGEST_ID])
        return None

    @classmethod
    def of(cls, root: Mapping[str, Any]) -> Self:
        """Returns the place of that root."""
        return cls(root["at"], str(root["_id"]))

    def __str__(self) -> str:
        return f"{to_epoch_milliseconds(self.at)}-{self.segment}"


async def roots_after(
    place: Place, now: datetime, most: int, kind: str | None = None
) -> list[tuple[Place, Mapping[str, object]]]:
    """Returns at most so many roots after that place, of one kind or of all, as they are stored, oldest first.

    Roots of the last second are left for the next call. Raises PyMongoError.
    """
    where: dict[str, object] = {
        "at": {"$gte": place.at, "$lte": now - SETTLES},
        "$or": [{"at": {"$gt": place.at}}, {"_id": {"$gt": place.segment}}],
        "parent": {"$exists": False},
    }
    if kind is not None:
        where["node.kind"] = kind
    found = TraceSegment.get_motor_collection().find(where).sort([("at", ASCENDING), ("_id", ASCENDING)]).limit(most)
    rows = await found.max_time_ms(MOST_MILLISECONDS).to_list(most)
    return [(Place.of(row), row) for row in rows]


async def roots_of_request(request_id: str, kind: str | None = None) -> Sequence[Mapping[str, object]]:
    """Returns the roots that the request of that id left, oldest first: its webhook's events, its refusal, or its call.

    Ids of segments are in the order of time, as are the ids that goalsvc gives requests: some seconds of the trace are read.
    No index is needed, which each webhook would pay for. An id that the caller chose is found among the latest segments only.
    Raises PyMongoError.
    """
    where = {"node.request_id": request_id, "parent": {"$exists": False}, **({"node.kind": kind} if kind else {})}
    made_at = request_ids.made_at(request_id)
    if made_at is not None:
        second = int(made_at.timestamp())
        begin, end = f"{max(second - _BEFORE_SECONDS, 0):08x}", f"{second + _BEHIND_SECONDS:08x}"
        found = await _roots([{"$match": {"_id": {"$gte": begin, "$lt": end}}}], where)
        if found:
            return found
    return await _roots([{"$sort": {"_id": -1}}, {"$limit": MOST_LOOKED_THROUGH}], where)


async def _roots(among: Sequence[Mapping[str, object]], where: Mapping[str, object]) -> Sequence[Mapping[str, object]]:
    stages = [
        *among,
        {"$match": where},
        {"$sort": {"at": 1, "_id": 1}},
        {"$limit": _MOST_OF_ONE_REQUEST},
    ]
    cursor = TraceSegment.get_motor_collection().aggregate(stages, maxTimeMS=MOST_MILLISECONDS)
    rows: list[Mapping[str, object]] = await cursor.to_list(None)
    return rows
