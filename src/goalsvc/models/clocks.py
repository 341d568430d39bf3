"""Joins and leaves, brought into the clocks of goals: many at a time, each exactly as if it were alone.

Every join or leave is one compare-and-set on its goal: read the clock, reckon (`goalsvc.domain.performance`), write if no other
else has moved the clock meanwhile, else begin again. What comes while a write is under way goes out together with the
next one: a batch of any size costs one `find` and one `bulk_write`, and the load forms the batches by itself. Measured
against an aggregation pipeline that does all of it in the database: a third of the server's time (docs/performance.md).
"""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bson import ObjectId
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError, PyMongoError

from goalsvc.clock import Clock
from goalsvc.coalescer import Coalescer
from goalsvc.domain.documents import RawDocument, Stored
from goalsvc.domain.goals import PERFORMED, GoalKind, user_id
from goalsvc.domain.moves import Move, Moved
from goalsvc.domain.outcome import Reason
from goalsvc.domain.performance import GoalClock, Owner, Rule, Turned
from goalsvc.domain.presence import join_mark, leave_mark
from goalsvc.domain.promises import Promise
from goalsvc.domain.reading import instant, mapping
from goalsvc.errors import LedgerBusyError
from goalsvc.models.goal import (
    KINDS_BY_CLS,
    Goal,
    activity_of,
    clock_changes,
    clock_unmoved,
    deadline_of,
    is_active,
    rule_of,
)
from goalsvc.models.healing import healing

#: How often a clock that others move at the same time is tried.
_TRIES = 20

#: How long a start that rests on an unowned mark alone waits for its announcement: its owned twin may be on its way.
_UNOWNED_START_SECONDS = 2.0

_FIELDS = {
    "_cls": 1,
    "active": 1,
    "exp": 1,
    "context": 1,
    "clock": 1,
    "metadata.user_id": 1,
    "metadata.viewer_id": 1,
    "conditions.exclusive_to": 1,
}


@dataclass(slots=True)
class _Waiting:
    move: Move
    answer: "asyncio.Future[Moved | Reason]"
    tries: int = 0


@dataclass(slots=True)
class _Plan:
    """What is to be written to one goal, and what is to be answered once it is."""

    goal_id: ObjectId
    revision: ObjectId
    write: tuple[Mapping[str, object], Mapping[str, object]]
    answers: list[tuple[_Waiting, Moved | Reason]] = field(default_factory=list)


