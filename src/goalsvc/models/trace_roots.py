"""Roots of the trace, oldest first, for readers that follow what happens."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from pymongo import ASCENDING

from goalsvc.clock import from_epoch_milliseconds, to_epoch_milliseconds
from goalsvc.models.records import TraceSegment

#: Traces are written in batches: what is dated a moment ago may still appear.
SETTLES = timedelta(seconds=1)
_MOST_MILLISECONDS = 3_000
_LONGEST_ID = 128


@dataclass(frozen=True, slots=True)
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

    def __str__(self) -> str:
        return f"{to_epoch_milliseconds(self.at)}-{self.segment}"


async def roots_after(
    place: Place, now: datetime, most: int, kind: str | None = None, request_id: str | None = None
) -> list[tuple[Place, Mapping[str, object]]]:
    """Returns at most so many roots after that place, of one kind or of all, as they are stored, oldest first.

    Roots of the last second are left for the next call; of one request (`request_id`), all that are written are returned.
    Raises PyMongoError.
    """
    where: dict[str, object] = {
        "at": {"$gte": place.at, "$lte": now - SETTLES},
        "$or": [{"at": {"$gt": place.at}}, {"_id": {"$gt": place.segment}}],
        "parent": {"$exists": False},
    }
    if kind is not None:
        where["node.kind"] = kind
    if request_id is not None:
        where |= {"at": {"$gte": place.at}, "node.request_id": request_id}
    found = TraceSegment.get_motor_collection().find(where).sort([("at", ASCENDING), ("_id", ASCENDING)]).limit(most)
    rows = await found.max_time_ms(_MOST_MILLISECONDS).to_list(most)
    return [(Place(row["at"], str(row["_id"])), row) for row in rows]
