"""Joins and leaves, brought into the clocks of goals: many at a time, each exactly as if it were alone.

Every join or leave is one compare-and-set on its goal: read the clock, reckon (`goalsvc.domain.performance`), write if nobody
else has moved the clock meanwhile, else begin again. What comes while a write is under way goes out together with the
next one: a batch of any size costs one `find` and one `bulk_write`, and the load forms the batches by itself. Measured
against an aggregation pipeline that does all of it in the database: a third of the server's time (docs/performance.md).
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bson import ObjectId
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError, PyMongoError

from goalsvc.clock import Clock
from goalsvc.coalescer import Coalescer
from goalsvc.domain.goals import PERFORMED, GoalKind, user_id
from goalsvc.domain.origin import Origin
from goalsvc.domain.outcome import Reason
from goalsvc.domain.performance import GoalClock, Turned, join_mark, leave_mark
from goalsvc.domain.promises import Promise
from goalsvc.domain.reading import mapping
from goalsvc.errors import LedgerBusyError
from goalsvc.models.filters import ACTIVE
from goalsvc.models.goal import KINDS_BY_CLS, Goal, clock_changes, clock_unmoved
from goalsvc.models.healing import healing

#: How often a clock that others move at the same time is tried.
_TRIES = 20

_FIELDS = {
    "_cls": 1,
    "active": 1,
    "context": 1,
    "clock": 1,
    "metadata.user_id": 1,
    "metadata.viewer_id": 1,
    "conditions.exclusive_to": 1,
}


@dataclass(frozen=True, slots=True)
class Move:
    """A join or a leave that is to move a goal's clock."""

    goal_id: ObjectId
    joined: bool
    user_id: str | None
    at: datetime
    event_id: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class Moved:
    """What a move did, and what the goal owes because of it."""

    turned: Turned
    promises: tuple[Promise, ...]


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
    write: tuple[Mapping[str, Any], Mapping[str, Any]]
    answers: list[tuple[_Waiting, Moved | Reason]] = field(default_factory=list)


class GoalClocks:
    """Moves the clocks of goals."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._writes: Coalescer[_Waiting] = Coalescer("clock writes", self._write, _refuse)

    async def move(self, move: Move) -> Moved | Reason:
        """Starts or pauses the goal's clock; what that did, or why the goal is not moved by it.

        Raises PyMongoError when the database cannot be reached: then nothing, or all of it, was written, and a repeat is safe.
        """

        async def write() -> Moved | Reason:
            waiting = _Waiting(move, asyncio.get_running_loop().create_future())
            self._writes.take(waiting)
            return await waiting.answer

        return await healing(Goal, move.goal_id, write)

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        by_goal: dict[ObjectId, list[_Waiting]] = {}
        for waiting in batch:
            by_goal.setdefault(waiting.move.goal_id, []).append(waiting)
        collection = Goal.get_motor_collection()
        found = await collection.find({"_id": {"$in": list(by_goal)}}, _FIELDS).to_list(None)
        documents = {document["_id"]: document for document in found}
        now = self._clock.now()
        plans = []
        for goal_id, moves in by_goal.items():
            plan = _plan(documents.get(goal_id), moves, now)
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
        """The goals in which our write is the last: whose clock somebody else has moved is reckoned again."""
        revisions = [plan.revision for plan in plans]
        where = {"_id": {"$in": [plan.goal_id for plan in plans]}, "clock.revision": {"$in": revisions}}
        return {document["_id"] async for document in Goal.get_motor_collection().find(where, {"_id": 1})}

    def _again(self, waiting: _Waiting) -> None:
        waiting.tries += 1
        if waiting.tries < _TRIES:
            self._writes.take(waiting)
        else:
            _refuse(waiting, LedgerBusyError(f"others moved the clock {_TRIES} times in a row"))


def _plan(document: Mapping[str, Any] | None, moves: Sequence[_Waiting], now: datetime) -> _Plan | None:
    """Reckons these moves one after another; what is to be written, or None when all of them were answered at once."""
    if document is None:
        for waiting in moves:
            _answer(waiting, Reason.UNKNOWN_GOAL)
        return None
    before = clock = GoalClock.read(document.get("clock"), document.get("context"))
    revision = ObjectId()
    answers: list[tuple[_Waiting, Moved | Reason]] = []
    promises: list[Promise] = []
    latest: datetime | None = None
    for waiting in moves:
        move = waiting.move
        reason = _declined(document, clock, move)
        if reason is not None:
            _answer(waiting, reason)
            continue
        clock, turned = clock.turn(join_mark(move.at) if move.joined else leave_mark(move.at), now)
        owed = promises_of(move, turned, now)
        promises += owed
        latest = move.at if latest is None else max(latest, move.at)
        answers.append((waiting, Moved(turned, owed)))
    if not answers:
        return None
    if clock == before and document.get("clock"):
        # Nothing but repeats: there is nothing to write, and they were written before.
        for waiting, answer in answers:
            _answer(waiting, answer)
        return None
    update: dict[str, Any] = clock_changes(document, clock, revision, latest)
    if promises:
        update["$push"] = {"promises": {"$each": [promise.document() for promise in promises]}}
    where = {"_id": document["_id"], "active": ACTIVE if _is_active(document) else False, **clock_unmoved(document)}
    return _Plan(document["_id"], revision, (where, update), answers)


def _declined(document: Mapping[str, Any], clock: GoalClock, move: Move) -> Reason | None:
    """Why this goal is not moved by that, or None."""
    model = KINDS_BY_CLS.get(str(document.get("_cls")))
    if model is None or model.kind not in PERFORMED:
        return Reason.OTHER_GOAL_KIND
    if move.user_id is not None and move.user_id not in participants_of(document):
        return Reason.NOT_A_PARTICIPANT
    if not _is_active(document) and (move.joined or not clock.running):
        # A leave still counts in a goal that another service ended while its clock ran.
        return Reason.GOAL_INACTIVE
    return None


def _is_active(document: Mapping[str, Any]) -> bool:
    return document.get("active") is not False


def participants_of(document: Mapping[str, Any]) -> set[str]:
    """Whose joins and leaves move the clock: the performer's and, for an exclusive, its viewer's."""
    metadata = mapping(document.get("metadata"))
    users = [metadata.get("user_id")]
    if document.get("_cls") == GoalKind.EXCLUSIVE.cls:
        users += [metadata.get("viewer_id"), mapping(document.get("conditions")).get("exclusive_to")]
    return {read for user in users if (read := user_id(user)) is not None}


def started_promise(event_id: str) -> str:
    """Id of the promise to announce that this event started the clock."""
    return f"{event_id}:started"


def promises_of(move: Move, turned: Turned, now: datetime) -> tuple[Promise, ...]:
    """What a goal owes after this turn of its clock: word of the start, and the performed seconds."""
    goal_id = str(move.goal_id)
    owed = []
    if turned.started:
        arguments = {"goal_id": goal_id, "event_id": move.event_id, "at": move.at}
        owed.append(Promise.of(started_promise(move.event_id), "announce_goal_started", arguments, now, move.origin))
    if turned.has_seconds:
        arguments = {"goal_id": goal_id, "amount": turned.amount, "event_id": move.event_id}
        owed.append(Promise.of(move.event_id, "increment_goal_progress", arguments, now, move.origin))
    return tuple(owed)


def _answer(waiting: _Waiting, answer: Moved | Reason) -> None:
    if not waiting.answer.done():
        waiting.answer.set_result(answer)


def _refuse(waiting: _Waiting, error: Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)
