"""What a session shows of its goals: shows and exclusives that started and ended, windows of viewers, the karaoke score."""

from bson import ObjectId

from goalsvc.context import Context
from goalsvc.domain.goals import GoalKind
from goalsvc.domain.ids import exclusive_of
from goalsvc.domain.outcome import Done, Outcome, Reason, Returned
from goalsvc.domain.views import session_token_view, streamer_views
from goalsvc.models.goal import Goal
from goalsvc.models.session import Session
from goalsvc.receivers.telling import tell
from goalsvc.receivers.windows import follow_clock
from goalsvc.signals.events import GoalCompleted, GoalEnded, GoalEvent, GoalProgressed, GoalStarted
from goalsvc.signals.notices import KaraokeScore, LevelNotice, SessionKaraokeGoalUpdated, StreamAuthorizedForViewer
from goalsvc.signals.receiver import on, receiver


@receiver(
    on(GoalStarted, GoalKind.SHOW, GoalKind.EXCLUSIVE),
    returns={
        Reason.OTHER_GOAL_KIND,
        Reason.NO_SESSION,
        Reason.NO_SESSION_PAIR,
        Reason.NO_VIEWER,
        Reason.UNKNOWN_SESSION,
        Reason.ALREADY_DONE,
    },
)
async def set_embedded_goal_started(context: Context, event: GoalStarted) -> Outcome:
    """Notes in the session when the show or exclusive started first; an exclusive takes the stream for its viewer.

    The viewer's window gets its end, which the viewer is told (`stream.authorized`).
    """
    session_id, goal_id = event.conditions.session_id, ObjectId(event.goal_id)
    if session_id is None:
        return Returned(Reason.NO_SESSION)
    if event.kind is GoalKind.SHOW:
        noted = await Session.start_show(session_id, goal_id, event.at)
        return Done() if noted else Returned(await _why_not_noted(session_id, goal_id))
    if event.viewer_id is None:
        return Returned(Reason.NO_VIEWER)
    session = await Session.start_exclusive(session_id, event.viewer_id, goal_id, event.at)
    if session is None:
        known = await Session.by_id(session_id)
        return Returned(Reason.UNKNOWN_SESSION if known is None else Reason.ALREADY_DONE)
    goal = await Goal.by_id(goal_id)
    ends_at = None
    if goal is not None and goal.active:
        ends_at = await follow_clock(context, goal)
    elif goal is not None:
        # The start is announced after the end, which may have been noted before: nothing else would free the stream.
        await Session.end_exclusive(session_id, event.viewer_id, goal_id, goal.exp or event.at)
    # Both views tell for whom the stream is; the drops of this signal's siblings may have come before that was written.
    await context.cache.drop([session_token_view(session_id), *streamer_views(event.streamer_id)])
    if ends_at is None:
        return Done()
    notice = StreamAuthorizedForViewer.of(event, viewer_id=event.viewer_id, nbf=event.at, exp=ends_at)
    return await tell(context, notice.channels_of(event.viewer_id), notice.event, notice.data(), cause=event.event_id)


async def _why_not_noted(session_id: ObjectId, show_goal: ObjectId) -> Reason:
    session = await Session.by_id(session_id)
    if session is None:
        return Reason.UNKNOWN_SESSION
    return Reason.NO_SESSION_PAIR if session.pair_of_show(show_goal) is None else Reason.ALREADY_DONE


@receiver(
    on(GoalCompleted, GoalKind.SHOW),
    on(GoalEnded, GoalKind.EXCLUSIVE),
    returns={
        Reason.OTHER_GOAL_KIND,
        Reason.NO_SESSION,
        Reason.NO_SESSION_PAIR,
        Reason.UNKNOWN_SESSION,
        Reason.ALREADY_DONE,
        Reason.NO_VIEWER,
        Reason.NOT_THE_LAST_LEVEL,
    },
)
async def set_embedded_goal_ended(context: Context, event: GoalEvent) -> Outcome:
    """Notes in the session that the show was completed, or that the exclusive ended and the stream is public again."""
    session_id, goal_id = event.conditions.session_id, ObjectId(event.goal_id)
    if session_id is None:
        return Returned(Reason.NO_SESSION)
    if event.kind is GoalKind.SHOW:
        if not event.target_reached:
            return Returned(Reason.NOT_THE_LAST_LEVEL)
        noted = await Session.end_show(session_id, goal_id, event.at)
        return Done() if noted else Returned(await _why_not_noted(session_id, goal_id))
    if event.viewer_id is None:
        return Returned(Reason.NO_VIEWER)
    session = await Session.end_exclusive(session_id, event.viewer_id, goal_id, event.at)
    await context.cache.drop([session_token_view(session_id), *streamer_views(event.streamer_id)])
    return Returned(Reason.NO_SESSION_PAIR) if session is None else Done()


