"""Goals: one collection, one class for each kind, and every change of a goal as one conditional write."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Self

from beanie import PydanticObjectId
from bson import ObjectId
from pydantic import ConfigDict, Field
from pymongo import ASCENDING, IndexModel

from goalsvc.models import clock
from goalsvc.models.clock import array_of
from goalsvc.models.promise import OWED, Owing, owe_stage, owed_without_task, promise_expression
from goalsvc.signals.events import PERFORMED, ClockTimes, Conditions, GoalKind, Level, Metadata, UserId, level_of

#: Ids of the promises that every goal may hold once.
ENDED = "goal.ended"

PERFORMED_CLS = [kind.cls for kind in sorted(PERFORMED)]


class Goal(Owing):
    """Something with a progress and levels. Read it freely; change it only by the methods that say what they do."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    kind: ClassVar[GoalKind]

    id: PydanticObjectId | None = Field(default=None, alias="_id")
    active: bool = True
    progress: int = 0
    levels: list[Level] = []
    conditions: Conditions = Conditions()
    context: ClockTimes = ClockTimes()
    metadata: Metadata = Metadata()
    breakdown_id: Any = None
    exp: datetime | None = None
    triggerer: UserId | None = None

    class Settings:
        """Where and how Beanie keeps goals; `_cls` and its values are those of MongoEngine, which others use."""

        name = "goals"
        is_root = True
        class_id = "_cls"
        keep_nulls = False
        indexes: ClassVar[list[IndexModel]] = [
            IndexModel(
                [("conditions.session_id", ASCENDING), ("active", ASCENDING), ("_id", ASCENDING)], name="session"
            ),
            IndexModel([("exp", ASCENDING)], name="expiry", partialFilterExpression={"active": True}),
            IndexModel([("promises.at", ASCENDING)], name="promises", sparse=True),
        ]

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
        """Whose joins and leaves move the clock: the performer's and, for an exclusive, its viewer's."""
        users = {self.metadata.user_id}
        if self.kind is GoalKind.EXCLUSIVE:
            users |= {user for user in (self.conditions.exclusive_to, self.metadata.viewer_id) if user}
        return users

    @property
    def uncounted(self) -> bool:
        """Whether seconds are owed that have not been added to progress yet."""
        return any(p.task == "increment_goal_progress" and p.progress is None for p in self.promises)

    # -- the clock ------------------------------------------------------------------------------------------------

    @classmethod
    async def join(
        cls, goal_id: ObjectId, user_id: str | None, at: datetime, now: datetime, event_id: str, parent: str
    ) -> Self | None:
        """Starts the clock at `at`, unless it runs; only of an active goal, and by one who takes part in it.

        Owes the announcement that it was started, and any seconds that a late join brings.
        """
        where = _participant({"_id": goal_id, "_cls": {"$in": PERFORMED_CLS}, "active": True}, user_id)
        return await cls.change(where, _marked(clock.join_mark(at), at, now, event_id, parent))

    @classmethod
    async def leave(
        cls, goal_id: ObjectId, user_id: str | None, at: datetime, now: datetime, event_id: str, parent: str
    ) -> Self | None:
        """Pauses the clock at `at`, and owes the whole seconds that were performed; by one who takes part in the goal.

        Also of a goal that another service has ended while its clock ran: then these seconds are still to be counted.
        """
        running = {"$expr": {"$gt": ["$context.started", "$context.paused"]}}
        where = _participant({"_id": goal_id, "_cls": {"$in": PERFORMED_CLS}}, user_id)
        where["$and"] = [{"$or": [{"active": True}, running]}]
        return await cls.change(where, _marked(clock.leave_mark(at), at, now, event_id, parent))

    @classmethod
    async def add_progress(cls, goal_id: ObjectId, event_id: str) -> Self | None:
        """Adds the amount that the promise of this event owes to progress, once, and notes in it what that gave.

        None when it has been added before, or is owed no longer.
        """
        counted = {"$add": ["$progress", "$$p.arguments.amount"]}
        noted = {name: f"$$p.{name}" for name in ("id", "task", "arguments", "at", "parent")} | {"progress": counted}
        amounts = {
            "$map": {
                "input": {"$filter": {"input": OWED, "as": "p", "cond": {"$eq": ["$$p.id", event_id]}}},
                "as": "p",
                "in": "$$p.arguments.amount",
            }
        }
        promises = {"$map": {"input": OWED, "as": "p", "in": {"$cond": [{"$eq": ["$$p.id", event_id]}, noted, "$$p"]}}}
        where = {"_id": goal_id, "promises": {"$elemMatch": {"id": event_id, "progress": {"$exists": False}}}}
        # Two stages: the note must see the progress before the amount was added.
        return await cls.change(
            where,
            [
                {"$set": {"progress": {"$ifNull": ["$progress", 0]}}},
                {"$set": {"promises": promises}},
                {"$set": {"progress": {"$add": ["$progress", {"$arrayElemAt": [amounts, 0]}]}}},
            ],
        )

    # -- the end --------------------------------------------------------------------------------------------------

    @classmethod
    async def deactivate(
        cls, goal_id: ObjectId, now: datetime, parent: str, *, extra: Mapping[str, Any] | None = None, **changes: Any
    ) -> Self | None:
        """Ends an active goal: no longer active, `exp` at most now, a running clock paused at this instant.

        Owes the seconds of that pause, and the announcement that the goal has ended. `extra` narrows the filter, `changes`
        are set along. None when the goal was not active, or the filter did not match.
        """
        goal = str(goal_id)
        pause = promise_expression(
            f"{ENDED}:pause",
            "increment_goal_progress",
            {"goal_id": goal, "amount": clock.FIELDS.amount, "event_id": f"{ENDED}:pause"},
            now,
            parent,
        )
        ended = promise_expression(ENDED, "deactivate_goal", {"goal_id": goal}, now, parent)
        paused = {"$or": [clock.FIELDS.paused, {"$gt": [clock.FIELDS.amount, 0]}]}
        update = [
            *clock.stages(clock.leave_mark(now), now, only_if_running=True),
            {"$set": {"active": False, "exp": {"$min": [{"$ifNull": ["$exp", now]}, now]}, **changes}},
            {"$set": {"promises": owed_without_task("deactivate_goal")}},
            owe_stage({"$cond": [paused, array_of(pause), []]}, array_of(ended)),
        ]
        return await cls.change({"_id": goal_id, "active": True, **(extra or {})}, update)

    # -- funding --------------------------------------------------------------------------------------------------

    @classmethod
    async def contribute(
        cls, goal_id: ObjectId, amount: int, target: int, now: datetime, event_id: str, parent: str, session: Any
    ) -> Self | None:
        """Adds a contribution to a FundingGoal that is active, not expired and below its last level; within a transaction.

        Owes the announcement of the progress.
        """
        promise = promise_expression(
            event_id,
            "increment_goal_progress",
            {"goal_id": str(goal_id), "amount": amount, "event_id": event_id},
            now,
            parent,
        ) | {"progress": {"$add": [{"$ifNull": ["$progress", 0]}, amount]}}
        where = {
            "_id": goal_id,
            "_cls": GoalKind.FUNDING.cls,
            "active": True,
            "progress": {"$lt": target},
            "$or": [{"exp": {"$exists": False}}, {"exp": None}, {"exp": {"$gt": now}}],
        }
        update = [owe_stage(array_of(promise)), {"$set": {"progress": {"$add": ["$progress", amount]}}}]
        return await cls.change(where, update, session=session)

    # -- finding --------------------------------------------------------------------------------------------------

    @classmethod
    async def by_id(cls, goal_id: Any) -> "Goal | None":
        """The goal of that id, of whatever kind."""
        return await Goal.find_one({"_id": goal_id}, with_children=True)


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


