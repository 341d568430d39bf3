"""What clients are told of goals, through Pusher: at least once, each with an `event_id`."""

from bson import ObjectId

from goalsvc.context import Context
from goalsvc.domain.goals import PERFORMED, GoalKind
from goalsvc.domain.ids import derived_id
from goalsvc.domain.outcome import Done, Outcome, Reason, Returned
from goalsvc.domain.pace import slot_of, slot_start
from goalsvc.models.events import followed_by
from goalsvc.models.wallet import Earning
from goalsvc.receivers.telling import tell
from goalsvc.signals.events import (
    EscrowCompleted,
    EscrowEvent,
    EscrowRefunded,
    EscrowShareCompleted,
    EscrowShareRefunded,
    GoalCompleted,
    GoalEnded,
    GoalEvent,
    GoalProgressed,
)
from goalsvc.signals.notices import (
    USER,
    ContributorNotice,
    ExclusiveClosed,
    GoalEndedNotice,
    GoalProgressUpdated,
    LivestreamMvps,
    Notice,
    ShowNotice,
    StreamAuthorizedForAll,
    StreamAuthorizedForViewer,
    StreamChanged,
    WalletUpdated,
    shortened,
)
from goalsvc.signals.receiver import on, receiver
from goalsvc.tasks.notices import LATE_PROGRESS, notify_progress

PUBLIC_KINDS = tuple(kind for kind in GoalKind if kind is not GoalKind.EXCLUSIVE)

#: How many contributors `livestream.mvps` names.
MOST_VALUABLE = 3


def parties(event: GoalEvent) -> list[str]:
    """The channels of those whom an exclusive concerns: viewer and streamer."""
    users = [user for user in (event.viewer_id, event.streamer_id) if user]
    return [USER.of(user) for user in dict.fromkeys(users)]


async def _tell(context: Context, notice: Notice, channels: list[str]) -> Outcome:
    return await tell(context, channels, notice.event, notice.data(), cause=notice.event_id)


@receiver(on(GoalProgressed, *PUBLIC_KINDS), returns={Reason.OTHER_GOAL_KIND, Reason.OVERTAKEN})
async def notify_goal_progress_updated(context: Context, event: GoalProgressed) -> Outcome:
    """Tells the stream the goal's new progress (`goal.progress.updated`)."""
    per_second, crowd = context.settings.progress_notices_per_second, event.contributions > 0
    if context.pace.sent(event.goal_id) >= event.progress:
        return Returned(Reason.OVERTAKEN)
    slot = slot_of(context.clock.now(), per_second)
    if not await context.pace.claim(event.goal_id, slot, event.progress, shared=crowd):
        later = notify_progress.follow_up(
            goal_id=event.goal_id, since=event.progress - event.amount, contributions=crowd
        )
        later = later.called(LATE_PROGRESS).not_before(slot_start(slot + 1, per_second))
        return Done("later: clients were told just now", follow_ups=(later,))
    sent = False
    try:
        notice = GoalProgressUpdated.of(event, amount=event.amount, contributions=event.contributions or None)
        outcome = await _tell(context, notice, notice.channels_of(event.streamer_id))
        sent = isinstance(outcome, Done) and not outcome.follow_ups
        return outcome
    finally:
        context.pace.end(event.goal_id, event.progress, sent=sent)


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
    plan = event.metadata.funded_show
    notice = StreamChanged.of(
        event,
        show=ShowNotice(title=shortened(plan.title), target=plan.target) if plan else None,
        show_goal_id=str(derived_id(ObjectId(event.goal_id), "show")) if plan else None,
    )
    return await _tell(context, notice, notice.channels_of(event.streamer_id))


@receiver(on(GoalCompleted, GoalKind.FUNDING, GoalKind.KARAOKE), returns={Reason.OTHER_GOAL_KIND})
async def notify_livestream_mvps(context: Context, event: GoalCompleted) -> Outcome:
    """Tells the stream who contributed most (`livestream.mvps`)."""
    best = await Earning.leaderboard(ObjectId(event.goal_id), MOST_VALUABLE)
    notice = LivestreamMvps.of(event, mvps=tuple(ContributorNotice.model_validate(one) for one in best))
    return await _tell(context, notice, notice.channels_of(event.streamer_id))


