"""What joins and leaves mean: the goal's clock, who is online, who watches."""

from bson import ObjectId

from goalsvc.context import Context
from goalsvc.models.goal import PERFORMED_CLS, Goal, started_promise
from goalsvc.models.user import User
from goalsvc.signals.events import ChannelOccupied, ChannelVacated, PresenceEvent
from goalsvc.signals.outcome import Done, Outcome, Reason, Returned
from goalsvc.signals.pusher import ChannelKind, presence_stream, private_stream
from goalsvc.signals.receiver import on, receiver
from goalsvc.signals.trace import place
from goalsvc.tasks.notices import deliver_notice
from goalsvc.tasks.runner import hurry


@receiver(
    on(ChannelOccupied, channel=ChannelKind.STREAM),
    on(ChannelVacated, channel=ChannelKind.STREAM),
    returns={Reason.NOT_A_STREAM_CHANNEL, Reason.NO_USER},
)
async def trigger_user_enter(context: Context, event: PresenceEvent) -> Outcome:
    """Owes the stream word that a viewer has entered (`user.entered`) or left (`user.left`)."""
    if event.user_id is None:
        return Returned(Reason.NO_USER)
    name = "user.entered" if isinstance(event, ChannelOccupied) else "user.left"
    streamer = event.channel.about
    # Owed, not told at once: the webhook's answer must not wait for Pusher's.
    notice = deliver_notice.owe(
        channels=[private_stream(streamer), presence_stream(streamer)],
        event=name,
        data={"user_id": event.user_id, "at": event.at.isoformat(), "event_id": event.event_id},
    )
    return Done(name, owes=(notice.called(f"{name}:{event.event_id}"),))


@receiver(
    on(ChannelOccupied, channel=ChannelKind.USER),
    on(ChannelVacated, channel=ChannelKind.USER),
    returns={Reason.NOT_A_USER_CHANNEL, Reason.OVERTAKEN},
)
async def trigger_online(context: Context, event: PresenceEvent) -> Outcome:
    """Notes that a user is online, or when he was seen last."""
    online = isinstance(event, ChannelOccupied)
    user = await User.seen(event.channel.about, event.at, online)
    return Returned(Reason.OVERTAKEN) if user is None else Done("online" if online else "offline")


@receiver(
    on(ChannelOccupied, channel=ChannelKind.GOAL),
    on(ChannelVacated, channel=ChannelKind.GOAL),
    returns={
        Reason.NOT_A_GOAL_CHANNEL,
        Reason.UNKNOWN_GOAL,
        Reason.OTHER_GOAL_KIND,
        Reason.NOT_A_PARTICIPANT,
        Reason.GOAL_INACTIVE,
        Reason.ALREADY_RUNNING,
        Reason.NOT_RUNNING,
    },
)
async def karaoke_control(context: Context, event: PresenceEvent) -> Outcome:
    """Starts or pauses the goal's clock, and promises what follows: `goal.started`, or the performed seconds."""
    if not ObjectId.is_valid(event.channel.about):
        return Returned(Reason.UNKNOWN_GOAL)
    goal_id, now = ObjectId(event.channel.about), context.clock.now()
    joined = isinstance(event, ChannelOccupied)
    change = Goal.join if joined else Goal.leave
    goal = await change(goal_id, event.user_id, event.at, now, event.event_id, place(event.sender, "karaoke_control"))
    if goal is None:
        return Returned(await _why_unmoved(goal_id, event.user_id, joined))
    starts, counts = goal.owed(started_promise(event.event_id)), goal.owed(event.event_id)
    hurry(context, goal, [promise.id for promise in (starts, counts) if promise is not None])
    if counts is not None:
        return Done(f"{counts.arguments['amount']} s performed")
    if starts is not None:
        return Done("started")
    return Returned(Reason.ALREADY_RUNNING if joined else Reason.NOT_RUNNING)


async def _why_unmoved(goal_id: ObjectId, user_id: str | None, joined: bool) -> Reason:
    """Why no goal matched: a read afterwards, for the reason only."""
    goal = await Goal.by_id(goal_id)
    if goal is None:
        return Reason.UNKNOWN_GOAL
    if goal.kind.cls not in PERFORMED_CLS:
        return Reason.OTHER_GOAL_KIND
    if user_id is not None and user_id not in goal.participants:
        return Reason.NOT_A_PARTICIPANT
    return Reason.GOAL_INACTIVE if joined or not goal.active else Reason.NOT_RUNNING
