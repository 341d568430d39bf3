"""Reconciliation: after an outage that outlasted Pusher's repeats, a join or leave may never be announced.

So Pusher is asked, now and then, which presence channels are occupied: one call answers for all. A performer who is missed for
longer than Pusher repeats a webhook has left, and the exact time is unknown: the clock is paused at the last moment at which
they are known to have been there. Not sooner: a leave that is still on its way has the exact time. An occupied channel whose
clock stands is a lost join; it counts from the moment of the answer.

Where numbers are not enough (an exclusive with one user, a clock that stands), and with servers that give none, channels are
asked about singly, those first that were not asked about for longest.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from prometheus_client import Counter

from goalsvc.context import Context
from goalsvc.domain.channels import goal_channel
from goalsvc.domain.goals import PERFORMED_CLASSES, GoalKind
from goalsvc.domain.moves import Move, Moved
from goalsvc.domain.origin import NOWHERE, Cause
from goalsvc.domain.outcome import Done, Outcome, Reason, Returned
from goalsvc.domain.performance import Owner, Rule
from goalsvc.domain.promises import PromiseRef
from goalsvc.domain.reading import ZERO_TIME, instant, mapping
from goalsvc.domain.trace import node_of, segment_document
from goalsvc.errors import ExternalServiceError
from goalsvc.models import presence
from goalsvc.models.clocks import parties_of
from goalsvc.models.goal import clock_in, deadline_of
from goalsvc.tasks.dispatch import job_for
from goalsvc.tasks.one_by_one import by_itself
from goalsvc.tasks.task import task

LOST_JOINS = Counter("goalsvc_lost_joins_total", "Joins that no webhook announced, found by asking Pusher.")

#: How many channels one run asks about singly, and how many questions are under way at a time.
_BATCH = 500
_QUESTIONS_AT_ONCE = 8
#: How many clocks are moved at a time.
_MOVES_AT_ONCE = 500

_PREFIX = "presence-"
_GOAL_CHANNELS = ("presence-enc-goal@", "presence-goal@")

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Concluded:
    """A join or leave that Pusher's answer implies."""

    goal_id: ObjectId
    joined: bool
    user_id: str | None
    at: datetime


@task(timeout=60)
async def reconcile_clocks(context: Context) -> Outcome:
    """Pauses clocks whose performer has left, and starts those whose performer has joined, without a webhook."""
    at = context.clock.now()
    unheard_since = at - timedelta(seconds=context.settings.reconcile_seconds / 2)
    try:
        moved = (await ask_of_all(context, at, unheard_since)).moved
    except ExternalServiceError:
        return Returned(Reason.ALREADY_DONE)  # nothing was learnt; the next run asks again
    return Done(f"{moved} clocks moved") if moved else Returned(Reason.ALREADY_DONE)


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of asking Pusher."""

    channels: int | None
    """How many presence channels are occupied; None where the server does not say so, and each goal was asked about."""
    moved: int
    """How many clocks were moved by the answer."""
    users: Sequence[str] | None = None
    """Who is in the goal's channel, where one goal was asked about."""


async def ask_of_all(context: Context, at: datetime, unheard_since: datetime) -> Asked:
    """Asks Pusher who is where, and moves the clocks that disagree; those heard of since then are left alone.

    Raises ExternalServiceError.
    """
    occupied = await context.notifier.occupied(_PREFIX)
    if occupied is None:
        concluded = await _singly(context, await presence.longest_unasked(_BATCH, unheard_since), (), at)
    else:
        concluded = await _together(context, occupied, at, unheard_since)
    return Asked(None if occupied is None else len(occupied), await _move(context, concluded))


async def ask_of_goal(context: Context, goal_id: ObjectId, at: datetime) -> Asked:
    """Asks Pusher who is in the channel of one goal, and moves its clock if it disagrees. Raises ExternalServiceError."""
    users = await context.notifier.users_in(goal_channel(str(goal_id)))
    moved = 0
    for goal in await presence.goals_of([goal_id], PERFORMED_CLASSES):
        judged = _judge(context, goal, users, at)
        await presence.note(seen=judged.seen, missed=judged.missed, asked=[goal_id], at=at)
        moved += await _move(context, judged.concluded)
    return Asked(1 if users else 0, moved, sorted(users))


