"""Goals: one collection, one class for each kind, and every change of a goal as one conditional write."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Self

from beanie import PydanticObjectId
from bson import ObjectId
from pydantic import ConfigDict, Field
from pymongo import ASCENDING, IndexModel, ReturnDocument

from goalsvc.domain.goals import CLASSES, ClockTimes, Conditions, GoalKind, Level, Metadata, UserId, level_of
from goalsvc.domain.origin import Origin
from goalsvc.domain.performance import GoalClock
from goalsvc.domain.reading import Flag, Instant, WholePart, instant, mapping
from goalsvc.errors import LedgerBusyError
from goalsvc.models.filters import ACTIVE, earliest
from goalsvc.models.promise import (
    PROMISES,
    HasPromises,
    add_promises_stage,
    array_of,
    promise_expression,
    promises_without_task,
)

#: Ids of the promises that every goal may hold once.
ENDED = "goal.ended"
PAUSED = f"{ENDED}:pause"

#: How often the end of a goal is tried while others move its clock.
_TRIES = 20


class Goal(HasPromises):
    """Something with a progress and levels. Read it freely; change it only by the methods that say what they do."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    kind: ClassVar[GoalKind]
    added_to = ("progress",)

    id: PydanticObjectId | None = Field(default=None, alias="_id")
    active: Flag = True
    progress: WholePart = 0
    levels: list[Level] = []
    conditions: Conditions = Conditions()
    context: ClockTimes = ClockTimes()
    metadata: Metadata = Metadata()
    breakdown_id: Any = None
    exp: Instant | None = None
    triggerer: UserId | None = None
    begin_by: Instant | None = None
    """A funded show that has not started by then ends, and is refunded."""

    class Settings:
        """Where and how Beanie keeps goals; `_cls` and its values are those of MongoEngine, which others use."""

        name = "goals"
        is_root = True
        class_id = "_cls"
        keep_nulls = False
        indexes: ClassVar[list[IndexModel]] = [
            IndexModel(
                [("conditions.session_id", ASCENDING), ("_id", ASCENDING), ("active", ASCENDING)], name="session_id"
            ),
            IndexModel([("active", ASCENDING), ("exp", ASCENDING)], name="active_exp"),
            IndexModel(
                [("conditions.exclusive_to", ASCENDING), ("active", ASCENDING)],
                name="exclusive_to_active",
                partialFilterExpression={"conditions.exclusive_to": {"$exists": True}},
            ),
            IndexModel(
                [("metadata.user_id", ASCENDING), ("active", ASCENDING)],
                name="performer_active",
                partialFilterExpression={"_cls": "Goal.ExclusiveGoal"},
            ),
            IndexModel(
                [("begin_by", ASCENDING), ("active", ASCENDING)],
                name="begin_by_active",
                partialFilterExpression={"begin_by": {"$exists": True}},
            ),
            IndexModel([("promises.at", ASCENDING)], name="promises", sparse=True),
            IndexModel(
                [("clock.running", ASCENDING), ("clock.known_at", ASCENDING)],
                name="running",
                partialFilterExpression={"clock.running": True},
            ),
        ]

    @classmethod
    def is_ours(cls, document: Mapping[str, Any]) -> bool:
        """Whether the document is of one of the kinds; other classes, and subclasses, belong to other services."""
        return document.get("_cls") in CLASSES

    # -- what can be read -----------------------------------------------------------------------------------------

    @property
    def level(self) -> int:
        """How many levels are reached."""
        return level_of(self.levels, self.progress)

    @property
    def target(self) -> int | None:
        """The threshold of the last level; None without levels."""
        return self.levels[-1].target if self.levels else None

    @property
    def participants(self) -> set[str]:
        """Whose presence in the goal's channel is its performance: the performer's and, exclusive, the viewer's."""
        users = {self.metadata.user_id}
        if self.kind is GoalKind.EXCLUSIVE:
            users |= {user for user in (self.conditions.exclusive_to, self.metadata.viewer_id) if user}
        return users

    @property
    def uncounted(self) -> bool:
        """Whether seconds are owed that have not been added to progress yet."""
        return any(p.task == "increment_goal_progress" and p.progress is None for p in self.promises)

    # -- progress -------------------------------------------------------------------------------------------------

    @classmethod
    async def add_progress(cls, goal_id: ObjectId, event_id: str) -> "Goal | None":
        """Adds the amount that the promise of this event owes to progress, once, and notes in it what that gave.

        The goal as it then stands, also when the amount was added before or is owed no longer; None when there is none.
        """
        counted = {"$add": ["$progress", "$$p.arguments.amount"]}
        noted = {name: f"$$p.{name}" for name in ("id", "task", "arguments", "at", "parent", "cause")} | {
            "progress": counted
        }
        amounts = {
            "$map": {
                "input": {"$filter": {"input": PROMISES, "as": "p", "cond": {"$eq": ["$$p.id", event_id]}}},
                "as": "p",
                "in": "$$p.arguments.amount",
            }
        }
        promises = {
            "$map": {"input": PROMISES, "as": "p", "in": {"$cond": [{"$eq": ["$$p.id", event_id]}, noted, "$$p"]}}
        }
        # Two stages: the note must see the progress before the amount was added.
        stages = [
            {"$set": {"progress": {"$ifNull": ["$progress", 0]}}},
            {"$set": {"promises": promises}},
            {"$set": {"progress": {"$add": ["$progress", {"$arrayElemAt": [amounts, 0]}]}}},
        ]
        where = {"promises": {"$elemMatch": {"id": event_id, "progress": {"$exists": False}}}}
        found = await Goal.shared().change(goal_id, where, stages)
        return None if found is None else Goal.parse(found)

    # -- whether the performer is still there ------------------------------------------------------------------------

    @classmethod
    async def seen_performing(cls, goal_id: ObjectId, at: datetime) -> None:
        """Notes that the performer was seen in the goal's channel at `at`, while its clock runs."""
        update = {"$max": {"clock.known_at": at}, "$unset": {"clock.absent_at": True}}
        await cls.get_motor_collection().update_one({"_id": goal_id, "clock.running": True}, update)

    @classmethod
    async def missed(cls, goal_id: ObjectId, at: datetime) -> datetime | None:
        """Notes that the performer was missed at `at`; since when he has been missed, or None when the clock stands."""
        where = {"_id": goal_id, "clock.running": True}
        document = await cls.get_motor_collection().find_one_and_update(
            where, {"$min": {"clock.absent_at": at}}, {"clock.absent_at": 1}, return_document=ReturnDocument.AFTER
        )
        since: datetime | None = document["clock"]["absent_at"] if document is not None else None
        return since

    # -- the end --------------------------------------------------------------------------------------------------

    @classmethod
    async def deactivate(
        cls,
        goal_id: ObjectId,
        now: datetime,
        origin: Origin,
        *,
        extra: Mapping[str, Any] | None = None,
        session: Any = None,
        **changes: Any,
    ) -> Self | None:
        """Ends an active goal: no longer active, `exp` at most now, a running clock paused at this instant.

        Owes the seconds of that pause, and the announcement that the goal has ended. `extra` narrows the filter, `changes`
        are set along. None when the goal was not active, or the filter did not match.
        """
        where = {"_id": goal_id, "_cls": {"$in": CLASSES}, "active": ACTIVE, **(extra or {})}
        goal = str(goal_id)
        ended = promise_expression(ENDED, "deactivate_goal", {"goal_id": goal}, now, origin)
        for _ in range(_TRIES):
            document = await cls.get_motor_collection().find_one(where, {"context": 1, "clock": 1}, session=session)
            if document is None:
                return None
            clock = GoalClock.read(document.get("clock"), document.get("context"))
            moved: dict[str, Any] = {}
            owed = []
            if clock.running:
                clock, turned = clock.ended(now)
                moved = clock_changes(document, clock, ObjectId(), now)["$set"]
                arguments = {"goal_id": goal, "amount": turned.amount, "event_id": PAUSED}
                owed.append(promise_expression(PAUSED, "increment_goal_progress", arguments, now, origin))
            update = [
                {"$set": {"active": False, "exp": earliest("exp", now), **moved, **changes}},
                {"$set": {"promises": promises_without_task("deactivate_goal")}},
                add_promises_stage(*map(array_of, [*owed, ended])),
            ]
            changed = await cls.change({**where, **clock_unmoved(document)}, update, session=session)
            if changed is not None:
                return changed
        raise LedgerBusyError(f"others moved the clock {_TRIES} times in a row")

    # -- finding --------------------------------------------------------------------------------------------------

    @classmethod
    async def by_id(cls, goal_id: Any) -> "Goal | None":
        """The goal of that id, of whatever kind."""
        return await Goal.read(goal_id)

    @classmethod
    async def active_in(cls, session_id: Any, most: int) -> "list[Goal]":
        """The active goals of that session, in the order in which they were made."""
        belongs = {"$in": [session_id, str(session_id)]}
        where = {"conditions.session_id": belongs, "active": ACTIVE, "_cls": {"$in": CLASSES}}
        return await Goal.listed(where, "_id", most)


