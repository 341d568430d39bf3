"""Ends goals at a caller's request: ends them early, agrees to them or declines them."""

from collections.abc import Mapping
from datetime import datetime

from bson import ObjectId

from goalsvc.actions.exclusives import take_exclusive
from goalsvc.actions.known import known_goal, known_session
from goalsvc.context import Context
from goalsvc.database_session import DatabaseSession
from goalsvc.domain.call import Call
from goalsvc.domain.goals import GoalKind
from goalsvc.errors import ConflictError
from goalsvc.models.exclusivity import Parties
from goalsvc.models.filters import at_most
from goalsvc.models.goal import ENDED, PAUSED, Goal
from goalsvc.tasks.dispatch import enqueue_promises


async def end_goal(context: Context, call: Call, goal_id: ObjectId) -> Goal:
    """Ends the goal now; raises NotFoundError, ConflictError."""
    return await _end(context, call, goal_id)


async def decline(context: Context, call: Call, goal_id: ObjectId) -> Goal:
    """Declines a request; raises NotFoundError, ConflictError."""
    await _request(goal_id)
    return await _end(context, call, goal_id)


async def agree(context: Context, call: Call, goal_id: ObjectId, user_id: str | None) -> Goal:
    """Agrees to a request, in the name of that user or of the streamer.

    Raises NotFoundError, and ConflictError: `wrong_goal_kind`, `goal_inactive`, `goal_expired`, `session_ended`, and the codes
    of `take_exclusive`. The agreement and the slots of its exclusive are one transaction.
    """
    goal = await _request(goal_id)
    if call.made(_mark(goal)):
        return goal
    _refuse_ended(goal, context.clock.now())
    triggerer = user_id or goal.metadata.user_id
    if triggerer == goal.metadata.viewer_id and not context.settings.allow_self_payment:
        raise ConflictError("self_payment", "user_id: must not be the viewer who made the request")
    session_id = goal.conditions.session_id
    if session_id is None:
        return await _end(context, call, goal_id, triggerer=triggerer)
    streaming = await known_session(session_id)
    if not streaming.open:
        raise ConflictError("session_ended", "the session has ended")
    performer = goal.metadata.user_id or streaming.user_id
    parties = Parties(session_id, goal.metadata.viewer_id or "", performer)

    async def together(session: DatabaseSession) -> Goal:
        now = context.clock.now()
        await take_exclusive(parties, goal_id, now, session)
        in_time = {"exp": {"$not": at_most(now)}}
        return await _end(context, call, goal_id, extra=in_time, session=session, triggerer=triggerer)

    goal = await context.ledger.transaction(together)
    enqueue_promises(context, goal, [PAUSED, ENDED])
    return goal


async def _request(goal_id: ObjectId) -> Goal:
    goal = await known_goal(goal_id)
    if goal.kind is not GoalKind.TRIGGER:
        raise ConflictError("wrong_goal_kind", f"a {goal.kind} is not agreed to or declined; a TriggerGoal is")
    return goal


def _refuse_ended(goal: Goal, now: datetime) -> None:
    """Raises ConflictError when it is too late to end that goal in some way."""
    if not goal.active:
        raise ConflictError("goal_inactive", "the goal is not active")
    if goal.exp is not None and goal.exp <= now:
        raise ConflictError("goal_expired", "the goal has expired")


def _mark(goal: Goal) -> str | None:
    """The record of the Idempotency-Key by which the goal was ended, if any."""
    mark = (goal.model_extra or {}).get("ended_by")
    return mark if isinstance(mark, str) else None


async def _end(
    context: Context,
    call: Call,
    goal_id: ObjectId,
    *,
    extra: Mapping[str, object] | None = None,
    session: DatabaseSession | None = None,
    **changes: object,
) -> Goal:
    now = context.clock.now()
    if call.idempotency is not None:
        changes["ended_by"] = call.idempotency
    goal = await Goal.deactivate(goal_id, now, context.origin, extra=extra, session=session, **changes)
    if goal is None:
        found = await known_goal(goal_id, session)
        if call.made(_mark(found)):
            return found
        _refuse_ended(found, now)
        raise ConflictError("goal_inactive", "the goal is not active")
    if session is None:
        enqueue_promises(context, goal, [PAUSED, ENDED])
    return goal
