"""Notices to clients that Pusher did not take at once."""

from collections.abc import Mapping, Sequence
from typing import Any

from bson import ObjectId

from goalsvc.context import Context
from goalsvc.domain.lanes import Lane
from goalsvc.domain.outcome import Done, Outcome, Reason, Returned
from goalsvc.models.goal import Goal
from goalsvc.signals.notices import GoalProgressUpdated
from goalsvc.tasks.task import task


@task(lane=Lane.NOTICES)
async def deliver_notice(context: Context, *, channels: Sequence[str], event: str, data: Mapping[str, Any]) -> Outcome:
    """Sends a notice to Pusher; at least once, so its data has an `event_id`. One that newer progress supersedes is dropped."""
    if event == GoalProgressUpdated.event and await _is_superseded(data):
        return Returned(Reason.OVERTAKEN)
    await context.notifier.trigger(channels, event, data)
    return Done(event)


async def _is_superseded(data: Mapping[str, Any]) -> bool:
    """Whether the goal has more progress by now: the notice of that has been sent, or is promised."""
    goal_id, progress = data.get("goal_id"), data.get("progress")
    if not isinstance(goal_id, str) or not ObjectId.is_valid(goal_id) or not isinstance(progress, int):
        return False
    goal = await Goal.by_id(ObjectId(goal_id))
    return goal is not None and goal.progress > progress
