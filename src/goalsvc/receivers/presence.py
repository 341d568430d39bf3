"""What joins and leaves mean: the goal's clock, who is online, who watches."""

from bson import ObjectId

from goalsvc.context import Context
from goalsvc.domain.channels import ChannelKind
from goalsvc.domain.moves import Move
from goalsvc.domain.outcome import Done, Outcome, Reason, Returned
from goalsvc.domain.promises import PromiseRef
from goalsvc.models.user import User
from goalsvc.signals.events import ChannelOccupied, ChannelVacated, PresenceEvent
from goalsvc.signals.notices import UserEntered, UserLeft
from goalsvc.signals.receiver import on, receiver
from goalsvc.tasks.dispatch import job_for
from goalsvc.tasks.notices import deliver_notice


@receiver(
    on(ChannelOccupied, channel=ChannelKind.STREAM),
    on(ChannelVacated, channel=ChannelKind.STREAM),
    returns={Reason.NOT_A_STREAM_CHANNEL, Reason.NO_USER},
)
async def trigger_user_enter(context: Context, event: PresenceEvent) -> Outcome:
    """Owes the stream word that a viewer has entered (`user.entered`) or left (`user.left`)."""
    if event.user_id is None:
        return Returned(Reason.NO_USER)
    told = UserEntered if isinstance(event, ChannelOccupied) else UserLeft
    notice = told(event_id=event.event_id, user_id=event.user_id, at=event.at)
    channels = notice.channels_of(event.channel.about)
    # Owed, not told at once: the webhook's answer must not wait for Pusher's.
    follow_up = deliver_notice.follow_up(channels=channels, event=notice.event, data=notice.data())
    return Done(notice.event, follow_ups=(follow_up.called(f"{notice.event}:{event.event_id}"),))


@receiver(
    on(ChannelOccupied, channel=ChannelKind.USER),
    on(ChannelVacated, channel=ChannelKind.USER),
    returns={Reason.NOT_A_USER_CHANNEL, Reason.UNKNOWN_USER, Reason.OVERTAKEN},
)
async def trigger_online(context: Context, event: PresenceEvent) -> Outcome:
    """Notes that a user is online, or when they were seen last."""
    online = isinstance(event, ChannelOccupied)
    user = await User.seen(event.channel.about, event.at, online)
    if user is None:
        known = await User.by_id(event.channel.about)
        return Returned(Reason.UNKNOWN_USER if known is None else Reason.OVERTAKEN)
    return Done("online" if online else "offline")


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
    goal_id, joined = ObjectId(event.channel.about), isinstance(event, ChannelOccupied)
    moved = await context.clocks.move(Move(goal_id, joined, event.user_id, event.at, event.event_id, context.origin))
    if isinstance(moved, Reason):
        return Returned(moved)
    for promise in moved.promises:
        context.queue.enqueue(job_for(PromiseRef("goals", goal_id, promise.id), promise))
    if moved.turned.has_seconds:
        return Done(f"{moved.turned.amount} s performed")
    if moved.turned.started:
        return Done("started")
    return Returned(Reason.ALREADY_RUNNING if moved.running else Reason.NOT_RUNNING)
