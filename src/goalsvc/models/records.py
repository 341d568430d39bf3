"""What is written down for people and their tools: tracking events, escrow figures, traces, dead letters."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

from pydantic import ConfigDict, Field
from pymongo import ASCENDING, IndexModel

from goalsvc.domain.documents import RawDocument
from goalsvc.domain.reading import Instant, Whole
from goalsvc.models.shared import Sharing


class _Record(Sharing):
    """A document whose id is derived from its cause, so that the same is not written down twice."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    _identity: ClassVar[type] = str

    id: str = Field(default="", alias="_id")  # type: ignore[assignment]


class TrackingEvent(_Record):
    """Something that happened, for analytics."""

    name: str
    at: Instant

    class Settings:
        """Where and how Beanie keeps tracking events."""

        name = "tracking_events"
        keep_nulls = False
        indexes: ClassVar[list[IndexModel]] = [
            IndexModel([("name", ASCENDING), ("at", ASCENDING)], name="name"),
            IndexModel([("goal_id", ASCENDING), ("at", ASCENDING)], name="goal", sparse=True),
            IndexModel([("about", ASCENDING), ("at", ASCENDING)], name="about", sparse=True),
        ]


class BiEscrow(_Record):
    """One share of an escrow, for analytics: to whom it goes, and whether it is there."""

    escrow_id: str
    doc_id: str
    user_id: str
    event: str
    state: str
    run: str | None = None
    """Who wrote this last: of several that settle the same share, one finds its own mark here."""
    updated_at: Instant

    class Settings:
        """Where and how Beanie keeps escrow figures."""

        name = "bi_escrows"
        keep_nulls = False
        indexes: ClassVar[list[IndexModel]] = [
            IndexModel([("escrow_id", ASCENDING), ("state", ASCENDING)], name="escrow"),
        ]


class TraceSegment(_Record):
    """A piece of a trace; see `goalsvc.domain.trace`."""

    goal_id: str | None = None
    root: str | None = None
    parent: str | None = None
    at: Instant
    node: RawDocument
    counts: dict[str, Whole] = {}

    class Settings:
        """Where and how Beanie keeps traces. How long is a setting: the index that ends them is made on opening."""

        name = "traces"
        keep_nulls = False
        indexes: ClassVar[list[IndexModel]] = [
            IndexModel([("goal_id", ASCENDING), ("at", ASCENDING)], name="goal", sparse=True),
            IndexModel(
                [("goal_id", ASCENDING), ("root", ASCENDING), ("at", ASCENDING), ("_id", ASCENDING)],
                name="goal_roots",
                sparse=True,
            ),
        ]


