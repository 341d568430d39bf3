"""Cloud recordings: signed calls of BytePlus RTC."""

from collections.abc import Awaitable, Callable

from bson import ObjectId

from goalsvc.context import Context
from goalsvc.domain.lanes import Lane
from goalsvc.domain.outcome import Done, Outcome, Reason, Returned
from goalsvc.models.goal import Goal
from goalsvc.models.session import Session
from goalsvc.tasks.task import task

# The names are those of BytePlus's actions, and of the specification.


@task(lane=Lane.RECORDINGS)
async def StartRecord(context: Context, *, goal_id: str, session_id: str) -> Outcome:  # noqa: N802
    """Starts to record the session's room for a show, and stops it again at once when the show is over by now."""
    outcome = await _control(context, context.rtc.start_record, goal_id, session_id)
    goal = await Goal.by_id(ObjectId(goal_id))
    if goal is None or _over(goal):
        # StopRecord may have come first, and will not come again: nobody else would stop this recording.
        await _control(context, context.rtc.stop_record, goal_id, session_id)
    return outcome


def _over(goal: Goal) -> bool:
    return not goal.active or (goal.target is not None and goal.progress >= goal.target)


@task(lane=Lane.RECORDINGS)
async def StopRecord(context: Context, *, goal_id: str, session_id: str) -> Outcome:  # noqa: N802
    """Stops the recording of a show."""
    return await _control(context, context.rtc.stop_record, goal_id, session_id)


@task(lane=Lane.RECORDINGS)
async def StartSnapshot(context: Context, *, goal_id: str, session_id: str) -> Outcome:  # noqa: N802
    """Starts to take snapshots of the session's room."""
    return await _control(context, context.rtc.start_snapshot, goal_id, session_id)


async def _control(
    context: Context, call: Callable[[str, str], Awaitable[None]], goal_id: str, session_id: str
) -> Outcome:
    if not context.settings.records:
        return Returned(Reason.SWITCHED_OFF)
    rtc = await Session.rtc_of(ObjectId(session_id))
    if rtc is None:
        return Returned(Reason.UNKNOWN_SESSION)
    if rtc.room_id is None:
        return Returned(Reason.NO_ROOM)
    # The same task id for start and stop: the platform's own, or one that follows from the goal.
    task_id = rtc.record_task_id or f"goal-{goal_id}"
    await call(rtc.room_id, task_id)
    return Done(task_id)
