"""The event log: events in one order that a reader can follow without missing one.

An event is written by the transaction of its change, or before the promise of its change is fulfilled; at that time it has
no place in the order. Places (`sequence`) are given afterwards, in batches: one transaction takes the counter and numbers
all events that are committed and have none. So what is numbered is always a prefix, and an event that commits late gets a
later place. Who reads gives the places: readers of the feed, and the couriers of workers. Writers do not wait for it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Protocol, TypeVar

from beanie import Document
from pydantic import ConfigDict, Field
from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument, UpdateOne
from pymongo.errors import DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern

from goalsvc.coalescer import Coalescer
from goalsvc.database_session import DatabaseSession
from goalsvc.domain.events import Event
from goalsvc.domain.reading import whole
from goalsvc.errors import CursorExpiredError, GoalsvcError
from goalsvc.models.inserting import insert_each

log = logging.getLogger(__name__)

T = TypeVar("T")

#: How many events get their places in one transaction.
_BATCH = 1000
#: How often a process looks for events of other processes while a reader waits.
_LOOK_SECONDS = 0.1

_COUNTER = "events"
#: The filter of an event that has its place; a place of another type is none. An array would match beyond its bounds: one
#: item is above the lower bound, another below the upper one.
_A_PLACE = {"$type": ["int", "long"], "$not": {"$type": "array"}}


class EventDocument(Document):
    """An event as it is stored. `sequence` is absent, and `pending` true, until it has its place in the order."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    id: str = Field(default="", alias="_id")  # type: ignore[assignment]
    type: str
    created_at: datetime
    sequence: int | None = None
    pending: bool | None = None
    goal_id: str | None = None
    session_id: str | None = None
    user_ids: list[str] = []
    data: dict[str, object] = {}
    cause: dict[str, object] = {}

    class Settings:
        """Where and how Beanie keeps events. How long is a setting: the index that ends them is made on opening."""

        name = "events"
        keep_nulls = False
        indexes: ClassVar[list[IndexModel]] = [
            IndexModel([("sequence", ASCENDING)], name="sequence", sparse=True),
            # Entries of equal keys are in the order of insertion: an effect is numbered after what it follows from.
            IndexModel([("pending", ASCENDING)], name="pending", partialFilterExpression={"pending": True}),
            *(
                IndexModel([(field, ASCENDING), ("sequence", ASCENDING)], name=name, sparse=True)
                for field, name in (
                    ("type", "type"),
                    ("goal_id", "goal"),
                    ("session_id", "session"),
                    ("user_ids", "users"),
                )
            ),
        ]


class Counter(Document):
    """A number that only rises: how many places of the event log are taken, and how far they have been delivered."""

    id: str = Field(default="", alias="_id")  # type: ignore[assignment]
    position: int = 0

    class Settings:
        """Where and how Beanie keeps counters."""

        name = "counters"
        keep_nulls = False

    @classmethod
    async def read(cls, name: str) -> int:
        """The number, as the majority of the replica set knows it; 0 for one that was never raised."""
        collection = cls.get_motor_collection().with_options(read_concern=ReadConcern("majority"))
        found = await collection.find_one({"_id": name}, {"position": 1})
        return int(found.get("position", 0)) if found else 0

    @classmethod
    async def raise_to(cls, name: str, position: int) -> None:
        """Raises the number to `position`, unless it is higher."""
        await cls.get_motor_collection().update_one({"_id": name}, {"$max": {"position": position}}, upsert=True)


class Transactions(Protocol):
    """Runs work in a transaction (`goalsvc.models.database.Database`)."""

    async def transaction(self, work: Callable[[DatabaseSession], Awaitable[T]]) -> T:
        """Runs `work(session)`; all of it happens, or nothing."""
        ...


@dataclass(slots=True)
class _Waiting:
    documents: Sequence[Mapping[str, object]]
    written: "asyncio.Future[None]"


@dataclass(frozen=True, slots=True)
class FeedPage:
    """Events of the feed, and the place after which the next page begins."""

    events: Sequence[Mapping[str, Any]]
    next: int