async def _move(context: Context, concluded: Sequence[_Concluded]) -> int:
    """Moves the clocks of which something was concluded; how many that changed."""
    moved = 0
    for first in range(0, len(concluded), _MOVES_AT_ONCE):
        moves = (
            by_itself(f"goals/{each.goal_id}: its clock is not moved", _conclude(context, each))
            for each in concluded[first : first + _MOVES_AT_ONCE]
        )
        moved += sum(filter(None, await asyncio.gather(*moves)))
    return moved


# -- one answer for all ---------------------------------------------------------------------------------------------------


async def _together(
    context: Context, occupied: Mapping[str, int], at: datetime, unheard_since: datetime
) -> list[_Concluded]:
    users = _users_by_goal(occupied)
    running = {goal["_id"]: goal for goal in await presence.running_clocks()}
    seen, missed, unclear = [], [], []
    for goal_id, goal in running.items():
        known_at = _time_in(goal, "known_at")
        if known_at is None or known_at > unheard_since:
            continue
        count = users.get(str(goal_id), 0)
        if count == 0:
            missed.append(goal)
        elif count > 1 or goal["_cls"] != GoalKind.EXCLUSIVE.cls or goal["clock"].get("rule") in (None, Rule.ALONE):
            seen.append(goal)
        else:
            unclear.append(goal_id)
    standing = [ObjectId(each) for each in users if ObjectId.is_valid(each) and ObjectId(each) not in running]
    others = await presence.goals_of([*unclear, *standing], PERFORMED_CLASSES) if unclear or standing else []
    newly = [goal["_id"] for goal in missed if _time_in(goal, "absent_at") is None]
    await presence.note(seen=seen, missed=newly, at=at)
    gone = [
        _Concluded(goal["_id"], False, None, goal["clock"]["known_at"])
        for goal in missed
        if _given_up(context, goal, at)
    ]
    return gone + await _singly(
        context,
        [goal for goal in others if goal["_id"] in running],
        [goal for goal in others if goal["_id"] not in running],
        at,
    )


def _users_by_goal(occupied: Mapping[str, int]) -> dict[str, int]:
    """How many users are in the channels of each goal, by its id."""
    users: dict[str, int] = {}
    for name, count in occupied.items():
        if name.startswith(_GOAL_CHANNELS):
            goal_id = name.partition("@")[2]
            users[goal_id] = users.get(goal_id, 0) + count
    return users


def _given_up(context: Context, goal: Document, at: datetime) -> bool:
    """Whether someone has been missed in that goal for longer than Pusher repeats a webhook."""
    since = _time_in(goal, "absent_at") or at
    return at - since >= timedelta(seconds=context.settings.reconcile_patience)


# -- one answer for each --------------------------------------------------------------------------------------------------


async def _singly(
    context: Context, running: Sequence[Document], standing: Sequence[Document], at: datetime
) -> list[_Concluded]:
    """Asks about these channels one by one, those first that were not asked about for longest."""
    asked = sorted([*running, *standing], key=lambda goal: _time_in(goal, "asked_at") or ZERO_TIME)[:_BATCH]
    turn = asyncio.Semaphore(_QUESTIONS_AT_ONCE)

    async def ask(goal: Document) -> Collection[str] | None:
        async with turn:
            try:
                return await context.notifier.users_in(goal_channel(str(goal["_id"])))
            except ExternalServiceError:
                return None

    answers = await asyncio.gather(*map(ask, asked))
    judged = [_judge(context, goal, users, at) for goal, users in zip(asked, answers, strict=True) if users is not None]
    seen, missed = [one for each in judged for one in each.seen], [one for each in judged for one in each.missed]
    await presence.note(seen=seen, missed=missed, asked=[goal["_id"] for goal in asked], at=at)
    return [one for each in judged for one in each.concluded]


@dataclass(slots=True)
class _Judged:
    """What Pusher's answer about one goal says."""

    seen: list[Document] = field(default_factory=list)
    missed: list[ObjectId] = field(default_factory=list)
    concluded: list[_Concluded] = field(default_factory=list)