class GoalClocks:
    """Moves the clocks of goals."""

    def __init__(self, clock: Clock, exclusive_rule: Rule = Rule.AUTO) -> None:
        """`exclusive_rule`: the rule of an exclusive's clock that begins now; one that has begun keeps its own."""
        self._clock = clock
        self._exclusive_rule = exclusive_rule
        self._writes: Coalescer[_Waiting] = Coalescer("clock writes", self._take_turns, _refuse)
        #: The goals that a batch of this process is writing, each with the moves that came meanwhile.
        self._under_way: dict[ObjectId, list[_Waiting]] = {}

    async def move(self, move: Move) -> Moved | Reason:
        """Starts or pauses the goal's clock; what that did, or why the goal is not moved by it.

        Raises PyMongoError when the database cannot be reached: then nothing, or all of it, was written, and a repeat is safe.
        """

        async def write() -> Moved | Reason:
            waiting = _Waiting(move, asyncio.get_running_loop().create_future())
            self._writes.take(waiting)
            return await waiting.answer

        return await healing(Goal, move.goal_id, write)

    async def _take_turns(self, batch: Sequence[_Waiting]) -> None:
        """Writes these moves, but for those of goals that another batch is writing: two of them would undo each other."""
        by_goal: dict[ObjectId, list[_Waiting]] = {}
        for waiting in batch:
            goal_id = waiting.move.goal_id
            meanwhile = self._under_way.get(goal_id)
            (by_goal.setdefault(goal_id, []) if meanwhile is None else meanwhile).append(waiting)
        if not by_goal:
            return
        self._under_way |= {goal_id: [] for goal_id in by_goal}
        try:
            await self._write(by_goal)
        except Exception as error:
            for waiting in itertools.chain.from_iterable(by_goal.values()):
                _refuse(waiting, error)
        for goal_id in by_goal:
            for waiting in self._under_way.pop(goal_id):
                self._writes.take(waiting)

    async def _write(self, by_goal: Mapping[ObjectId, Sequence[_Waiting]]) -> None:
        collection = Goal.get_motor_collection()
        found = await collection.find({"_id": {"$in": list(by_goal)}}, _FIELDS).to_list(None)
        documents = {document["_id"]: document for document in found}
        now = self._clock.now()
        plans = []
        for goal_id, moves in by_goal.items():
            plan = _plan(documents.get(goal_id), moves, now, self._exclusive_rule)
            if plan is not None:
                plans.append(plan)
        if not plans:
            return
        broken: dict[int, PyMongoError] = {}
        try:
            if len(plans) == 1:
                matched = (await collection.update_one(*plans[0].write)).matched_count
            else:
                writes = [UpdateOne(*plan.write) for plan in plans]
                matched = (await collection.bulk_write(writes, ordered=False)).matched_count
            all_written = matched == len(plans)
        except BulkWriteError as error:
            details = error.details or {}
            if details.get("writeConcernErrors"):
                raise  # written, but not where it would outlive its primary
            faults = details.get("writeErrors", [])
            broken = {fault["index"]: BulkWriteError({"writeErrors": [fault]}) for fault in faults}
            all_written = False
        ours = {plan.goal_id for plan in plans} if all_written else await self._ours(plans)
        for number, plan in enumerate(plans):
            for waiting, answer in plan.answers:
                if plan.goal_id in ours:
                    _answer(waiting, answer)
                elif number in broken:
                    _refuse(waiting, broken[number])
                else:
                    self._again(waiting)

    async def _ours(self, plans: Sequence[_Plan]) -> set[ObjectId]:
        """The goals in which our write is the last: a clock that another writer has moved is computed again."""
        revisions = [plan.revision for plan in plans]
        where = {"_id": {"$in": [plan.goal_id for plan in plans]}, "clock.revision": {"$in": revisions}}
        return {document["_id"] async for document in Goal.get_motor_collection().find(where, {"_id": 1})}

    def _again(self, waiting: _Waiting) -> None:
        waiting.tries += 1
        if waiting.tries < _TRIES:
            self._writes.take(waiting)
        else:
            _refuse(waiting, LedgerBusyError(f"others moved the clock {_TRIES} times in a row"))


def _plan(document: Stored | None, moves: Sequence[_Waiting], now: datetime, exclusive_rule: Rule) -> _Plan | None:
    """Applies these moves one after another; what is to be written, or None when all of them were answered at once."""
    if document is None:
        for waiting in moves:
            _answer(waiting, Reason.UNKNOWN_GOAL)
        return None
    known, context = document.get("clock"), document.get("context")
    before = clock = GoalClock.read(known, context, rule_of(document, exclusive_rule), deadline_of(document))
    revision = ObjectId()
    answers: list[tuple[_Waiting, Moved | Reason]] = []
    promises: list[Promise] = []
    latest: datetime | None = None
    for waiting in moves:
        move = waiting.move
        owner = owner_of(document, clock, move.user_id)
        reason = not_admitted(document) if owner is None else declined(document, clock, move, now)
        if owner is None or reason is not None:
            _answer(waiting, reason or Reason.NOT_A_PARTICIPANT)
            continue
        at = move.at
        if not is_active(document) and clock.ended is None and clock.deadline is not None:
            # Another service ended the goal while its clock ran: the leave that is told later is the end.
            at = min(at, deadline_of(document) or at)
        mark = join_mark(at) if move.joined else leave_mark(at)
        if clock.ended is not None and not clock.takes(at, now):
            # It does not count, and yet it says who is there when Pusher is asked about the end.
            clock = clock.turn(mark, now, owner)[0]
            answers.append((waiting, Reason.GOAL_INACTIVE))
            continue
        clock, turned = clock.turn(mark, now, owner)
        made = promises_of(move, clock, turned, now)
        promises += made
        latest = move.at if latest is None else max(latest, move.at)
        answers.append((waiting, Moved(turned, made, clock.running)))
    if not answers:
        return None
    if clock == before and known:
        # All marks are repeats, which were written before: there is nothing to write.
        for waiting, answer in answers:
            _answer(waiting, answer)
        return None
    update: RawDocument = clock_changes(document, clock, revision, latest)
    if promises:
        update["$push"] = {"promises": {"$each": [promise.document() for promise in promises]}}
    where = {"_id": document["_id"], **activity_of(document), **clock_unmoved(document)}
    return _Plan(document["_id"], revision, (where, update), answers)