def _participant(where: dict[str, Any], user_id: str | None) -> dict[str, Any]:
    """Narrows a filter to goals in which this user takes part; an event that names nobody concerns all."""
    if user_id is not None:
        for_viewer = {"_cls": GoalKind.EXCLUSIVE.cls}
        where["$or"] = [
            {"metadata.user_id": user_id},
            {**for_viewer, "conditions.exclusive_to": user_id},
            {**for_viewer, "metadata.viewer_id": user_id},
        ]
    return where


def started_promise(event_id: str) -> str:
    """Id of the promise to announce that this event started the clock."""
    return f"{event_id}:started"


def _marked(mark: int, at: datetime, now: datetime, event_id: str, parent: str) -> Sequence[Mapping[str, Any]]:
    """The update that brings a mark into the clock and owes what follows from it."""
    goal = {"$toString": "$_id"}
    started = promise_expression(
        started_promise(event_id),
        "announce_goal_started",
        {"goal_id": goal, "event_id": event_id, "at": {"$literal": at.isoformat()}},
        now,
        parent,
    )
    seconds = promise_expression(
        event_id,
        "increment_goal_progress",
        {"goal_id": goal, "amount": clock.FIELDS.amount, "event_id": event_id},
        now,
        parent,
    )
    owes_seconds = {"$or": [clock.FIELDS.paused, {"$gt": [clock.FIELDS.amount, 0]}]}
    return [
        *clock.stages(mark, now),
        owe_stage(
            {"$cond": [clock.FIELDS.started, array_of(started), []]},
            {"$cond": [owes_seconds, array_of(seconds), []]},
        ),
    ]
