"""From progress to completion: levels, the end of a completed goal, its clip, and the show that a funding pays for."""

from contextlib import suppress
from datetime import timedelta

from bson import ObjectId
from pymongo.errors import DuplicateKeyError

from goalsvc.context import Context
from goalsvc.models.goal import ExclusiveGoal, Goal, ShowGoal
from goalsvc.models.session import Session
from goalsvc.models.user import User
from goalsvc.signals.events import Conditions, GoalCompleted, GoalEnded, GoalKind, GoalProgressed, Level, Metadata
from goalsvc.signals.outcome import Debt, Done, Outcome, Reason, Returned
from goalsvc.signals.receiver import on, receiver
from goalsvc.tasks import ending
from goalsvc.tasks.clips import CLIP_TAGS, create_post_from_livestream, derived_id
from goalsvc.tasks.escrow import exclusive_of

CLIPS_BANNED_TAG = "banned:livestream:create_clip"


@receiver(on(GoalProgressed), returns={Reason.NO_NEW_LEVEL})
async def trigger_goal_complete(context: Context, event: GoalProgressed) -> Outcome:
    """Sends `goal.completed` when this progress has reached a level that it had not reached before."""
    if event.level <= event.level_before:
        return Returned(Reason.NO_NEW_LEVEL)
    completed = GoalCompleted(
        event_id=f"{event.event_id}:completed",
        at=event.at,
        goal_id=event.goal_id,
        kind=event.kind,
        conditions=event.conditions,
        context=event.context,
        progress=event.progress,
        levels=event.levels,
        metadata=event.metadata,
    )
    return Done(f"level {event.level}", reports=(await context.bus.send(context, completed),))


@receiver(on(GoalCompleted), returns={Reason.NOT_THE_LAST_LEVEL})
async def deactivate_goal(context: Context, event: GoalCompleted) -> Outcome:
    """Owes the end of a goal whose last level is reached."""
    if not event.target_reached:
        return Returned(Reason.NOT_THE_LAST_LEVEL)
    return Done(owes=(ending.deactivate_goal.owe(goal_id=event.goal_id),))


@receiver(
    on(GoalCompleted, GoalKind.SHOW, GoalKind.KARAOKE),
    returns={Reason.OTHER_GOAL_KIND, Reason.NOT_THE_LAST_LEVEL, Reason.NO_SESSION, Reason.CLIPS_BANNED},
)
async def produce_livestream_clip_from_goal(context: Context, event: GoalCompleted) -> Outcome:
    """Owes the clip of a completed performance, unless the streamer must not have clips made of him."""
    if not event.target_reached:
        return Returned(Reason.NOT_THE_LAST_LEVEL)
    if event.conditions.session_id is None:
        return Returned(Reason.NO_SESSION)
    user = await User.find_one({"_id": event.streamer_id})
    if user is not None and CLIPS_BANNED_TAG in user.tags:
        return Returned(Reason.CLIPS_BANNED)
    first = event.levels[0]
    clip = create_post_from_livestream.owe(
        session_id=str(event.conditions.session_id),
        caption=first.title,
        duration=context.settings.livestream_clip_goal_duration,
        rewind_seconds=first.target // 2,
        tags=list(CLIP_TAGS),
        goal_id=event.goal_id,
        # Not when a worker came round to it, but when the performer had done it.
        completed_at=event.context.paused or event.at,
    )
    return Done(owes=(clip,))