@receiver(
    on(GoalEnded, GoalKind.EXCLUSIVE),
    returns={Reason.OTHER_GOAL_KIND, Reason.NO_SESSION, Reason.NO_VIEWER},
)
async def cleanup_expired_exclusive_goal_pairs(context: Context, event: GoalEnded) -> Outcome:
    """Removes from the session the pair of an exclusive that ended without being performed."""
    if event.conditions.session_id is None:
        return Returned(Reason.NO_SESSION)
    if event.viewer_id is None:
        return Returned(Reason.NO_VIEWER)
    if event.progress > 0:
        return Done("nothing to remove")
    goal_id = ObjectId(event.goal_id)
    removed = await Session.forget_exclusive(event.conditions.session_id, event.viewer_id, goal_id)
    return Done("removed" if removed else "nothing to remove")


@receiver(
    on(GoalEnded, GoalKind.EXCLUSIVE, GoalKind.TRIGGER),
    returns={
        Reason.OTHER_GOAL_KIND,
        Reason.NOT_AGREED,
        Reason.NO_SESSION,
        Reason.NO_VIEWER,
        Reason.NO_EXCLUSIVE,
        Reason.UNKNOWN_SESSION,
    },
)
async def sync_trigger_goal_session_viewer(context: Context, event: GoalEnded) -> Outcome:
    """Opens the viewer's window in the session when their request is agreed to, and closes it when the exclusive ends."""
    session_id, viewer = event.conditions.session_id, event.viewer_id
    if event.kind is GoalKind.TRIGGER and event.triggerer is None:
        return Returned(Reason.NOT_AGREED)
    if session_id is None:
        return Returned(Reason.NO_SESSION)
    if viewer is None:
        return Returned(Reason.NO_VIEWER)
    if event.kind is GoalKind.EXCLUSIVE:
        goal_id = ObjectId(event.goal_id)
        session = await Session.close_window(session_id, viewer, goal_id, event.at, event.progress)
        session = session or await Session.by_id(session_id)  # the window is a later exclusive's
    elif event.metadata.exclusive is None:
        return Returned(Reason.NO_EXCLUSIVE)
    else:
        exclusive_id, target = exclusive_of(ObjectId(event.goal_id)), event.metadata.exclusive.target
        session = await Session.open_window(session_id, viewer, exclusive_id, event.at, target)
        session = session or await Session.by_id(session_id)  # open already: an earlier try came so far
        exclusive = await Goal.by_id(exclusive_id)
        if session is not None and exclusive is not None and not exclusive.active:
            # This comes late: the exclusive is over, and its window may have been closed before it was opened.
            ended_at = exclusive.exp or event.at
            await Session.close_window(session_id, viewer, exclusive_id, ended_at, exclusive.progress)
    if session is None:
        return Returned(Reason.UNKNOWN_SESSION)
    await context.cache.drop([session_token_view(session_id)])
    return Done()


@receiver(
    on(GoalProgressed, GoalKind.KARAOKE),
    returns={Reason.OTHER_GOAL_KIND, Reason.NO_SESSION, Reason.UNKNOWN_SESSION, Reason.OVERTAKEN},
)
async def update_and_notify_session_karaoke_goal(context: Context, event: GoalProgressed) -> Outcome:
    """Shows the karaoke score in the session, never an earlier one, and tells the stream (`session.karaoke_goal.updated`)."""
    session_id = event.conditions.session_id
    if session_id is None:
        return Returned(Reason.NO_SESSION)
    goal_id, active = ObjectId(event.goal_id), not event.target_reached
    session = await Session.update_karaoke(session_id, goal_id, event.progress, list(event.levels), active)
    if session is None:
        known = await Session.by_id(session_id)
        if known is None:
            return Returned(Reason.UNKNOWN_SESSION)
        shown = known.karaoke_goal.progress if known.karaoke_goal is not None else 0
        if known.karaoke_scores.get(event.goal_id, shown) > event.progress:
            return Returned(Reason.OVERTAKEN)
        # This very score is shown: an earlier try came so far, but perhaps not to the notice.
    score = KaraokeScore(
        id=event.goal_id, progress=event.progress, levels=LevelNotice.of_levels(event.levels), active=active
    )
    notice = SessionKaraokeGoalUpdated(
        event_id=event.event_id, session_id=str(session_id), karaoke_goal=score, at=event.at
    )
    return await tell(context, notice.channels_of(event.streamer_id), notice.event, notice.data(), cause=event.event_id)


@receiver(on(GoalProgressed), on(GoalEnded))
async def invalidate_cached_pusher_channel_data(context: Context, event: GoalEvent) -> Outcome:
    """Drops the cached data of the channels that show the streamer's goals."""
    await context.cache.drop(streamer_views(event.streamer_id))
    return Done()
