"""Goals: one collection, one class for each kind, and every change of a goal as one conditional write."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import ClassVar, Self

from beanie import PydanticObjectId
from bson import ObjectId
from pydantic import ConfigDict, Field
from pymongo import IndexModel

from goalsvc.database_session import DatabaseSession
from goalsvc.domain.documents import Query, RawDocument, Stored
from goalsvc.domain.goals import (
    CLASSES,
    PERFORMED_CLASSES,
    ClockTimes,
    Conditions,
    GoalKind,
    HasLevels,
    Level,
    Metadata,
    UserId,
)
from goalsvc.domain.origin import Origin
from goalsvc.domain.performance import LATE_FOR, GoalClock, Rule, Turned
from goalsvc.domain.reading import Flag, Instant, WholePart, instant, mapping, sequence, whole, whole_part
from goalsvc.errors import LedgerBusyError, NotYetError
from goalsvc.models.filters import ACTIVE, counts, equal_to, objects_stage
from goalsvc.models.goal_indexes import INDEXES
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
SEALED = f"{ENDED}:seal"

#: How often the end of a goal is tried while others move its clock.
_TRIES = 20

#: What is read of a goal whose clock is to change.
_CLOCK_FIELDS = {"_cls": 1, "context": 1, "clock": 1, "exp": 1, "progress": 1, "levels": 1}


class Goal(HasPromises, HasLevels):
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
    breakdown_id: object = None
    exp: Instant | None = None
    triggerer: UserId | None = None
    created_at: Instant | None = None
    changed_at: Instant | None = None
    """When a caller changed it last."""

    decided_at: Instant | None = None
    """The latest time, by the clock of any process, by which contributions to it were decided."""

    payers_told: WholePart | None = None
    """Viewers whose contributions raised progress up to this were told of their debits."""
    payers_upto: WholePart = 0
    """How far those are told who are being told now."""
    begin_by: Instant | None = None
    """A funded show that has not started by then ends, and is refunded."""

    class Settings:
        """Where and how Beanie keeps goals; `_cls` and its values are those of MongoEngine, which others use."""

        name = "goals"
        is_root = True
        class_id = "_cls"
        keep_nulls = False
        indexes: ClassVar[list[IndexModel]] = INDEXES

    @classmethod
    def is_ours(cls, document: Mapping[str, object]) -> bool:
        """Whether the document is of one of the kinds; other classes, and subclasses, belong to other services."""
        return document.get("_cls") in CLASSES

    # -- what can be read -----------------------------------------------------------------------------------------

    @property
    def performance(self) -> GoalClock:
        """The goal's clock: its marks, and what they mean."""
        clock = self._clock_fields
        context = self.context.model_dump(exclude_none=True)
        document = {"_cls": self.kind.cls, "clock": clock or None, "context": context, "exp": self.exp}
        return clock_in(document)

    @property
    def settles_at(self) -> datetime | None:
        """Until when what depends on the seconds of this ended goal waits for late webhooks; None: it does not wait."""
        return None if self._clock_fields.get("sealed") else instant(self._clock_fields.get("settle_at"))

    @property
    def settled_because(self) -> str:
        """Why the clock of this ended goal was sealed when it was; empty where nothing had to be decided."""
        why = self._clock_fields.get("sealed_because")
        return why if isinstance(why, str) else ""

    @property
    def clock_revision(self) -> object:
        """What changes with each change of the clock."""
        return self._clock_fields.get("revision")

    @property
    def _clock_fields(self) -> Mapping[str, object]:
        return mapping((self.model_extra or {}).get("clock"))

    @property
    def participants(self) -> set[str]:
        """The users whose presence in the channel is the performance: the performer, and the viewer of an ExclusiveGoal."""
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
        amount = {"$toLong": "$$p.arguments.amount"}  # also where another driver wrote a double or a decimal
        counted = {"$add": ["$progress", amount]}
        noted = {name: f"$$p.{name}" for name in ("id", "task", "arguments", "at", "parent", "cause")} | {
            "progress": counted
        }
        amounts = {
            "$map": {
                "input": {"$filter": {"input": PROMISES, "as": "p", "cond": {"$eq": ["$$p.id", event_id]}}},
                "as": "p",
                "in": amount,
            }
        }
        promises = {
            "$map": {"input": PROMISES, "as": "p", "in": {"$cond": [{"$eq": ["$$p.id", event_id]}, noted, "$$p"]}}
        }
        # Two stages: the note must see the progress before the amount was added.
        stages: list[Query] = [
            {"$set": {"progress": {"$cond": [{"$isNumber": "$progress"}, "$progress", 0]}}},
            {"$set": {"promises": promises}},
            {"$set": {"progress": {"$add": ["$progress", {"$arrayElemAt": [amounts, 0]}]}}},
        ]
        where = {"promises": {"$elemMatch": {"id": event_id, "progress": {"$exists": False}}}}
        found = await Goal.shared().change(goal_id, where, stages)
        return None if found is None else Goal.parse(found)

    # -- the end --------------------------------------------------------------------------------------------------

    @classmethod
    async def deactivate(
        cls,
        goal_id: ObjectId,
        now: datetime,
        origin: Origin,
        *,
        extra: Mapping[str, object] | None = None,
        session: DatabaseSession | None = None,
        **changes: object,
    ) -> Self | None:
        """Ends an active goal at min(now, `exp`): no longer active, a running clock paused at that instant.

        Promises the announcement that the goal has ended. The clock is sealed at once, and the seconds that ran until the end
        are promised, where no late webhook can matter: the target is reached, or the end is long ago. `extra` narrows the
        filter, `changes` are set along. None when the goal was not active, or the filter did not match.
        """
        where = {"_id": goal_id, "_cls": {"$in": CLASSES}, "active": ACTIVE, **(extra or {})}
        ended = promise_expression(ENDED, "deactivate_goal", {"goal_id": str(goal_id)}, now, origin)
        for _ in range(_TRIES):
            document = await cls.get_motor_collection().find_one(where, _CLOCK_FIELDS, session=session)
            if document is None or not cls.is_ours(document):
                return None
            exp = deadline_of(document)
            at = now if exp is None else min(exp, now)
            moved: Mapping[str, object] = {}
            made = []
            if document.get("_cls") in PERFORMED_CLASSES:
                clock = clock_in(document).end(at)
                if clock.legacy or at + LATE_FOR <= now or target_reached(document):
                    clock, turned = clock.seal()
                    made = _last_seconds(goal_id, turned, now, origin)
                moved = clock_changes(document, clock, ObjectId(), at)["$set"]
            update = [
                objects_stage("context"),
                {"$set": {"active": False, "exp": at, **moved, **changes}},
                {"$set": {"promises": promises_without_task("deactivate_goal")}},
                add_promises_stage(*map(array_of, [*made, ended])),
            ]
            unmoved = {**clock_unmoved(document), "exp": equal_to(document.get("exp"))}
            changed = await cls.change({**where, **unmoved}, update, session=session)
            if changed is not None:
                return changed
        raise LedgerBusyError(f"others moved the clock {_TRIES} times in a row")

    @classmethod
    async def seal(
        cls, goal_id: ObjectId, now: datetime, origin: Origin, *, still: object = None, why: str = ""
    ) -> "Goal | None":
        """Seals the clock of a goal that has ended: from now on no mark counts; promises the seconds that ran until the end.

        Returns the goal as it then stands, also when its clock was sealed before; None when there is no such goal, or its
        clock is not at the revision `still` any more, if one is given. `why` is kept for the trace. Raises NotYetError while
        webhooks from before its end still count: a job of another state of the database may come too early.
        """
        for _ in range(_TRIES):
            document = await cls.get_motor_collection().find_one({"_id": goal_id})
            if document is None:
                return None
            clock = clock_in(document)
            if clock.sealed or clock.ended is None:
                return Goal.parse(document)
            if still is not None and document["clock"].get("revision") != still:
                return None
            settles_at = instant(mapping(document["clock"]).get("settle_at"))
            if settles_at is not None and now < settles_at and not target_reached(document):
                wait = (settles_at - now).total_seconds()
                raise NotYetError("webhooks from before the end of the goal still count", wait)
            sealed, turned = clock.seal()
            changes = clock_changes(document, sealed, ObjectId(), None)["$set"] | {"clock.sealed_because": why}
            made = _last_seconds(goal_id, turned, now, origin)
            update = [{"$set": changes}, add_promises_stage(*map(array_of, made))] if made else [{"$set": changes}]
            changed = await Goal.change({"_id": goal_id, **clock_unmoved(document)}, update)
            if changed is not None:
                return changed
        raise LedgerBusyError(f"others moved the clock {_TRIES} times in a row")

    @classmethod
    async def wait_for_marks(cls, goal_id: ObjectId, until: datetime, origin: Origin) -> "Goal | None":
        """Notes that what depends on the seconds of an ended goal waits `until` then, and promises to seal its clock.

        Returns the goal as it then stands; None when its clock is sealed, or that was noted before.
        """
        seal = promise_expression(SEALED, "seal_clock", {"goal_id": str(goal_id)}, until, origin)
        where = {"_id": goal_id, "clock.sealed": {"$ne": True}, "clock.settle_at": None}
        return await Goal.change(where, [{"$set": {"clock.settle_at": until}}, add_promises_stage(array_of(seal))])

    @classmethod
    async def tell_payers(cls, goal_id: ObjectId, told: int, upto: int) -> bool:
        """Notes that payers above `told` are told now, up to `upto`; False when another run has noted it."""
        not_begun = {"$not": {"$gt": told, "$lte": upto}}
        where = {"_id": goal_id, "payers_upto": not_begun, "payers_told": {"$not": {"$gt": told}}}
        return await cls.changes(where, {"$set": {"payers_told": told, "payers_upto": upto}})

    @classmethod
    async def amend(
        cls,
        goal_id: ObjectId,
        seen: "Goal",
        sets: Mapping[str, object],
        unsets: Sequence[str],
        now: datetime,
        session: DatabaseSession | None = None,
    ) -> Self | None:
        """Sets and removes these fields of an active goal; None when it has ended, or has moved on where levels are set."""
        where: dict[str, object] = {"_id": goal_id, "active": ACTIVE}
        if "levels" in sets:
            where |= counts("progress", seen.progress)
        update: dict[str, object] = {"$set": {**sets, "changed_at": now}}
        if unsets:
            update["$unset"] = dict.fromkeys(unsets, True)
        return await cls.change(where, update, session=session)

    # -- finding --------------------------------------------------------------------------------------------------

    @classmethod
    async def by_id(cls, goal_id: object, session: DatabaseSession | None = None) -> "Goal | None":
        """The goal of that id, of whatever kind."""
        return await Goal.read(goal_id, session)

    @classmethod
    async def active_in(cls, session_id: object, most: int) -> "list[Goal]":
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