def _judge(context: Context, goal: Document, users: Collection[str], at: datetime) -> _Judged:
    """Holds the users that are in a goal's channel against its clock."""
    clock = clock_in(goal)
    if not clock.running:
        return _Judged(concluded=_unannounced(goal, users, at))
    judged, absent = _Judged(), _missing(goal, users)
    if clock.needs() == {Owner.UNOWNED} and absent is None:
        judged.concluded += _unannounced(goal, users, at)
    if absent is None:
        judged.seen.append(goal)
    elif (known_at := _time_in(goal, "known_at")) is not None and _given_up(context, goal, at):
        judged.concluded.append(_Concluded(goal["_id"], False, absent or None, known_at))
    else:
        judged.missed.append(goal["_id"])
    return judged


def _time_in(goal: Document, name: str) -> datetime | None:
    """That time in the goal's clock; None where it holds none that can be read."""
    return instant(mapping(goal.get("clock")).get(name))


def _missing(goal: Document, users: Collection[str]) -> str | None:
    """The user whose absence ends the performance; empty: all have left; None where those who are needed are there."""
    performer, viewers = parties_of(goal)
    clock = clock_in(goal)
    if clock.legacy:
        return None if {performer, *viewers} & set(users) else ""
    needs = clock.needs()
    if needs == {Owner.UNOWNED}:
        return None if {performer, *viewers} & set(users) else ""
    performer_gone, viewer_gone = performer not in users, not viewers & set(users)
    if performer_gone and (viewer_gone or Owner.VIEWER not in needs):
        return "" if viewer_gone else performer or ""
    if performer_gone:
        return performer
    return next(iter(sorted(viewers)), "") if Owner.VIEWER in needs and viewer_gone else None


def _unannounced(goal: Document, users: Collection[str], at: datetime) -> list[_Concluded]:
    """The joins that the marks do not know: of participants who are there. Not after the goal's deadline."""
    clock, deadline = clock_in(goal), deadline_of(goal)
    if deadline is not None and deadline < at:
        return []
    performer, viewers = parties_of(goal)
    present = clock.present()
    if clock.running and performer in users:
        return []  # an unowned start holds while the performer is there
    found = []
    if performer is not None and performer in users and Owner.PERFORMER not in present:
        found.append(performer)
    if clock.rule in (Rule.AUTO, Rule.BOTH) and Owner.VIEWER not in present:
        found += sorted(viewers & set(users))[:1]
    return [_Concluded(goal["_id"], True, user, at) for user in found]


# -- what follows ---------------------------------------------------------------------------------------------------------


async def _conclude(context: Context, concluded: _Concluded) -> bool:
    """Moves the goal's clock by what was concluded; returns whether that changed it."""
    goal_id, at, now = concluded.goal_id, concluded.at, context.clock.now()
    what = "join" if concluded.joined else "leave"
    event_id = ":".join(["reconcile", what, str(goal_id), concluded.user_id or "all", at.isoformat()])
    cause = Cause(goal_id=str(goal_id), event_id=event_id, task="reconcile_clocks", happened_at=at)
    origin = replace(NOWHERE, cause=cause).of_task("reconcile_clocks")
    moved = await context.clocks.move(Move(goal_id, concluded.joined, concluded.user_id, at, event_id, origin))
    if not isinstance(moved, Moved):
        return False
    if concluded.joined:
        LOST_JOINS.inc()
        told = f"a join of {concluded.user_id} that no webhook announced; counted from {at.isoformat()}"
    elif moved.turned.paused:
        who = concluded.user_id or "the performer"
        told = f"missed by Pusher; paused at {at.isoformat()}, when {who} was known to be there"
    else:
        return False
    node = node_of("task", "reconcile_clocks", Done(told), now, 0.0) | {"place": origin.place}
    context.recorder.trace(segment_document(origin, str(goal_id), None, now, node))
    for promise in moved.promises:
        context.queue.enqueue(job_for(PromiseRef("goals", goal_id, promise.id), promise))
    return True