@receiver(
    on(GoalCompleted, GoalKind.FUNDING),
    returns={
        Reason.OTHER_GOAL_KIND,
        Reason.NOT_THE_LAST_LEVEL,
        Reason.NO_SESSION,
        Reason.NO_SHOW,
        Reason.UNKNOWN_SESSION,
        Reason.ALREADY_DONE,
    },
)
async def start_funded_show(context: Context, event: GoalCompleted) -> Outcome:
    """Begins the show that is now paid for, and pairs it with its funding in the session."""
    if not event.target_reached:
        return Returned(Reason.NOT_THE_LAST_LEVEL)
    if event.conditions.session_id is None:
        return Returned(Reason.NO_SESSION)
    plan = event.metadata.show
    if plan is None:
        return Returned(Reason.NO_SHOW)
    funding_goal = ObjectId(event.goal_id)
    session_id = event.conditions.session_id
    show = ShowGoal(
        id=derived_id(funding_goal, "show"),
        levels=[Level(title=plan.title, target=plan.target)],
        conditions=Conditions(session_id=session_id),
        metadata=Metadata.model_validate({"user_id": event.streamer_id, "funding_goal_id": event.goal_id}),
    )
    with suppress(DuplicateKeyError):  # an earlier try came so far
        await show.insert()
    paired = await Session.pair_show(session_id, funding_goal, show.id)  # type: ignore[arg-type]
    if paired is None:
        return await _paired_before(session_id)
    return Done(f"show {show.id}", owes=_end_with(paired))


@receiver(
    on(GoalEnded, GoalKind.TRIGGER),
    returns={
        Reason.OTHER_GOAL_KIND,
        Reason.NOT_AGREED,
        Reason.NO_SESSION,
        Reason.NO_EXCLUSIVE,
        Reason.NO_VIEWER,
        Reason.UNKNOWN_SESSION,
        Reason.ALREADY_DONE,
    },
)
async def start_agreed_exclusive(context: Context, event: GoalEnded) -> Outcome:
    """Begins the exclusive that was agreed to, and pairs it with its request in the session."""
    if event.triggerer is None:
        return Returned(Reason.NOT_AGREED)
    session_id, plan, viewer = event.conditions.session_id, event.metadata.exclusive, event.viewer_id
    if session_id is None:
        return Returned(Reason.NO_SESSION)
    if plan is None:
        return Returned(Reason.NO_EXCLUSIVE)
    if viewer is None:
        return Returned(Reason.NO_VIEWER)
    trigger_goal = ObjectId(event.goal_id)
    exclusive = ExclusiveGoal(
        id=exclusive_of(trigger_goal),
        levels=[Level(title=plan.title, target=plan.target)] if plan.target else [],
        conditions=Conditions(session_id=session_id, exclusive_to=viewer, trigger_goal_id=trigger_goal),
        metadata=Metadata(user_id=event.streamer_id, viewer_id=viewer, price=event.metadata.price),
        # A performer who never comes must not hold the viewer's tokens for ever.
        exp=event.at + timedelta(seconds=max(plan.target, 60) + context.settings.exclusive_begin_limit),
    )
    with suppress(DuplicateKeyError):  # an earlier try came so far
        await exclusive.insert()
    paired = await Session.pair_exclusive(session_id, viewer, trigger_goal, exclusive.id)  # type: ignore[arg-type]
    begun = await Goal.by_id(exclusive.id)
    if begun is not None and not begun.active:
        # An earlier try made it and died before it was paired; meanwhile it was over, with no pair to note that in.
        if begun.progress > 0:
            await Session.end_exclusive(session_id, viewer, exclusive.id, begun.exp or event.at)  # type: ignore[arg-type]
        else:
            await Session.forget_exclusive(session_id, viewer, exclusive.id)  # type: ignore[arg-type]
    if paired is None:
        return await _paired_before(session_id)
    return Done(f"exclusive {exclusive.id}", owes=_end_with(paired))


async def _paired_before(session_id: ObjectId) -> Outcome:
    """The answer when an earlier try has come so far; it may not have lived to owe what follows."""
    session = await Session.by_id(session_id)
    if session is None:
        return Returned(Reason.UNKNOWN_SESSION)
    owes = _end_with(session)
    return Done("paired before", owes=owes) if owes else Returned(Reason.ALREADY_DONE)


def _end_with(session: Session) -> tuple[Debt, ...]:
    """What is owed when a session has ended before a goal of it could begin: the goal ends too, or its escrow would stay."""
    return () if session.open else (ending.end_session.owe(session_id=str(session.id)),)