class FundingGoal(Goal):
    """Viewers contribute tokens until a show is paid for."""

    kind: ClassVar[GoalKind] = GoalKind.FUNDING


class TriggerGoal(Goal):
    """A viewer's request, which the streamer agrees to or declines, or which expires."""

    kind: ClassVar[GoalKind] = GoalKind.TRIGGER


class ShowGoal(Goal):
    """A show: so many performed seconds."""

    kind: ClassVar[GoalKind] = GoalKind.SHOW


class KaraokeGoal(Goal):
    """Songs: performed seconds, shown in the session."""

    kind: ClassVar[GoalKind] = GoalKind.KARAOKE


class ExclusiveGoal(Goal):
    """A private minute for one viewer: performed seconds."""

    kind: ClassVar[GoalKind] = GoalKind.EXCLUSIVE


KINDS: Mapping[GoalKind, type[Goal]] = {
    model.kind: model for model in (FundingGoal, TriggerGoal, ShowGoal, KaraokeGoal, ExclusiveGoal)
}


KINDS_BY_CLS: Mapping[str, type[Goal]] = {kind.cls: model for kind, model in KINDS.items()}


# -- the clock, as a document holds it --------------------------------------------------------------------------------


def clock_unmoved(document: Mapping[str, Any]) -> dict[str, Any]:
    """The filter that holds only while nobody, goalsvc or another service, has moved the clock since this was read."""
    return {
        "clock.revision": mapping(document.get("clock")).get("revision"),
        "context.started": mapping(document.get("context")).get("started"),
    }


def clock_changes(
    document: Mapping[str, Any], clock: GoalClock, revision: ObjectId, updated: datetime | None
) -> dict[str, Any]:
    """The update that brings this clock into that document: `clock`, and what `context` says of it."""
    context = mapping(document.get("context"))
    changes: dict[str, Any] = {"clock": {**clock.document(), "revision": revision, "running": clock.running}}
    if updated is not None:
        changes["clock"]["known_at"] = updated
    for name, value in (("started", clock.started), ("paused", clock.paused)):
        if value is not None and value != context.get(name):
            changes[f"context.{name}"] = value
    before = instant(context.get("last_updated"))
    if updated is not None and (before is None or updated > before):
        changes["context.last_updated"] = updated
    return {"$set": changes}