@dataclass(frozen=True, slots=True)
class PastPage:
    """Events from the newest to the oldest, and the place before which the next page begins; None when there is no more."""

    events: Sequence[Mapping[str, object]]
    next: int | None


class EventLog:
    """Writes events, gives them their places, and reads them in order."""

    def __init__(self, database: Transactions) -> None:
        self._database = database
        self._writes: Coalescer[_Waiting] = Coalescer("event writes", self._write, _refuse)
        self._numbering = asyncio.Lock()
        self._moved = asyncio.Condition()
        self._watching: asyncio.Task[None] | None = None
        self._readers = 0
        self._position = 0

    # -- writing --------------------------------------------------------------------------------------------------

    async def write(self, events: Sequence[Event], session: DatabaseSession | None = None) -> None:
        """Writes events that are not written yet; in the transaction of `session`, or by itself: then they are durable.

        Raises PyMongoError when the database cannot be reached, UnusableDocumentError for an event that cannot be stored.
        """
        if not events:
            return
        if session is not None:
            await insert_events(events, session)
        else:
            documents = [_unplaced(event) for event in events]
            waiting = _Waiting(documents, asyncio.get_running_loop().create_future())
            self._writes.take(waiting)
            await waiting.written

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        documents = {document["_id"]: document for waiting in batch for document in waiting.documents}
        found = await insert_each(EventDocument.get_motor_collection(), list(documents.values()))
        ids = list(documents)
        faults = {ids[number]: fault for number, fault in found.items()}
        for waiting in batch:
            fault = next((faults[one["_id"]] for one in waiting.documents if one["_id"] in faults), None)
            if fault is not None:
                _refuse(waiting, fault)
            elif not waiting.written.done():
                waiting.written.set_result(None)

    # -- the order ------------------------------------------------------------------------------------------------

    async def number(self) -> int:
        """Gives a place to every event that is committed by now and has none; how many places are taken then."""
        async with self._numbering:
            collection, full = EventDocument.get_motor_collection(), True
            # What is committed meanwhile is left to the next look: at a steady load there would be no end.
            while full and await collection.find_one({"pending": True}, {"_id": 1}) is not None:
                with contextlib.suppress(DuplicateKeyError):  # another process made the counter at this moment
                    full = await self._database.transaction(self._number_batch) == _BATCH
            position = await Counter.read(_COUNTER)
        if position != self._position:
            async with self._moved:
                self._position = position
                self._moved.notify_all()
        return position

    @staticmethod
    async def _number_batch(session: DatabaseSession) -> int:
        """Within a transaction: numbers a batch; how many. The counter is touched first, so two at a time cannot get far."""
        counters, events = Counter.get_motor_collection(), EventDocument.get_motor_collection()
        counter = await counters.find_one_and_update(
            {"_id": _COUNTER},
            {"$inc": {"batches": 1}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
            session=session,
        )
        place = int(counter.get("position", 0))
        found = await events.find({"pending": True}, {"_id": 1}, session=session).limit(_BATCH).to_list(None)
        if not found:
            return 0
        numbered = [
            UpdateOne({"_id": event["_id"]}, {"$set": {"sequence": number}, "$unset": {"pending": True}})
            for number, event in enumerate(found, place + 1)
        ]
        await events.bulk_write(numbered, ordered=False, session=session)
        await counters.update_one({"_id": _COUNTER}, {"$set": {"position": place + len(found)}}, session=session)
        return len(found)

    # -- reading --------------------------------------------------------------------------------------------------

    async def page(self, after: int | None, where: Mapping[str, object], limit: int) -> FeedPage:
        """The events after that place that match, in order; from the oldest on where `after` is None.

        Raises CursorExpiredError when events after that place have been deleted.
        """
        position = await self.number()
        begin = after or 0
        collection = EventDocument.get_motor_collection().with_options(read_concern=ReadConcern("majority"))
        range_ = {"sequence": {"$gt": begin, "$lte": position, **_A_PLACE}}
        found = await collection.find({**where, **range_}).sort("sequence", ASCENDING).limit(limit + 1).to_list(None)
        if after is not None and begin < position and (not found or found[0]["sequence"] != begin + 1):
            oldest = await self.oldest(position)
            if begin < oldest:
                raise CursorExpiredError(oldest)
        if len(found) <= limit:
            return FeedPage(found, max(begin, position))
        shown = await self._with_whole_places(found, where, limit)
        return FeedPage(shown, int(shown[-1]["sequence"]))

    @staticmethod
    async def _with_whole_places(
        found: Sequence[Mapping[str, Any]], where: Mapping[str, object], limit: int
    ) -> Sequence[Mapping[str, Any]]:
        """Returns a page of `limit` events, of those found and one more; all of a place that another service took twice."""
        last = found[limit - 1]["sequence"]
        if found[limit]["sequence"] != last:
            return found[:limit]
        collection = EventDocument.get_motor_collection().with_options(read_concern=ReadConcern("majority"))
        others = [event for event in found[:limit] if event["sequence"] != last]
        return [*others, *await collection.find({**where, "sequence": last}).to_list(None)]

    async def page_back(self, before: int | None, where: Mapping[str, object], limit: int) -> PastPage:
        """Returns the matching events before that place, the newest first; without a place, the newest of all."""
        end = await self.number() + 1 if before is None else before
        collection = EventDocument.get_motor_collection().with_options(read_concern=ReadConcern("majority"))
        query = collection.find({**where, "sequence": {"$gt": 0, "$lt": end, **_A_PLACE}}).sort("sequence", DESCENDING)
        found = await query.limit(limit + 1).to_list(None)
        if len(found) <= limit:
            return PastPage(found, None)
        shown = await self._with_whole_places(found, where, limit)
        return PastPage(shown, int(shown[-1]["sequence"]))

    async def oldest(self, position: int) -> int:
        """The place after which every event is still stored; at most `position`, whatever place another service invents."""
        of_ours = {"sequence": {"$gt": 0, "$lte": position, **_A_PLACE}}
        query = EventDocument.get_motor_collection().find(of_ours, {"sequence": 1})
        first = await query.sort("sequence", ASCENDING).limit(1).to_list(None)
        return int(first[0]["sequence"]) - 1 if first else position

    async def place_of(self, event_id: str) -> int | None:
        """The place of that event, at most the last one that is taken; None when there is no such event."""
        found = await EventDocument.get_motor_collection().find_one({"_id": event_id}, {"sequence": 1})
        if found is not None and found.get("sequence") is None:
            await self.number()
            found = await EventDocument.get_motor_collection().find_one({"_id": event_id}, {"sequence": 1})
        place = None if found is None else whole(found.get("sequence"))
        if place is None or place <= self._position:
            return place
        return min(place, await self.number())

    async def moved_on(self, position: int, within_seconds: float) -> bool:
        """Waits until a place after `position` is taken, by whatever process; False when that took too long."""
        self._readers += 1
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch(), name="event watch")
        try:
            async with asyncio.timeout(within_seconds), self._moved:
                await self._moved.wait_for(lambda: self._position > position)
        except TimeoutError:
            return False
        finally:
            self._readers -= 1
        return True

    async def _watch(self) -> None:
        while self._readers:
            try:
                await self.number()
            except (PyMongoError, GoalsvcError) as error:
                log.warning("the event log cannot be read at the moment: %s", error)
            await asyncio.sleep(_LOOK_SECONDS)

    async def close(self) -> None:
        """Stops what goes on in the background."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)


def _unplaced(event: Event) -> dict[str, object]:
    return event.document() | {"pending": True}


async def insert_events(events: Sequence[Event], session: DatabaseSession) -> None:
    """Writes events in the transaction of their change; the next reader gives them their places."""
    await EventDocument.get_motor_collection().insert_many(list(map(_unplaced, events)), session=session)


def _refuse(waiting: _Waiting, error: Exception) -> None:
    if not waiting.written.done():
        waiting.written.set_exception(error)
