"""The viewer's window in the session follows the clock of the exclusive that it belongs to."""

from datetime import datetime, timedelta

from goalsvc.context import Context
from goalsvc.domain.views import session_token_view
from goalsvc.models.goal import Goal
from goalsvc.models.session import Session


async def follow_clock(context: Context, goal: Goal) -> datetime | None:
    """Sets the end of the viewer's window from the clock of that exclusive as it is now; returns that end, if it was set.

    While the clock runs, the window ends when the target will be reached; while it is paused, at the latest instant at which
    that may be: when the exclusive is resumed just before it would be ended. Nothing is set before the first start, for a
    goal that has ended, or without a target.
    """
    session_id, viewer, clock = goal.conditions.session_id, goal.conditions.exclusive_to, goal.performance
    viewer = viewer or goal.metadata.viewer_id
    if session_id is None or viewer is None or not goal.active or not goal.target or goal.id is None:
        return None
    started, paused = clock.started, goal.context.paused
    remaining = timedelta(seconds=max(0, goal.target - max(clock.counted, goal.progress)))
    if clock.running and started is not None:
        exp = started + remaining
    elif paused is not None:
        exp = paused + timedelta(seconds=context.settings.exclusive_resume_grace) + remaining
    else:
        return None
    moved = await Session.move_window(
        session_id,
        viewer,
        goal.id,
        exp,
        as_of=goal.context.last_updated or exp,
        nbf=_first(started, paused, exp),
        duration_seconds=goal.target,
    )
    if not moved:
        return None
    await context.cache.drop([session_token_view(session_id)])
    return exp


def _first(*instants: datetime | None) -> datetime:
    return min(instant for instant in instants if instant is not None)
