"""The cloud recording of a show, and the snapshots of an exclusive."""

from goalsvc.context import Context
from goalsvc.domain.goals import GoalKind
from goalsvc.domain.outcome import Done, Outcome, Reason, Returned
from goalsvc.signals.events import GoalCompleted, GoalEnded, GoalEvent, GoalStarted
from goalsvc.signals.receiver import on, receiver
from goalsvc.tasks.recording import StartRecord, StartSnapshot, StopRecord


@receiver(
    on(GoalStarted, GoalKind.SHOW),
    on(GoalCompleted, GoalKind.SHOW),
    returns={Reason.OTHER_GOAL_KIND, Reason.NO_SESSION, Reason.NOT_RUNNING, Reason.NOT_THE_LAST_LEVEL},
)
async def record_show_with_rtc(context: Context, event: GoalEvent) -> Outcome:
    """Owes the start of the recording when a show starts, and its stop when the show is completed."""
    if event.conditions.session_id is None:
        return Returned(Reason.NO_SESSION)
    session_id = str(event.conditions.session_id)
    if isinstance(event, GoalCompleted):
        if not event.target_reached:
            return Returned(Reason.NOT_THE_LAST_LEVEL)
        return Done(follow_ups=(StopRecord.follow_up(goal_id=event.goal_id, session_id=session_id),))
    if not event.context.running:
        return Returned(Reason.NOT_RUNNING)
    return Done(follow_ups=(StartRecord.follow_up(goal_id=event.goal_id, session_id=session_id),))


@receiver(on(GoalEnded, GoalKind.EXCLUSIVE), returns={Reason.OTHER_GOAL_KIND, Reason.NO_SESSION})
async def snapshot_rtc_sources(context: Context, event: GoalEnded) -> Outcome:
    """Owes the snapshots of the room in which the exclusive was performed."""
    if event.conditions.session_id is None:
        return Returned(Reason.NO_SESSION)
    return Done(
        follow_ups=(StartSnapshot.follow_up(goal_id=event.goal_id, session_id=str(event.conditions.session_id)),)
    )