def owner_of(document: Mapping[str, object], clock: GoalClock, user: str | None) -> Owner | None:
    """Returns whose mark an event of that user is; None for a user whose presence is not the goal's performance."""
    if user is None:
        return Owner.UNOWNED
    performer, viewers = parties_of(document)
    if user == performer:
        return Owner.PERFORMER
    if user not in viewers:
        return None
    return Owner.PERFORMER if clock.rule is Rule.ALONE else Owner.VIEWER


def not_admitted(document: Mapping[str, object]) -> Reason:
    """Returns why the mark of one who is not a participant does not count."""
    return Reason.NOT_A_PARTICIPANT if _is_performed(document) else Reason.OTHER_GOAL_KIND


def _is_performed(document: Mapping[str, object]) -> bool:
    model = KINDS_BY_CLS.get(str(document.get("_cls")))
    return model is not None and model.kind in PERFORMED


def declined(document: Mapping[str, object], clock: GoalClock, move: Move, now: datetime) -> Reason | None:
    """Returns why a participant's mark does not count in this goal, or None."""
    if not _is_performed(document):
        return Reason.OTHER_GOAL_KIND
    if is_active(document):
        return None
    if clock.ended is not None:
        undecided = not clock.sealed and instant(mapping(document.get("clock")).get("settle_at")) is None
        return None if undecided or clock.takes(move.at, now) else Reason.GOAL_INACTIVE
    # A leave still counts in a goal that another service ended while its clock ran.
    return Reason.GOAL_INACTIVE if move.joined or not clock.running else None


def parties_of(document: Mapping[str, object]) -> tuple[str | None, frozenset[str]]:
    """Returns the performer's id and, for an exclusive, the ids of its viewer."""
    metadata, conditions = mapping(document.get("metadata")), mapping(document.get("conditions"))
    viewers = [user_id(metadata.get("viewer_id")), user_id(conditions.get("exclusive_to"))]
    if document.get("_cls") != GoalKind.EXCLUSIVE.cls:
        viewers = []
    return user_id(metadata.get("user_id")), frozenset(viewer for viewer in viewers if viewer is not None)


def started_promise(event_id: str) -> str:
    """Id of the promise to announce that this event started the clock."""
    return f"{event_id}:started"


def promises_of(move: Move, clock: GoalClock, turned: Turned, now: datetime) -> tuple[Promise, ...]:
    """Returns what a goal promises after this mark: the announcement of the start, and the performed seconds."""
    goal_id = str(move.goal_id)
    made = []
    if turned.started and clock.ended is None:
        arguments: dict[str, object] = {"goal_id": goal_id, "event_id": move.event_id, "at": move.at}
        due_at = now
        if clock.unowned_start:
            arguments["unowned_since"] = clock.started
            due_at = now + timedelta(seconds=_UNOWNED_START_SECONDS)
        made.append(Promise.of(started_promise(move.event_id), "announce_goal_started", arguments, due_at, move.origin))
    if turned.has_seconds:
        arguments = {"goal_id": goal_id, "amount": turned.amount, "event_id": move.event_id}
        made.append(Promise.of(move.event_id, "increment_goal_progress", arguments, now, move.origin))
    return tuple(made)


def _answer(waiting: _Waiting, answer: Moved | Reason) -> None:
    if not waiting.answer.done():
        waiting.answer.set_result(answer)


def _refuse(waiting: _Waiting, error: Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)
