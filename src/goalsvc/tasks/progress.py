"""Progress: the clock's starts and pauses, announced by workers."""

from datetime import datetime

from bson import ObjectId

from goalsvc.context import Context
from goalsvc.domain.outcome import Done, Outcome, Reason, Returned
from goalsvc.domain.reading import whole
from goalsvc.errors import InvalidArgumentError
from goalsvc.models.goal import Goal
from goalsvc.tasks import announcements
from goalsvc.tasks.arguments import DocumentId
from goalsvc.tasks.task import task


@task()
async def announce_goal_started(
    context: Context, *, goal_id: DocumentId, event_id: str, at: datetime, unowned_since: datetime | None = None
) -> Outcome:
    """Sends `goal.started`, which the webhook only promises, so that its answer waits for one write and no more.

    A start that rested on an unowned mark alone, at `unowned_since`, is announced only if it still holds.
    """
    goal = await Goal.by_id(ObjectId(goal_id))
    if goal is None:
        return Returned(Reason.UNKNOWN_GOAL)
    if unowned_since is not None:
        clock = goal.performance
        if not clock.unowned_start or not clock.starts_at(unowned_since):
            return Returned(Reason.OVERTAKEN)
    report = await context.bus.send(context, announcements.started(goal, event_id, at))
    return Done(reports=(report,))


@task()
async def increment_goal_progress(context: Context, *, goal_id: DocumentId, amount: int, event_id: str) -> Outcome:
    """Adds the amount that this event's promise owes to the goal's progress, and sends `goal.progressed`.

    Exactly once by the promise: the update that adds the amount notes in it that this is done. Run again, it only announces.
    """
    goal = await Goal.add_progress(ObjectId(goal_id), event_id)
    if goal is None:
        return Returned(Reason.UNKNOWN_GOAL)
    promise, own = goal.promise(event_id), context.promise
    if promise is None and own is not None and own.promise_id != event_id and goal.promise(own.promise_id) is not None:
        rule = "arguments.event_id: must be the id of the promise, else its amount is not counted"
        raise InvalidArgumentError(increment_goal_progress.name, rule)
    if promise is None or promise.progress is None:
        return Returned(Reason.ALREADY_COUNTED)
    added = whole(promise.arguments.get("amount")) or 0
    event = announcements.progressed(goal, event_id, promise.at, added, promise.progress)
    report = await context.bus.send(context, event)
    return Done(f"progress {promise.progress}", reports=(report,), fulfils=event_id)
