"""The end of goals: when completed, when their time has come, when their session ends."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from bson import ObjectId

from goalsvc.context import Context
from goalsvc.domain.documents import Query
from goalsvc.domain.goals import CLASSES, GoalKind
from goalsvc.domain.outcome import Done, FollowUp, Outcome, Reason, Returned
from goalsvc.domain.reading import instant
from goalsvc.errors import LedgerBusyError, NotYetError
from goalsvc.models.events import of_session
from goalsvc.models.filters import ACTIVE, at_most
from goalsvc.models.goal import ENDED, PAUSED, Goal
from goalsvc.models.session import Session
from goalsvc.tasks import announcements
from goalsvc.tasks.arguments import DocumentId
from goalsvc.tasks.dispatch import enqueue_promises
from goalsvc.tasks.one_by_one import by_itself
from goalsvc.tasks.recording import StopRecord
from goalsvc.tasks.settling import decide, wait_until_counted
from goalsvc.tasks.task import task


@task()
async def deactivate_goal(context: Context, *, goal_id: DocumentId, paused_since: datetime | None = None) -> Outcome:
    """Ends the goal if it is active, and sends `goal.ended`; with `paused_since`, only if it is still paused since then.

    Unless late webhooks may be outstanding, its last seconds are counted first, so that `goal.ended` tells the final progress.
    A job ends no goal that has not promised it: the job may be left over from another state of the database.
    """
    identity, now, promise = ObjectId(goal_id), context.clock.now(), context.promise
    extra: Mapping[str, object] = {} if paused_since is None else {"context.paused": paused_since, **_STANDING}
    if promise is not None:
        extra = {**extra, "promises.id": promise.promise_id}
    goal = await Goal.deactivate(identity, now, context.origin, extra=extra)
    if goal is None:
        goal = await Goal.by_id(identity)
        if goal is None:
            return Returned(Reason.UNKNOWN_GOAL)
        if goal.active and promise is not None and goal.promise(promise.promise_id) is None:
            return Returned(Reason.NOT_PROMISED)
        if goal.active:
            return Returned(Reason.RESUMED)
        if goal.promise(ENDED) is None:
            return Returned(Reason.ALREADY_DONE)
    goal, settled = await decide(context, goal)
    wait_until_counted(context, goal)
    reports = []
    if goal.kind is GoalKind.EXCLUSIVE and goal.target is None and goal.progress > 0:
        # Without a target nothing completes it but its end.
        reports.append(await context.bus.send(context, announcements.completed(goal, f"{goal_id}:completed", now)))
    ended_at = goal.exp or now
    reports.append(await context.bus.send(context, announcements.ended(goal, f"{goal_id}:{ENDED}", ended_at)))
    what = "; ".join(filter(None, [f"progress {goal.progress}", settled]))
    return Done(what, follow_ups=_stop_recording(goal), reports=tuple(reports), fulfils=ENDED)


def _stop_recording(goal: Goal) -> tuple[FollowUp, ...]:
    """A show that was abandoned is recorded still; that of a completed one was stopped when it was completed."""
    session_id, completed = goal.conditions.session_id, goal.target is not None and goal.progress >= goal.target
    if goal.kind is not GoalKind.SHOW or session_id is None or goal.context.started is None or completed:
        return ()
    return (StopRecord.follow_up(goal_id=str(goal.id), session_id=str(session_id)),)


#: The clock does not run.
_STANDING: Query = {"$expr": {"$gte": ["$context.paused", "$context.started"]}}

#: How many goals one run of a cron task ends; what is left is found by the next run.
_BATCH = 500


@task()
async def expire_goals(context: Context) -> Outcome:
    """Ends the goals whose `exp` has passed."""
    now = context.clock.now()
    expired = {"exp": at_most(now)}
    outcome, _ = await _end_all(context, expired, expired, "exp", expired=True)
    return outcome  # those that were passed over are looked at again by the next run


@task()
async def end_session(context: Context, *, session_id: DocumentId) -> Outcome:
    """Ends the open goals of a session that has ended.

    Raises what kept the first goal from its end, once all others are ended and the end of the session is told: a goal that
    others are changing is tried again, and one that cannot be used is a dead letter.
    """
    where = {"conditions.session_id": {"$in": [ObjectId(session_id), session_id]}}
    ended, left = await _end_all(context, where, {}, "_id")
    session = await Session.by_id(ObjectId(session_id))
    events = []
    if session is not None and session.statuses.ended is not None:
        events = [of_session("session.ended", session, session.statuses.ended, context.origin.cause)]
    if left:
        await context.events.write(events)
        raise next((error for error in left if isinstance(error, LedgerBusyError)), left[0])
    if not events:
        return ended
    return Done(ended.what if isinstance(ended, Done) else "no open goals", events=tuple(events))


async def _end_all(
    context: Context, where: Mapping[str, object], still: Mapping[str, object], order: str, *, expired: bool = False
) -> tuple[Outcome, Sequence[Exception]]:
    """Ends these goals; returns what was done, and what kept each of the others from its end."""
    ended, left = 0, list[Exception]()
    ours = {**where, "active": ACTIVE, "_cls": {"$in": CLASSES}}
    found = Goal.get_motor_collection().find(ours, {"_id": 1, "exp": 1}).sort(order)
    async for document in found:
        origin = context.origin
        if expired:  # each goal ends because its own time has come
            exp, goal_id = instant(document.get("exp")), str(document["_id"])
            origin = replace(origin, cause=replace(origin.cause, goal_id=goal_id, task="expire_goals", happened_at=exp))
        ending = Goal.deactivate(document["_id"], context.clock.now(), origin, extra=still)
        goal = await by_itself(f"goals/{document['_id']} is not ended", ending, left)
        if goal is not None:
            enqueue_promises(context, goal, [ENDED, PAUSED])
            ended += 1
            if ended == _BATCH:
                break
    if ended == _BATCH:
        raise NotYetError("there are more goals to end", 0.0)
    return Done(f"{ended} goals") if ended else Returned(Reason.ALREADY_DONE), left