def clock_in(document: Mapping[str, object]) -> GoalClock:
    """Returns the clock of that goal document, as it has begun."""
    return GoalClock.read(document.get("clock"), document.get("context"), rule_of(document), deadline_of(document))


def rule_of(document: Mapping[str, object], exclusive_rule: Rule = Rule.AUTO) -> Rule:
    """Returns the rule of a clock that begins in that goal document now."""
    return exclusive_rule if document.get("_cls") == GoalKind.EXCLUSIVE.cls else Rule.ALONE


def target_reached(document: Mapping[str, object]) -> bool:
    """Returns whether the goal's last level is reached by its progress; not, where either cannot be read."""
    targets = [whole(mapping(level).get("target")) for level in sequence(document.get("levels"))]
    target = next((target for target in reversed(targets) if target is not None and target > 0), None)
    progress = whole_part(document.get("progress"))
    return target is not None and progress is not None and progress >= target


def _last_seconds(goal_id: ObjectId, turned: Turned, now: datetime, origin: Origin) -> list[object]:
    """The promise of the seconds that ran until the end, if there is something to announce."""
    if not turned.has_seconds:
        return []
    arguments = {"goal_id": str(goal_id), "amount": turned.amount, "event_id": PAUSED}
    return [promise_expression(PAUSED, "increment_goal_progress", arguments, now, origin)]


