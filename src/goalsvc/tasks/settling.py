"""Whether what depends on the seconds of an ended goal waits for late webhooks, and what is done once none counts any more.

Marks dated at or before an end still count for six minutes after it, because Pusher repeats a webhook for five. A refund or a
division waits only if something may be outstanding: Pusher is asked once who is in the channel, and if its answer agrees with
the marks, the clock is sealed at once. A sealed clock takes no marks, so the progress is final and both shares of an escrow
are computed from the same number.
"""

from collections.abc import Collection

from bson import ObjectId

from goalsvc.clock import from_epoch_milliseconds
from goalsvc.context import Context
from goalsvc.domain.channels import goal_channel
from goalsvc.domain.goals import PERFORMED, GoalKind
from goalsvc.domain.ids import derived_id
from goalsvc.domain.outcome import Done, Outcome, Reason, Returned
from goalsvc.domain.performance import LATE_FOR, Owner, Rule
from goalsvc.errors import ExternalServiceError, NotYetError
from goalsvc.models.goal import PAUSED, SEALED, Goal
from goalsvc.tasks.arguments import DocumentId
from goalsvc.tasks.dispatch import enqueue_promises
from goalsvc.tasks.task import task

#: How soon to look again whether the last seconds of a goal have been counted.
_COUNTING_SECONDS = 0.05


# -- at the end -----------------------------------------------------------------------------------------------------------


async def decide(context: Context, goal: Goal) -> tuple[Goal, str]:
    """Decides once whether an ended goal waits for late webhooks; returns the goal as it then stands, and what was decided."""
    users: Collection[str] | None = None
    asked = False
    while True:
        clock = goal.performance
        if goal.kind not in PERFORMED or clock.ended is None or clock.sealed:
            return goal, goal.settled_because
        if goal.settles_at is not None:
            return goal, f"waits for late webhooks until {goal.settles_at.isoformat()}"
        if goal.kind is GoalKind.KARAOKE and clock.open_since is None:
            return goal, ""  # nothing depends on its seconds
        until, now = from_epoch_milliseconds(clock.ended) + LATE_FOR, context.clock.now()
        identity = ObjectId(goal.id)
        if not asked and now < until:
            users, asked = await _users_in(context, goal), True
        if now >= until or (users is not None and agrees(goal, users)):
            what = "settled at once: Pusher agrees with the marks" if now < until else "no webhook is outstanding"
            changed = await Goal.seal(identity, now, context.origin, still=goal.clock_revision, why=what)
        else:
            changed = await Goal.wait_for_marks(identity, until, context.origin)
            seen = "does not answer" if users is None else f"names {sorted(users)}"
            marked = sorted(owner.value for owner in clock.present())
            what = f"waits for late webhooks until {until.isoformat()}: Pusher {seen}, the marks say {marked}"
        if changed is not None:
            enqueue_promises(context, changed, [PAUSED, SEALED])
            return changed, what
        goal = await Goal.by_id(identity) or goal  # a mark came meanwhile


async def _users_in(context: Context, goal: Goal) -> Collection[str] | None:
    """Who is in the goal's channel; None where Pusher does not answer."""
    try:
        return await context.notifier.users_in(goal_channel(str(goal.id)))
    except ExternalServiceError:
        return None


def agrees(goal: Goal, users: Collection[str]) -> bool:
    """Returns whether the marks name as present exactly those participants who are in the channel."""
    clock = goal.performance
    known = clock.present()
    performer, viewers = goal.metadata.user_id, {goal.conditions.exclusive_to, goal.metadata.viewer_id}
    if Owner.UNOWNED in known:
        return performer in users
    there = {Owner.PERFORMER} if performer in users else set()
    if clock.rule in (Rule.AUTO, Rule.BOTH) and viewers & set(users):
        there.add(Owner.VIEWER)
    considered = {Owner.PERFORMER, Owner.VIEWER} if clock.rule in (Rule.AUTO, Rule.BOTH) else {Owner.PERFORMER}
    return known & considered == there


# -- afterwards -----------------------------------------------------------------------------------------------------------


@task()
async def seal_clock(context: Context, *, goal_id: DocumentId) -> Outcome:
    """Seals the clock of a goal that ended six minutes ago: what ran at its end is counted, and no mark counts any more."""
    goal = await Goal.seal(ObjectId(goal_id), context.clock.now(), context.origin)
    if goal is None:
        return Returned(Reason.UNKNOWN_GOAL)
    enqueue_promises(context, goal, [PAUSED])
    return Done("no webhook is outstanding")


async def final_goal(context: Context, goal_id: str) -> Goal | None:
    """Seals the goal's clock and returns the goal with its final progress; None when there is none.

    Raises NotYetError while seconds are still being counted.
    """
    goal = await Goal.seal(ObjectId(goal_id), context.clock.now(), context.origin)
    if goal is not None:
        wait_until_counted(context, goal)
    return goal


def wait_until_counted(context: Context, goal: Goal) -> None:
    """Raises NotYetError while seconds of the goal are still being counted, and enqueues what counts them."""
    if goal.uncounted:
        enqueue_promises(context, goal, [promise.id for promise in goal.promises if promise.progress is None])
        raise NotYetError("the last seconds are still being counted", _COUNTING_SECONDS)


async def completed_after_all(context: Context, goal_id: str) -> bool:
    """Returns whether what that goal brought in is a performer's, once no webhook counts any more; then nothing is refunded.

    It is so of a show whose target is reached, and of a funding whose show has begun, whatever became of its levels.
    Raises NotYetError while seconds are still being counted.
    """
    goal = await final_goal(context, goal_id)
    if goal is None or goal.id is None:
        return False
    if goal.kind is GoalKind.FUNDING:
        return await has_begun_its_show(goal.id)
    return goal.kind is GoalKind.SHOW and goal.target is not None and goal.progress >= goal.target


async def has_begun_its_show(funding_goal: ObjectId) -> bool:
    """Returns whether the show exists that this FundingGoal pays for: the show's end settles the escrow, not the funding's."""
    return await Goal.by_id(derived_id(funding_goal, "show")) is not None