@receiver(on(GoalEnded), returns={Reason.COMPLETED_SHOW})
async def notify_goal_ended(context: Context, event: GoalEnded) -> Outcome:
    """Tells that the goal is over (`goal.ended`): the stream, or those alone whom an exclusive concerns."""
    if event.kind is GoalKind.SHOW and event.target_reached:
        return Returned(Reason.COMPLETED_SHOW)
    notice = GoalEndedNotice.of(
        event, completed=event.target_reached, absent=event.absent if event.kind in PERFORMED else None
    )
    private = event.kind is GoalKind.EXCLUSIVE
    return await _tell(context, notice, parties(event) if private else notice.channels_of(event.streamer_id))


@receiver(on(GoalEnded, GoalKind.EXCLUSIVE), returns={Reason.OTHER_GOAL_KIND})
async def trigger_exclusive_on_close_notification(context: Context, event: GoalEnded) -> Outcome:
    """Tells viewer and streamer that their private minute is over (`exclusive.closed`)."""
    return await _tell(context, ExclusiveClosed.of(event), parties(event))


@receiver(
    on(GoalEnded, GoalKind.TRIGGER),
    returns={Reason.OTHER_GOAL_KIND, Reason.NOT_AGREED, Reason.NO_VIEWER, Reason.NO_EXCLUSIVE},
)
async def notify_stream_authorized_for_agreed_trigger_goal(context: Context, event: GoalEnded) -> Outcome:
    """Tells the viewer whose request was agreed to from when on the stream is theirs (`stream.authorized`)."""
    if event.triggerer is None:
        return Returned(Reason.NOT_AGREED)
    if event.viewer_id is None:
        return Returned(Reason.NO_VIEWER)
    if event.metadata.exclusive is None:
        return Returned(Reason.NO_EXCLUSIVE)
    notice = StreamAuthorizedForViewer.of(event, viewer_id=event.viewer_id, nbf=event.at, **followed_by(event))
    return await _tell(context, notice, notice.channels_of(event.viewer_id))


@receiver(on(GoalEnded, GoalKind.EXCLUSIVE), returns={Reason.OTHER_GOAL_KIND})
async def notify_stream_authorized_for_ended_exclusive_goal(context: Context, event: GoalEnded) -> Outcome:
    """Tells the stream that it is public again (`stream.authorized`)."""
    notice = StreamAuthorizedForAll(
        event_id=event.event_id,
        user_id=event.streamer_id,
        at=event.at,
        nbf=event.at,
        exclusive_goal_id=event.goal_id,
    )
    return await _tell(context, notice, notice.channels_of(event.streamer_id))


@receiver(
    on(EscrowShareCompleted),
    on(EscrowShareRefunded),
    on(EscrowCompleted),
    on(EscrowRefunded),
    returns={Reason.TOLD_BY_SHARE, Reason.TOLD_AT_THE_END, Reason.NOTHING_HELD},
)
async def notify_wallet_updated(context: Context, event: EscrowEvent) -> Outcome:
    """Tells a user that tokens have come in (`wallet.updated`): of a payout once at its end, of refunds each viewer."""
    transfer_id: str | None = None
    match event:
        case EscrowShareCompleted():
            return Returned(Reason.TOLD_AT_THE_END)
        case EscrowShareRefunded():
            payee, amount, shares, transfer_id = event.to_user_id, event.amount, 1, event.transfer_id
        case EscrowCompleted():
            if event.amount <= 0:
                return Returned(Reason.NOTHING_HELD)
            payee, amount, shares = event.to_user_id, event.amount, event.shares
        case _:
            return Returned(Reason.TOLD_BY_SHARE)
    notice = WalletUpdated(
        event_id=event.event_id,
        user_id=payee,
        direction="credit",
        amount=amount,
        shares=shares,
        escrow_id=event.escrow_id,
        transfer_id=transfer_id,
        at=event.at,
    )
    return await _tell(context, notice, notice.channels_of(payee))
