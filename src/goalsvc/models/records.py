"""What is written down for people and their tools: tracking events, escrow figures, traces, dead letters."""

from datetime import datetime
from typing import Any, ClassVar, Self

from beanie import UpdateResponse
from pydantic import ConfigDict, Field
from pymongo import ASCENDING, IndexModel

from goalsvc.models.shared import Sharing


class _Record(Sharing):
    """A document whose id is derived from its cause, so that the same is not written down twice."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    _identity: ClassVar[type] = str

    id: str = Field(default="", alias="_id")  # type: ignore[assignment]


class TrackingEvent(_Record):
    """Something that happened, for analytics."""

    name: str
    at: datetime

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
    updated_at: datetime

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
    at: datetime
    node: dict[str, Any]
    counts: dict[str, int] = {}

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
    arguments: dict[str, Any]
    reason: str
    at: datetime
    tries: int
    state: str = "dead"
    promise: str | None = None
    parent: str | None = None
    cause: dict[str, Any] = {}
    goal_id: str | None = None
    progress: int | None = None
    """What the promise had noted (`Promise.progress`): an amount that was added once is not added again when redriven."""
    failed: dict[str, Any] | None = None
    """The step that failed, where it was not the task itself: `{"task", "arguments"}`."""
    history: list[dict[str, Any]] = []
    redriven_at: datetime | None = None

    class Settings:
        """Where and how Beanie keeps dead letters."""

        name = "dead_letters"
        keep_nulls = False
        indexes: ClassVar[list[IndexModel]] = [
            IndexModel([("state", ASCENDING), ("_id", ASCENDING)], name="state"),
            IndexModel([("at", ASCENDING), ("_id", ASCENDING)], name="listed"),
            IndexModel([("state", ASCENDING), ("at", ASCENDING), ("_id", ASCENDING)], name="listed_state"),
            IndexModel([("goal_id", ASCENDING), ("state", ASCENDING)], name="goal", sparse=True),
        ]

    @classmethod
    async def bury(cls, letter: "DeadLetter") -> None:
        """Writes the letter down. One that is there already keeps what is to be run, and its history."""
        kept = letter.model_dump(
            include={"task", "arguments", "promise", "parent", "cause", "goal_id"}, exclude_none=True
        )
        death = {"at": letter.at, "reason": letter.reason, "tries": letter.tries}
        failed = {"failed": letter.failed} if letter.failed else {}
        noted = {} if letter.progress is None else {"progress": letter.progress}
        update: dict[str, Any] = {
            "$setOnInsert": kept,
            "$set": {**death, **failed, **noted, "state": "dead"},
            "$push": {"history": {**death, **failed}},
        }
        if not failed:
            update["$unset"] = {"failed": True}  # of an earlier death
        await cls.get_motor_collection().update_one({"_id": letter.id}, update, upsert=True)

    @classmethod
    async def bury_once(cls, letter: "DeadLetter") -> bool:
        """Writes the letter down unless it is dead already; whether it was written."""
        if await cls.find_one({"_id": letter.id, "state": "dead"}) is not None:
            return False
        await cls.bury(letter)
        return True

    @classmethod
    async def redrive(cls, letter_id: str, now: datetime, by: str | None = None) -> Self | None:
        """Marks a dead letter as tried again; None when it was, or there is no such letter."""
        query = cls.find_one({"_id": letter_id, "state": "dead"})
        noted = {} if by is None else {"redriven_by": by}
        update = {"$set": {"state": "redriven", "redriven_at": now, **noted}}
        changed: Self | None = await query.update(update, response_type=UpdateResponse.NEW_DOCUMENT)
        return changed
