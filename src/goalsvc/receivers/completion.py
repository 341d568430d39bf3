"""From progress to completion: levels, the end of a completed goal, its clip, and the show that a funding pays for."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from enum import Enum, auto

from bson import ObjectId
from pymongo.errors import DuplicateKeyError

from goalsvc.context import Context
from goalsvc.database_session import DatabaseSession
from goalsvc.domain.goals import LONGEST_TARGET_SECONDS, Conditions, GoalKind, Level, Metadata
from goalsvc.domain.ids import derived_id, exclusive_of
from goalsvc.domain.outcome import Done, FollowUp, Outcome, Reason, Returned
from goalsvc.models.events import of_goal
from goalsvc.models.goal import ExclusiveGoal, Goal, ShowGoal
from goalsvc.models.healing import healing
from goalsvc.models.session import Session
from goalsvc.models.user import User
from goalsvc.signals.events import GoalCompleted, GoalEnded, GoalProgressed
from goalsvc.signals.receiver import on, receiver
from goalsvc.tasks import ending
from goalsvc.tasks.clips import CLIP_TAGS, create_post_from_livestream
from goalsvc.tasks.dispatch import enqueue_promises
from goalsvc.tasks.events import promise_of

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
    return Done(follow_ups=(ending.deactivate_goal.follow_up(goal_id=event.goal_id),))


@receiver(
    on(GoalCompleted, GoalKind.SHOW, GoalKind.KARAOKE),
    returns={Reason.OTHER_GOAL_KIND, Reason.NOT_THE_LAST_LEVEL, Reason.NO_SESSION, Reason.CLIPS_BANNED},
)
async def produce_livestream_clip_from_goal(context: Context, event: GoalCompleted) -> Outcome:
    """Promises the clip of a completed performance, unless clips of the streamer are banned."""
    if not event.target_reached:
        return Returned(Reason.NOT_THE_LAST_LEVEL)
    if event.conditions.session_id is None:
        return Returned(Reason.NO_SESSION)
    user = await User.by_id(event.streamer_id)
    if user is not None and CLIPS_BANNED_TAG in user.tags:
        return Returned(Reason.CLIPS_BANNED)
    first = event.levels[0]
    clip = create_post_from_livestream.follow_up(
        session_id=str(event.conditions.session_id),
        caption=first.title,
        duration=context.settings.livestream_clip_goal_duration,
        rewind_seconds=first.target // 2,
        tags=list(CLIP_TAGS),
        goal_id=event.goal_id,
        # Not when a worker came round to it, but when the performer had done it.
        completed_at=event.context.paused or event.at,
    )
    return Done(follow_ups=(clip,))


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
    plan = event.metadata.funded_show
    if plan is None:
        return Returned(Reason.NO_SHOW)
    funding_goal = ObjectId(event.goal_id)
    session_id = event.conditions.session_id
    begin_limit = context.settings.show_begin_limit
    show = ShowGoal(
        id=derived_id(funding_goal, "show"),
        levels=[Level(title=plan.title, target=plan.target)],
        conditions=Conditions(session_id=session_id),
        metadata=Metadata(user_id=event.streamer_id, funding_goal_id=funding_goal, fee_bps=event.metadata.fee_bps),
        begin_by=event.at + timedelta(seconds=begin_limit) if begin_limit else None,
        created_at=context.clock.now(),
    )

    async def pair(session: DatabaseSession) -> _Pairing:
        if await Session.pair_show(session_id, funding_goal, show.id, session):  # type: ignore[arg-type]
            return _Pairing.NEW
        found = await Session.by_id(session_id, session)
        other = found is not None and found.pair_of_show(show.id) is None  # type: ignore[arg-type]
        return _Pairing.TAKEN if other else _Pairing.KNOWN  # another show may have been paired with the funding

    return await _begin(context, show, session_id, pair, f"show {show.id}")


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
    # Another service may ask for more than a day: the time must still be a date.
    target = min(max(plan.target, 60), LONGEST_TARGET_SECONDS)
    exclusive = ExclusiveGoal(
        id=exclusive_of(trigger_goal),
        levels=[Level(title=plan.title, target=plan.target)] if plan.target > 0 else [],
        conditions=Conditions(session_id=session_id, exclusive_to=viewer, trigger_goal_id=trigger_goal),
        metadata=Metadata(
            user_id=event.streamer_id, viewer_id=viewer, price=event.metadata.price, fee_bps=event.metadata.fee_bps
        ),
        # A performer who never comes must not hold the viewer's tokens for ever.
        exp=event.at + timedelta(seconds=target + context.settings.exclusive_begin_limit),
        created_at=context.clock.now(),
    )

    async def pair(session: DatabaseSession) -> _Pairing:
        paired = await Session.pair_exclusive(session_id, viewer, trigger_goal, exclusive.id, session)  # type: ignore[arg-type]
        return _Pairing.KNOWN if paired is None else _Pairing.NEW

    return await _begin(context, exclusive, session_id, pair, f"exclusive {exclusive.id}")


class _Pairing(Enum):
    """What became of the reference to a goal in its session."""

    NEW = auto()
    KNOWN = auto()
    """It is there, or there is no such session."""
    TAKEN = auto()
    """The session refers to another goal in its place."""


async def _begin(
    context: Context,
    goal: Goal,
    session_id: ObjectId,
    pair: Callable[[DatabaseSession], Awaitable[_Pairing]],
    what: str,
) -> Outcome:
    """Makes a goal and its pair in the session, in one transaction: no reader finds one without the other.

    An exclusive that an earlier try made is not paired again: it may be over by now, and its pair removed.
    """
    now = context.clock.now()
    told = promise_of(of_goal("goal.created", goal, now, context.origin.cause), now, context.origin)
    goal.promises = [told]

    async def make(session: DatabaseSession) -> tuple[bool, bool]:
        known = await Goal.get_motor_collection().find_one({"_id": goal.id}, {"_id": 1}, session=session) is not None
        if known and goal.kind is GoalKind.EXCLUSIVE:
            return False, False
        pairing = await pair(session)
        if known or pairing is _Pairing.TAKEN:
            return False, pairing is _Pairing.NEW
        await goal.insert(session=session)
        return True, True

    try:
        made, changed = await healing(Session, session_id, lambda: context.ledger.transaction(make))
    except DuplicateKeyError:  # another worker made it meanwhile
        made = changed = False
    if made:
        enqueue_promises(context, goal, [told.id])
    # Read after the goal was made: a session that ends later finds it and ends it, one that has ended is seen here.
    session = await Session.by_id(session_id)
    if session is None:
        return Returned(Reason.UNKNOWN_SESSION)
    follow_ups = _end_with(session)
    if not changed and not follow_ups:
        return Returned(Reason.ALREADY_DONE)
    return Done(what, follow_ups=follow_ups)


def _end_with(session: Session) -> tuple[FollowUp, ...]:
    """What is owed when a session has ended before a goal of it could begin: the goal ends too, or its escrow would stay."""
    return () if session.open else (ending.end_session.follow_up(session_id=str(session.id)),)
