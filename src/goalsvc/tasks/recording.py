"""Cloud recordings: signed calls of BytePlus RTC."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from bson import ObjectId

from goalsvc.context import Context, WorkerContext
from goalsvc.domain.lanes import Lane
from goalsvc.domain.origin import Cause
from goalsvc.domain.outcome import Done, Outcome, Reason, Returned
from goalsvc.domain.trace import follow_ups_of
from goalsvc.models.events import of_recording
from goalsvc.models.goal import Goal, is_active, target_reached
from goalsvc.models.session import Rtc, Session
from goalsvc.tasks.arguments import DocumentId
from goalsvc.tasks.dispatch import enqueue_these
from goalsvc.tasks.task import task

#: The id of the promise to stop a recording that was started when its show was over.
LATE_STOP = "StopRecord:late"

# The names are those of BytePlus's actions, and of the specification.


def _task_id_of(rtc: Rtc, goal_id: str) -> str:
    return rtc.record_task_id or f"goal-{goal_id}"


async def _failed(context: Context, arguments: Mapping[str, Any], reason: str) -> None:
    """Tells the platform's backend that a recording could not be started or stopped, and why."""
    goal_id, session_id = arguments["goal_id"], arguments["session_id"]
    rtc = await Session.rtc_of(ObjectId(session_id)) or Rtc()
    task_id, now, cause = _task_id_of(rtc, goal_id), context.clock.now(), Cause(goal_id=goal_id)
    event = of_recording("recording.failed", goal_id, session_id, task_id, now, cause, reason=reason)
    await context.events.write([event])


@task(lane=Lane.RECORDINGS, after_death=_failed)
async def StartRecord(context: WorkerContext, *, goal_id: DocumentId, session_id: DocumentId) -> Outcome:  # noqa: N802
    """Starts to record the session's room for a show; when the show is over, stops what another try may have started."""
    if await _is_over(goal_id):
        return await _control(context, "recording.stopped", context.rtc.stop_record, goal_id, session_id)
    try:
        return await _control(context, "recording.started", context.rtc.start_record, goal_id, session_id)
    finally:  # also where BytePlus's answer was lost
        if await _is_over(goal_id):
            await _promise_stop(context, goal_id, session_id)


async def _promise_stop(context: WorkerContext, goal_id: str, session_id: str) -> None:
    """Promises StopRecord once more: it may have come before this start took effect.

    That this run is tried again does not suffice: its promise may have been fulfilled by another run of the same job.
    """
    stop = StopRecord.follow_up(goal_id=goal_id, session_id=session_id).called(LATE_STOP)
    identity = ObjectId(goal_id)
    follow_ups = follow_ups_of(Done(follow_ups=(stop,)), context.origin)
    held = await Goal.add_promises(identity, list(follow_ups), context.clock.now())
    enqueue_these(context, "goals", identity, held)


async def _is_over(goal_id: str) -> bool:
    document = await Goal.shared().read(ObjectId(goal_id))
    # Not read into a goal: this is asked twice for each show that starts.
    if document is None or not Goal.is_ours(document):
        return True
    return not is_active(document) or target_reached(document)


@task(lane=Lane.RECORDINGS, after_death=_failed)
async def StopRecord(context: WorkerContext, *, goal_id: DocumentId, session_id: DocumentId) -> Outcome:  # noqa: N802
    """Stops the recording of a show."""
    return await _control(context, "recording.stopped", context.rtc.stop_record, goal_id, session_id)


@task(lane=Lane.RECORDINGS)
async def StartSnapshot(context: WorkerContext, *, goal_id: DocumentId, session_id: DocumentId) -> Outcome:  # noqa: N802
    """Starts to take snapshots of the session's room."""
    return await _control(context, None, context.rtc.start_snapshot, goal_id, session_id)


async def _control(
    context: WorkerContext, told: str | None, call: Callable[[str, str], Awaitable[None]], goal_id: str, session_id: str
) -> Outcome:
    if not context.settings.records:
        return Returned(Reason.SWITCHED_OFF)
    rtc = await Session.rtc_of(ObjectId(session_id))
    if rtc is None:
        return Returned(Reason.UNKNOWN_SESSION)
    if rtc.room_id is None:
        return Returned(Reason.NO_ROOM)
    # The same task id for start and stop: the platform's own, or one that follows from the goal.
    task_id = _task_id_of(rtc, goal_id)
    await call(rtc.room_id, task_id)
    if told is not None:
        now, cause = context.clock.now(), context.origin.cause
        await context.events.write([of_recording(told, goal_id, session_id, task_id, now, cause)])
    return Done(task_id)
