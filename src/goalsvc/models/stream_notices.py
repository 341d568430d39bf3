"""Presence notices: what a stream is still to be told of a viewer. One document for each stream and viewer.

A later notice replaces an earlier one that was not delivered, and each expires: what is kept is bounded by the number of
viewers, costs the same at any backlog, and makes no document of a user who is not known.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import ClassVar

from pydantic import ConfigDict, Field
from pymongo import ASCENDING, IndexModel

from goalsvc.domain.goals import UserId
from goalsvc.domain.promises import Promise
from goalsvc.domain.reading import Instant
from goalsvc.domain.trace import TracedFollowUp
from goalsvc.models.promise import HasPromises, promises_due, readable_promises

#: A notice that could not be delivered for so long is of no use to anyone: a viewer who joins asks who is there.
LIFE = timedelta(minutes=10)
#: The first try may meet another process that makes the same document.
_TRIES = 2


class PresenceNotice(HasPromises):
    """The last notice of one viewer to one stream, with the promise to deliver it until that is done."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    _identity: ClassVar[type] = str
    expires: ClassVar[bool] = True

    id: str = Field(default="", alias="_id")  # type: ignore[assignment]
    stream: UserId = ""
    user_id: UserId = ""
    at: Instant | None = None
    """When the viewer entered or left."""
    expires_at: Instant | None = None

    class Settings:
        """Where and how Beanie keeps presence notices; MongoDB removes them when they expire."""

        name = "presence_notices"
        keep_nulls = False
        indexes: ClassVar[list[IndexModel]] = [
            promises_due(),
            IndexModel([("expires_at", ASCENDING)], name="end", expireAfterSeconds=0),
        ]

    @classmethod
    def identity_of(cls, stream: str, user_id: str) -> str:
        """The `_id` of that viewer's notice to that stream."""
        return hashlib.sha256(f"{stream}\0{user_id}".encode("utf-8", "surrogatepass")).hexdigest()[:32]

    @classmethod
    async def promise_notices(
        cls, stream: str, user_id: str, at: datetime, follow_ups: Sequence[TracedFollowUp], now: datetime
    ) -> Sequence[Promise]:
        """Promises these notices in place of earlier ones; which of them are promised then, none when a later one is."""
        identity = cls.identity_of(stream, user_id)
        promises = [
            Promise.of(each.follow_up.id, each.follow_up.task, each.follow_up.arguments, now, each.origin)
            for each in follow_ups
        ]
        fields = {"stream": stream, "user_id": user_id, "at": at, "expires_at": now + LIFE}
        update = {"$set": {**fields, "promises": [promise.document() for promise in promises]}}
        for _ in range(_TRIES):
            found = await cls.shared().change(identity, {"at": {"$not": {"$gt": at}}}, update, upsert=True)
            held = {promise.id for promise in readable_promises(found)}
            kept = [promise for promise in promises if promise.id in held]
            if kept or (found is not None and found.get("at", at) > at):
                return kept
        return ()
