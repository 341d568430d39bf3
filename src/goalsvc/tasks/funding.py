"""Contributions, announced by workers: many of them at a time."""

from bson import ObjectId

from goalsvc.context import Context
from goalsvc.domain.outcome import Done, Outcome, Reason, Returned
from goalsvc.domain.reading import whole
from goalsvc.errors import NotYetError
from goalsvc.models.contributions import close_announcement
from goalsvc.tasks import announcements
from goalsvc.tasks.arguments import DocumentId
from goalsvc.tasks.notices import PAYERS, notify_payers
from goalsvc.tasks.task import task

#: How soon to look again whether the announcement before this one has been made.
_PREVIOUS_SECONDS = 0.05


@task()
async def announce_contributions(
    context: Context, *, goal_id: DocumentId, promise_id: str, amount: int, contributions: int
) -> Outcome:
    """Sends `goal.progressed` for all contributions that this promise has gathered; later ones are another promise.

    The promise is closed first: a second run announces the same amount under the same event id. It may have gathered more
    than the job's `amount` of so many `contributions`.
    """
    goal = await close_announcement(ObjectId(goal_id), promise_id)
    if goal is None:
        return Returned(Reason.UNKNOWN_GOAL)
    promise = goal.promise(promise_id)
    if promise is None or promise.progress is None:
        return Returned(Reason.ALREADY_COUNTED)
    if not promise.closed:
        raise NotYetError("an earlier announcement of this goal is being made", _PREVIOUS_SECONDS)
    amount = whole(promise.arguments.get("amount")) or amount
    contributions = whole(promise.arguments.get("contributions")) or contributions
    event = announcements.progressed(goal, promise_id, promise.at, amount, promise.progress, contributions)
    report = await context.bus.send(context, event)
    payers = notify_payers.follow_up(goal_id=goal_id, above=promise.progress - amount)
    return Done(
        f"progress {promise.progress} by {contributions} contributions",
        follow_ups=(payers.called(PAYERS),),
        reports=(report,),
    )