class DeadLetter(_Record):
    """A task that was tried for the last time, with all that is needed to try it again."""

    task: str
    arguments: dict[str, object]
    reason: str
    at: Instant
    tries: Whole
    state: str = "dead"
    promise: str | None = None
    parent: str | None = None
    cause: RawDocument = {}
    goal_id: str | None = None
    progress: Whole | None = None
    """What the promise had noted (`Promise.progress`): an amount that was added once is not added again when redriven."""
    failed: dict[str, object] | None = None
    """The step that failed, where it was not the task itself: `{"task", "arguments"}`."""
    history: list[dict[str, object]] = []
    redriven_at: Instant | None = None
    redriven_by: str | None = None
    """The record of the Idempotency-Key, or the group (`rdr_…`), by which it was tried again."""
    redriven_key: str | None = None
    """The name of the key of who tried it again."""

    class Settings:
        """Where and how Beanie keeps dead letters."""

        name = "dead_letters"
        keep_nulls = False
        indexes: ClassVar[list[IndexModel]] = [
            IndexModel([("state", ASCENDING), ("_id", ASCENDING)], name="state"),
            IndexModel([("at", ASCENDING), ("_id", ASCENDING)], name="listed"),
            IndexModel([("state", ASCENDING), ("at", ASCENDING), ("_id", ASCENDING)], name="listed_state"),
            IndexModel([("task", ASCENDING), ("at", ASCENDING), ("_id", ASCENDING)], name="listed_task"),
            IndexModel([("goal_id", ASCENDING), ("state", ASCENDING)], name="goal", sparse=True),
            IndexModel([("redriven_by", ASCENDING)], name="redriven_by", sparse=True),
            IndexModel([("redriven_at", ASCENDING)], name="redriven_at", sparse=True),
        ]

    @classmethod
    async def bury(cls, letter: "DeadLetter") -> None:
        """Writes the letter down. One that is there already keeps what is to be run, and its history.

        A death with other arguments than those that are kept says with which.
        """
        kept = letter.model_dump(
            include={"task", "arguments", "promise", "parent", "cause", "goal_id"}, exclude_none=True
        )
        death = {"at": letter.at, "reason": letter.reason, "tries": letter.tries}
        failed = {"failed": letter.failed} if letter.failed else {}
        noted = {} if letter.progress is None else {"progress": letter.progress}
        # Who has taken it to try it again has not tried this death again, so must not mark it.
        gone = ["taken_by", "taken_until", *([] if failed else ["failed"])]  # what failed in an earlier death
        update: dict[str, object] = {
            "$setOnInsert": kept,
            "$set": {**death, **failed, **noted, "state": "dead"},
            "$push": {"history": {**death, **failed}},
            "$unset": dict.fromkeys(gone, True),
        }
        collection = cls.get_motor_collection()
        other = {"_id": letter.id, "arguments": {"$exists": True, "$ne": letter.arguments}}
        ran = {"$push": {"history": {**death, **failed, "arguments": letter.arguments}}}
        if not (await collection.update_one(other, update | ran)).matched_count:
            await collection.update_one({"_id": letter.id}, update, upsert=True)

    @classmethod
    async def is_dead(cls, letter_id: str) -> bool:
        """Returns whether there is such a letter that was not tried again."""
        return await cls.get_motor_collection().find_one({"_id": letter_id, "state": "dead"}, {"_id": 1}) is not None

    @classmethod
    async def take(cls, letter_ids: Sequence[str], now: datetime, until: datetime, by: str) -> list[dict[str, Any]]:
        """Takes those of these letters that are dead, so that no other call tries them again before `until`.

        Returns them as they are stored. Who took one (`by`) may take it again at once: a repeat goes on where a crash left off.
        """
        collection, these = cls.get_motor_collection(), {"_id": {"$in": list(letter_ids)}, "state": "dead"}
        free = [{"taken_until": None}, {"taken_until": {"$lte": now}}, {"taken_by": by}]
        await collection.update_many({**these, "$or": free}, {"$set": {"taken_by": by, "taken_until": until}})
        return await collection.find({**these, "taken_by": by}).to_list(None)

    @classmethod
    async def leave(cls, letter_ids: Sequence[str], by: str) -> None:
        """Gives back letters that `by` has taken and could not try again."""
        gone = {"$unset": {"taken_by": True, "taken_until": True}}
        await cls.get_motor_collection().update_many({"_id": {"$in": list(letter_ids)}, "taken_by": by}, gone)

    @classmethod
    async def redrive(
        cls, letter_ids: Sequence[str], now: datetime, taker: str, by: str | None, key: str | None
    ) -> None:
        """Marks letters that `taker` has taken as tried again.

        One that has died again meanwhile stays dead; that it was tried again is noted all the same.
        """
        collection, these = cls.get_motor_collection(), {"_id": {"$in": list(letter_ids)}, "state": "dead"}
        given = {name: value for name, value in (("redriven_by", by), ("redriven_key", key)) if value is not None}
        gone = dict.fromkeys(("taken_by", "taken_until", *({"redriven_by", "redriven_key"} - given.keys())), True)
        noted: dict[str, object] = {"redriven_at": now, **given}
        marked = {"$set": {**noted, "state": "redriven"}, "$unset": gone}
        done = await collection.update_many({**these, "taken_by": taker}, marked)
        if done.matched_count < len(letter_ids):
            await collection.update_many({**these, "taken_by": None}, {"$set": noted, "$unset": gone})