def is_active(document: Stored) -> bool:
    """Returns whether the goal goes on: an absent `active` means true."""
    return document.get("active") is not False


def activity_of(document: Mapping[str, object]) -> dict[str, object]:
    """Returns the filter that holds while the goal is as active as in this document."""
    return {"active": ACTIVE if is_active(document) else False}


def deadline_of(document: Mapping[str, object]) -> datetime | None:
    """Returns the document's `exp`, if it is an instant."""
    return instant(document.get("exp"))


def clock_unmoved(document: Mapping[str, object]) -> dict[str, object]:
    """Returns the filter that holds only while no process, of goalsvc or another service, has moved the clock since."""
    unmoved: dict[str, object] = {}
    for name, field in (("clock", "revision"), ("context", "started")):
        value = document.get(name)
        if isinstance(value, list):  # a path does not lead into every array
            unmoved[name] = equal_to(value)
        else:
            unmoved[f"{name}.{field}"] = equal_to(mapping(value).get(field))
    return unmoved


def clock_changes(document: Stored, clock: GoalClock, revision: ObjectId, updated: datetime | None) -> RawDocument:
    """Returns the update that writes this clock: `clock`, and what `context` says of it.

    `context.started` is later than `context.paused` exactly while the clock runs.
    """
    held, times = mapping(document.get("clock")), mapping(document.get("context"))
    known_start, known_pause = instant(times.get("started")), instant(times.get("paused"))
    fields = {**clock.document(), "revision": revision}
    known_at = instant(held.get("known_at"))
    if updated is not None and (known_at is None or updated > known_at):
        fields["known_at"] = updated
    gone = ["clock.absent_at"] if "absent_at" in held else []
    changes: RawDocument = {f"clock.{name}": value for name, value in fields.items()} if held else {"clock": fields}
    started, paused = clock.started or known_start, clock.paused or (None if clock.running else known_pause)
    if not clock.running and started is not None and (paused is None or paused < started):
        paused = started
    if clock.running and paused is None and known_pause is not None and started is not None and known_pause >= started:
        gone.append("context.paused")
    for name, value in (("started", started), ("paused", paused)):
        if value is not None and value != times.get(name):
            changes[f"context.{name}"] = value
    before = instant(times.get("last_updated"))
    if updated is not None and (before is None or updated > before):
        changes["context.last_updated"] = updated
    return {"$set": changes, **({"$unset": dict.fromkeys(gone, True)} if gone else {})}
