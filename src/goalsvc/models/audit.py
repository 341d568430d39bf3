"""The audit: one event for every call that changed something. Events are added and never changed."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from beanie import Document, PydanticObjectId
from bson import ObjectId
from pydantic import ConfigDict, Field
from pymongo import ASCENDING, IndexModel

from goalsvc.coalescer import Coalescer
from goalsvc.domain.documents import RawDocument
from goalsvc.models.inserting import insert_each


class AuditEvent(Document):
    """Who changed what, when, by which operation, and what came of it."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    id: PydanticObjectId | None = Field(default=None, alias="_id")
    at: datetime
    key: str
    key_id: str | None = None
    via: str = "api"
    on_behalf_of: str | None = None
    operation: str
    targets: list[str] = []
    reason: str | None = None
    request_id: str
    outcome: str

    class Settings:
        """Where and how Beanie keeps the audit."""

        name = "audit_events"
        keep_nulls = False
        indexes: ClassVar[list[IndexModel]] = [
            IndexModel([("at", ASCENDING), ("_id", ASCENDING)], name="at"),
            IndexModel([("targets", ASCENDING), ("at", ASCENDING), ("_id", ASCENDING)], name="targets"),
            IndexModel([("key", ASCENDING), ("at", ASCENDING), ("_id", ASCENDING)], name="key"),
            IndexModel([("operation", ASCENDING), ("at", ASCENDING), ("_id", ASCENDING)], name="operation"),
            IndexModel([("request_id", ASCENDING)], name="request"),
        ]

    _trips: ClassVar[tuple[object, "Coalescer[_Written]"] | None] = None

    @classmethod
    async def write(cls, event: RawDocument) -> None:
        """Writes the event, in a round trip shared with those written at the same time; returns when it is durable.

        An event that has an `_id` is written once, however often it is handed in. Raises UnusableDocumentError for one that
        cannot be stored, PyMongoError when the database cannot be reached.
        """
        collection = cls.get_motor_collection()
        if cls._trips is None or cls._trips[0] is not collection:  # Beanie has been bound to another database

            async def write(batch: "Sequence[_Written]") -> None:
                faults = await insert_each(collection, [written.event for written in batch])
                for number, written in enumerate(batch):
                    if number in faults:
                        _refuse(written, faults[number])
                    elif not written.done.done():
                        written.done.set_result(None)

            cls._trips = collection, Coalescer("audit events", write, _refuse)
        written = _Written({"_id": ObjectId(), **event}, asyncio.get_running_loop().create_future())
        cls._trips[1].take(written)
        await written.done


@dataclass(frozen=True, slots=True, eq=False)
class _Written:
    event: RawDocument
    done: "asyncio.Future[None]"


def _refuse(written: _Written, error: Exception) -> None:
    if not written.done.done():
        written.done.set_exception(error)
