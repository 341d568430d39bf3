"""Tracking events: what happened, for analytics. Written in bulk, off the path; their ids make a repeat harmless."""

from goalsvc.context import Context
from goalsvc.domain.outcome import Done, Outcome
from goalsvc.signals.events import (
    ChannelOccupied,
    ChannelVacated,
    EscrowCompleted,
    EscrowEvent,
    EscrowRefunded,
    EscrowShareCompleted,
    EscrowShareEvent,
    EscrowShareRefunded,
    GoalCompleted,
    GoalEnded,
    GoalEvent,
    GoalProgressed,
    GoalStarted,
    PresenceEvent,
)
from goalsvc.signals.receiver import on, receiver


@receiver(on(ChannelOccupied), on(ChannelVacated), instant=True)
async def track_channel_presence(context: Context, event: PresenceEvent) -> Outcome:
    """Writes down who joined or left which channel."""
    record: dict[str, object] = {
        "_id": event.event_id,
        "name": event.sender,
        "at": event.at,
        "channel": event.channel.name,
        "about": event.channel.about,
    }
    if event.user_id is not None:
        record["user_id"] = event.user_id
    context.recorder.track(record)
    return Done()


@receiver(on(GoalStarted), on(GoalProgressed), on(GoalCompleted), on(GoalEnded), instant=True)
async def track_goals(context: Context, event: GoalEvent) -> Outcome:
    """Writes down what happened to a goal."""
    record: dict[str, object] = {
        "_id": f"{event.sender}:{event.goal_id}:{event.event_id}",
        "name": event.sender,
        "at": event.at,
        "goal_id": event.goal_id,
        "kind": event.kind.value,
        "user_id": event.streamer_id,
        "progress": event.progress,
        "level": event.level,
    }
    if event.conditions.session_id is not None:
        record["session_id"] = event.conditions.session_id
    if isinstance(event, GoalProgressed):
        record["amount"] = event.amount
    context.recorder.track(record)
    return Done()


@receiver(on(EscrowShareCompleted), on(EscrowShareRefunded), on(EscrowCompleted), on(EscrowRefunded), instant=True)
async def track_escrow(context: Context, event: EscrowEvent) -> Outcome:
    """Writes down what left an escrow."""
    record: dict[str, object] = {
        "_id": f"{event.sender}:{event.event_id}",
        "name": event.sender,
        "at": event.at,
        "escrow_id": event.escrow_id,
    }
    if isinstance(event, EscrowShareEvent):
        record |= {"user_id": event.to_user_id, "amount": event.amount}
    context.recorder.track(record)
    return Done()
