"""Roots of the trace and attempts of deliveries as they are committed: MongoDB's change stream, from any place on.

A place is the text of a resume token, or its beginning, which names an instant of the server. Texts of places are in the order
of the changes that they name.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from bson import Timestamp
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

from goalsvc.models.records import TraceSegment
from goalsvc.models.server_errors import UNAUTHORIZED

#: How long the server waits for a change before it says that there is none.
_WAIT_MILLISECONDS = 500
#: The form of a place: the mark of a timestamp, its seconds and its number, and what names the change among those of it.
_PLACE = re.compile(r"82([0-9A-F]{8})([0-9A-F]{8})((?:[0-9A-F]{2}){0,900})")
_WHAT: list[Mapping[str, Any]] = [
    {
        "$match": {
            "$or": [
                {"ns.coll": "traces", "operationType": "insert", "fullDocument.parent": {"$exists": False}},
                {"ns.coll": "deliveries", "updateDescription.updatedFields.tried": {"$exists": True}},
            ]
        }
    }
]


class HistoryLostError(Exception):
    """What followed that place cannot be had any more; changes may be missing."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change: its place, the collection, and the document as it is after it. Without a document, only a place."""

    place: str
    collection: str = ""
    document: Mapping[str, Any] | None = None


def parse_place(text: str) -> str | None:
    """Returns the place of that text; None if it is not the text of a place."""
    return text if _PLACE.fullmatch(text) else None


def seconds_of(place: str) -> int:
    """Returns the server's second that a place is in, since 1970."""
    return int(place[2:10], 16)


async def place_now() -> str:
    """Returns the place after all that is committed. Raises PyMongoError."""
    told = await TraceSegment.get_motor_collection().database.command("ping")
    last = told["operationTime"]
    return f"82{last.time:08X}{last.inc + 1:08X}"


@asynccontextmanager
async def changes_after(place: str) -> AsyncIterator[AsyncIterator[Change]]:
    """Opens a change stream; yields the changes after that place, and at least every half second a place alone.

    The iterator raises HistoryLostError where it cannot be continued there, and PyMongoError.
    """
    parts = _PLACE.fullmatch(place)
    if parts is None:
        raise HistoryLostError
    where: dict[str, Any] = {"resume_after": {"_data": place}}
    if not parts[3]:
        where = {"start_at_operation_time": Timestamp(int(parts[1], 16), int(parts[2], 16))}
    # The server has no change stream of another read concern.
    database = TraceSegment.get_motor_collection().database.with_options(read_concern=ReadConcern("majority"))
    stream = database.watch(_WHAT, full_document="updateLookup", max_await_time_ms=_WAIT_MILLISECONDS, **where)
    try:
        async with aclosing(_read(stream)) as found:
            yield found
    finally:
        await stream.close()


async def _read(stream: Any) -> AsyncGenerator[Change, None]:
    while True:
        try:
            change = await stream.try_next()
        except OperationFailure as error:
            if error.timeout or error.code == UNAUTHORIZED:
                raise
            raise HistoryLostError from error  # what followed is gone, or MongoDB never gave that token out
        place = str((stream.resume_token or {}).get("_data", ""))
        if change is None:
            yield Change(place)
        else:
            yield Change(place, change["ns"]["coll"], change.get("fullDocument"))
