"""What clients are told of goals, through Pusher: at least once, each with an `event_id`."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from goalsvc.context import Context
from goalsvc.models.wallet import Earning
from goalsvc.receivers.telling import tell
from goalsvc.signals.events import (
    EscrowCompleted,
    EscrowEvent,
    EscrowRefunded,
    EscrowShareCompleted,
    EscrowShareEvent,
    EscrowShareRefunded,
    GoalCompleted,
    GoalEnded,
    GoalEvent,
    GoalKind,
    GoalProgressed,
)
from goalsvc.signals.outcome import Outcome, Reason, Returned
from goalsvc.signals.pusher import presence_stream, private_stream, private_user
from goalsvc.signals.receiver import on, receiver

PUBLIC_KINDS = tuple(kind for kind in GoalKind if kind is not GoalKind.EXCLUSIVE)

#: How many contributors `livestream.mvps` names.
MOST_VALUABLE = 3


def goal_notice(event: GoalEvent) -> dict[str, Any]:
    """What every notice about a goal says."""
    notice: dict[str, Any] = {
        "event_id": event.event_id,
        "goal_id": event.goal_id,
        "kind": event.kind.value,
        "progress": event.progress,
        "level": event.level,
        "levels": [{"title": level.title, "target": level.target} for level in event.levels],
        "user_id": event.streamer_id,
        "at": event.at,
    }
    if event.conditions.session_id is not None:
        notice["session_id"] = str(event.conditions.session_id)
    return notice


def public_channels(streamer_id: str) -> list[str]:
    """Where what happens on a stream is told: its viewers, whoever is present, and the streamer."""
    return [private_stream(streamer_id), presence_stream(streamer_id), private_user(streamer_id)]


def parties(event: GoalEvent) -> list[str]:
    """The channels of those whom an exclusive concerns: viewer and streamer."""
    users = [user for user in (event.viewer_id, event.streamer_id) if user]
    return [private_user(user) for user in dict.fromkeys(users)]


@receiver(on(GoalProgressed, *PUBLIC_KINDS), returns={Reason.OTHER_GOAL_KIND})
async def notify_goal_progress_updated(context: Context, event: GoalProgressed) -> Outcome:
    """Tells the stream the goal's new progress (`goal.progress.updated`)."""
    notice = goal_notice(event) | {"amount": event.amount}
    return await tell(
        context, public_channels(event.streamer_id), "goal.progress.updated", notice, cause=event.event_id
    )


@receiver(
    on(GoalProgressed, GoalKind.FUNDING),
    returns={Reason.OTHER_GOAL_KIND, Reason.TARGET_NOT_REACHED, Reason.NO_NEW_LEVEL},
)
async def notify_viewer_change_stream_for_show(context: Context, event: GoalProgressed) -> Outcome:
    """Tells the stream to switch to the show that is now paid for (`stream.changed`)."""
    if not event.target_reached:
        return Returned(Reason.TARGET_NOT_REACHED)
    if event.level == event.level_before:
        return Returned(Reason.NO_NEW_LEVEL)
    notice = goal_notice(event)
    if event.metadata.show is not None:
        notice["show"] = {"title": event.metadata.show.title, "target": event.metadata.show.target}
    channels = [private_stream(event.streamer_id), presence_stream(event.streamer_id)]
    return await tell(context, channels, "stream.changed", notice, cause=event.event_id)


@receiver(on(GoalCompleted, GoalKind.FUNDING, GoalKind.KARAOKE), returns={Reason.OTHER_GOAL_KIND})
async def notify_livestream_mvps(context: Context, event: GoalCompleted) -> Outcome:
    """Tells the stream who contributed most (`livestream.mvps`)."""
    best = await Earning.leaderboard(ObjectId(event.goal_id), MOST_VALUABLE)
    channels = [private_stream(event.streamer_id), presence_stream(event.streamer_id)]
    return await tell(
        context, channels, "livestream.mvps", goal_notice(event) | {"mvps": list(best)}, cause=event.event_id
    )


@receiver(on(GoalEnded), returns={Reason.COMPLETED_SHOW})
async def notify_goal_ended(context: Context, event: GoalEnded) -> Outcome:
    """Tells that the goal is over (`goal.ended`): the stream, or those alone whom an exclusive concerns."""
    if event.kind is GoalKind.SHOW and event.target_reached:
        return Returned(Reason.COMPLETED_SHOW)
    channels = parties(event) if event.kind is GoalKind.EXCLUSIVE else public_channels(event.streamer_id)
    notice = goal_notice(event) | {"completed": event.target_reached}
    return await tell(context, channels, "goal.ended", notice, cause=event.event_id)


@receiver(on(GoalEnded, GoalKind.EXCLUSIVE), returns={Reason.OTHER_GOAL_KIND})
async def trigger_exclusive_on_close_notification(context: Context, event: GoalEnded) -> Outcome:
    """Tells viewer and streamer that their private minute is over (`exclusive.closed`)."""
    return await tell(context, parties(event), "exclusive.closed", goal_notice(event), cause=event.event_id)


@receiver(
    on(GoalEnded, GoalKind.TRIGGER),
    returns={Reason.OTHER_GOAL_KIND, Reason.NOT_AGREED, Reason.NO_VIEWER, Reason.NO_EXCLUSIVE},
)
async def notify_stream_authorized_for_agreed_trigger_goal(context: Context, event: GoalEnded) -> Outcome:
    """Tells the viewer whose request was agreed to from when until when the stream is his (`stream.authorized`)."""
    if event.triggerer is None:
        return Returned(Reason.NOT_AGREED)
    if event.viewer_id is None:
        return Returned(Reason.NO_VIEWER)
    if event.metadata.exclusive is None:
        return Returned(Reason.NO_EXCLUSIVE)
    window = window_of(event.at, event.metadata.exclusive.target)
    notice = goal_notice(event) | {"viewer_id": event.viewer_id, **window}
    return await tell(context, [private_user(event.viewer_id)], "stream.authorized", notice, cause=event.event_id)


def window_of(nbf: datetime, duration_seconds: int) -> Mapping[str, datetime]:
    """From when until when a viewer may watch."""
    return {"nbf": nbf, "exp": nbf + timedelta(seconds=duration_seconds)}


@receiver(on(GoalEnded, GoalKind.EXCLUSIVE), returns={Reason.OTHER_GOAL_KIND})
async def notify_stream_authorized_for_ended_exclusive_goal(context: Context, event: GoalEnded) -> Outcome:
    """Tells the stream that it is public again (`stream.authorized`)."""
    channels = [private_stream(event.streamer_id), presence_stream(event.streamer_id)]
    notice = {"event_id": event.event_id, "user_id": event.streamer_id, "at": event.at, "nbf": event.at}
    return await tell(context, channels, "stream.authorized", notice, cause=event.event_id)


@receiver(
    on(EscrowShareCompleted),
    on(EscrowShareRefunded),
    on(EscrowCompleted),
    on(EscrowRefunded),
    returns={Reason.TOLD_BY_SHARE},
)
async def notify_wallet_updated(context: Context, event: EscrowEvent) -> Outcome:
    """Tells a user that tokens have come in (`wallet.updated`), share by share; their sum is no news."""
    if not isinstance(event, EscrowShareEvent):
        return Returned(Reason.TOLD_BY_SHARE)
    notice = {
        "event_id": event.event_id,
        "user_id": event.to_user_id,
        "amount": event.amount,
        "escrow_id": event.escrow_id,
        "transfer_id": event.transfer_id,
        "at": event.at,
    }
    return await tell(context, [private_user(event.to_user_id)], "wallet.updated", notice, cause=event.event_id)
