"""The money: what each end and each completion does to the escrow behind a goal."""

from collections.abc import Sequence
from datetime import timedelta

from bson import ObjectId

from goalsvc.context import Context
from goalsvc.domain.escrow import (
    COMPLETED,
    REFUNDED,
    exclusive_escrow,
    performed_share,
    show_escrow,
    trigger_escrow,
)
from goalsvc.domain.goals import GoalKind
from goalsvc.domain.ids import exclusive_of
from goalsvc.domain.outcome import Done, FollowUp, Outcome, Reason, Returned
from goalsvc.errors import InvalidError
from goalsvc.models.goal import Goal
from goalsvc.models.session import Session
from goalsvc.models.wallet import Account
from goalsvc.receivers.windows import follow_clock
from goalsvc.signals.events import GoalCompleted, GoalEnded, GoalEvent, GoalProgressed
from goalsvc.signals.receiver import on, receiver
from goalsvc.tasks.division import fee_bps_of, held_for, settle_exclusive_share, share_of
from goalsvc.tasks.ending import deactivate_goal
from goalsvc.tasks.escrow import escrow_out, hold_exclusive, refund_escrow
from goalsvc.tasks.settling import has_begun_its_show

# -- shows ------------------------------------------------------------------------------------------------------------


@receiver(
    on(GoalCompleted, GoalKind.SHOW),
    returns={
        Reason.OTHER_GOAL_KIND,
        Reason.NOT_THE_LAST_LEVEL,
        Reason.NO_SESSION,
        Reason.UNKNOWN_SESSION,
        Reason.NO_FUNDING,
    },
)
async def trigger_show_escrow_transfer(context: Context, event: GoalCompleted) -> Outcome:
    """Owes the payout of a completed show to its performer."""
    if not event.target_reached:
        return Returned(Reason.NOT_THE_LAST_LEVEL)
    session = await _session_of(event)
    funding_goal = _funding_of(event, session)
    if isinstance(funding_goal, Reason):
        return Returned(funding_goal)
    began, ended, performer = None, None, event.streamer_id
    if isinstance(session, Session):
        began, ended, performer = session.statuses.started, session.statuses.ended, session.user_id or event.streamer_id
    if not performer:
        raise InvalidError("metadata.user_id", f"required: escrow {show_escrow(funding_goal)} is the performer's")
    payout = escrow_out.follow_up(
        escrow_id=show_escrow(funding_goal),
        user_id=performer,
        nbf=began or funding_goal.generation_time,
        exp=ended or context.clock.now(),
        goal_id=event.goal_id,
        **({"fee_bps": fee} if (fee := fee_bps_of(context, event.metadata)) else {}),
    )
    return Done(follow_ups=(payout,))


@receiver(
    on(GoalEnded, GoalKind.SHOW, GoalKind.FUNDING),
    returns={
        Reason.OTHER_GOAL_KIND,
        Reason.TARGET_REACHED,
        Reason.NO_SESSION,
        Reason.UNKNOWN_SESSION,
        Reason.NO_FUNDING,
    },
)
async def trigger_show_escrow_refund(context: Context, event: GoalEnded) -> Outcome:
    """Promises every contributor their tokens back when a show, or its funding, ended below its target.

    Also of a funding that reached its target and can begin no show, for want of a session or a target of the show. The refund
    of a show waits while a late webhook may still complete it.
    """
    if await _is_a_performers(event):
        return Returned(Reason.TARGET_REACHED)
    if event.kind is GoalKind.FUNDING:
        escrow_id, user_id = show_escrow(ObjectId(event.goal_id)), event.streamer_id
    else:
        session = await _session_of(event)
        funding_goal = _funding_of(event, session)
        if isinstance(funding_goal, Reason):
            return Returned(funding_goal)
        escrow_id = show_escrow(funding_goal)
        user_id = (session.user_id if isinstance(session, Session) else "") or event.streamer_id
    refund = refund_escrow.follow_up(escrow_id=escrow_id, user_id=user_id, goal_id=event.goal_id)
    if event.settles_at is None:
        return Done(follow_ups=(refund,))
    what = f"waits for late webhooks until {event.settles_at.isoformat()}"
    return Done(what, follow_ups=(refund.not_before(event.settles_at),))


async def _is_a_performers(event: GoalEnded) -> bool:
    """Returns whether what that goal brought in goes to a performer: a show was completed, or a funding has its show."""
    if event.kind is not GoalKind.FUNDING:
        return event.target_reached
    can_begin = event.conditions.session_id is not None and event.metadata.funded_show is not None
    return (event.target_reached and can_begin) or await has_begun_its_show(ObjectId(event.goal_id))


def _funding_of(event: GoalEvent, session: Session | Reason) -> ObjectId | Reason:
    """Returns the FundingGoal that pays for this show: of its pair, or where that was removed, of its own metadata."""
    pair = session.pair_of_show(ObjectId(event.goal_id)) if isinstance(session, Session) else None
    if pair is not None and pair.funding_goal is not None:
        return pair.funding_goal
    if event.metadata.funding_goal_id is not None:
        return event.metadata.funding_goal_id
    return session if isinstance(session, Reason) else Reason.NO_FUNDING


async def _session_of(event: GoalEvent) -> Session | Reason:
    if event.conditions.session_id is None:
        return Reason.NO_SESSION
    return await Session.by_id(event.conditions.session_id) or Reason.UNKNOWN_SESSION


# -- exclusives -------------------------------------------------------------------------------------------------------


@receiver(
    on(GoalCompleted, GoalKind.EXCLUSIVE),
    returns={Reason.OTHER_GOAL_KIND, Reason.SETTLED_AT_THE_END, Reason.NOTHING_HELD},
)
async def trigger_exclusive_escrow_transfer(context: Context, event: GoalCompleted) -> Outcome:
    """Promises the performer of an exclusive without a timed target its whole escrow; a timed one is settled at its end.

    One that has ended, and whose division waits, is settled as soon as a late webhook completes it.
    """
    if event.level > 0:
        goal = await Goal.by_id(ObjectId(event.goal_id)) if event.target_reached else None
        if goal is None or goal.active or goal.settles_at is None:
            return Returned(Reason.SETTLED_AT_THE_END)
        now = settle_exclusive_share.follow_up(goal_id=event.goal_id, event=COMPLETED)
        return Done("completed after its end", follow_ups=(now.called(f"settle:{COMPLETED}:now"),))
    escrow_id, held = await _held_for(event)
    if held == 0:
        return Returned(Reason.NOTHING_HELD)
    fee = fee_bps_of(context, event.metadata)
    share = share_of(event.goal_id, escrow_id, COMPLETED, event.streamer_id, held, fee)
    return Done(f"{held} tokens", follow_ups=(share,))


async def _held_for(event: GoalEvent) -> tuple[str, int]:
    return await held_for(ObjectId(event.goal_id), event.conditions.trigger_goal_id)


def _later(event: GoalEnded, share: str) -> Outcome:
    """The division waits: a late webhook may still bring seconds."""
    assert event.settles_at is not None  # noqa: S101 - for the type checker
    follow_up = settle_exclusive_share.follow_up(goal_id=event.goal_id, event=share).called(f"settle:{share}")
    what = f"waits for late webhooks until {event.settles_at.isoformat()}"
    return Done(what, follow_ups=(follow_up.not_before(event.settles_at),))


@receiver(
    on(GoalEnded, GoalKind.EXCLUSIVE),
    returns={Reason.OTHER_GOAL_KIND, Reason.NOT_TIMED, Reason.NOTHING_HELD, Reason.NOT_PERFORMED},
)
async def settle_exclusive_escrow(context: Context, event: GoalEnded) -> Outcome:
    """Owes the performer of a timed exclusive the performed share of its escrow."""
    if event.target is None:
        return Returned(Reason.NOT_TIMED)
    if event.settles_at is not None:
        return _later(event, COMPLETED)
    escrow_id, held = await _held_for(event)
    if held == 0:
        return Returned(Reason.NOTHING_HELD)
    share = performed_share(held, event.progress, event.target)
    if share == 0:
        return Returned(Reason.NOT_PERFORMED)
    what = f"{share} of {held} tokens for {min(event.progress, event.target)} of {event.target} s"
    fee = fee_bps_of(context, event.metadata)
    payout = share_of(event.goal_id, escrow_id, COMPLETED, event.streamer_id, share, fee)
    return Done(what, follow_ups=(payout,))


@receiver(
    on(GoalProgressed, GoalKind.EXCLUSIVE),
    on(GoalEnded, GoalKind.EXCLUSIVE),
    returns={Reason.OTHER_GOAL_KIND, Reason.TARGET_REACHED, Reason.NOTHING_HELD, Reason.NO_VIEWER, Reason.RESUMED},
)
async def trigger_exclusive_goal_escrow_refund(context: Context, event: GoalProgressed | GoalEnded) -> Outcome:
    """Ends an exclusive that stays paused below its target; when it has ended, owes the viewer the unperformed share."""
    if event.target_reached or (event.target is None and event.progress > 0 and isinstance(event, GoalEnded)):
        return Returned(Reason.TARGET_REACHED)
    if isinstance(event, GoalProgressed):
        paused = event.context.paused
        if paused is None or event.context.running:
            return Returned(Reason.RESUMED)
        grace = timedelta(seconds=context.settings.exclusive_resume_grace)
        goal = await Goal.by_id(ObjectId(event.goal_id))
        if goal is not None:
            await follow_clock(context, goal)
        end = deactivate_goal.follow_up(goal_id=event.goal_id, paused_since=paused)
        end = end.called(f"exclusive_grace:{event.event_id}").not_before(context.clock.now() + grace)
        return Done(f"ends in {grace.total_seconds():g} s unless resumed", follow_ups=(end,))
    if event.viewer_id is not None and event.settles_at is not None:
        return _later(event, REFUNDED)
    escrow_id, held = await _held_for(event)
    if event.viewer_id is None:
        return _without_viewer(escrow_id, held)
    share = held - performed_share(held, event.progress, event.target) if event.target else held
    if share == 0:
        return Returned(Reason.NOTHING_HELD)
    return Done(
        f"{share} of {held} tokens", follow_ups=(share_of(event.goal_id, escrow_id, REFUNDED, event.viewer_id, share),)
    )


def _without_viewer(escrow_id: str, held: int) -> Outcome:
    """Returns that there is nothing to do. Raises InvalidError while tokens are held: a dead letter then names the goal."""
    if held:
        raise InvalidError("metadata.viewer_id", f"required: escrow {escrow_id} holds {held} tokens for the viewer")
    return Returned(Reason.NO_VIEWER)


# -- requests ---------------------------------------------------------------------------------------------------------


@receiver(
    on(GoalEnded, GoalKind.TRIGGER),
    returns={Reason.OTHER_GOAL_KIND, Reason.NOT_PRIVATE, Reason.NOTHING_HELD, Reason.NO_VIEWER},
)
async def handle_trigger_private_goal_escrow(context: Context, event: GoalEnded) -> Outcome:
    """Promises the hold of a private request to its exclusive when it was agreed to and can begin, else to the viewer.

    A hold is what tells a private request: `metadata.private` may have been removed since.
    """
    goal_id = ObjectId(event.goal_id)
    escrow_id = trigger_escrow(goal_id)
    held = await Account.freeze(escrow_id)
    if held == 0 and not event.metadata.private:
        return Returned(Reason.NOT_PRIVATE)
    if event.viewer_id is None:
        return _without_viewer(escrow_id, held)
    if held == 0:
        return Returned(Reason.NOTHING_HELD)
    follow_ups: Sequence[FollowUp]
    if event.triggerer is None or not await _can_begin(event):
        follow_ups = [share_of(event.goal_id, escrow_id, REFUNDED, event.viewer_id, held)]
    else:
        exclusive_id = exclusive_of(goal_id)
        follow_ups = [
            hold_exclusive.follow_up(
                transfer_id=f"hold-{escrow_id}-{exclusive_id}",
                from_escrow_id=escrow_id,
                to_escrow_id=exclusive_escrow(exclusive_id),
                amount=held,
            )
        ]
    return Done(f"{held} tokens", follow_ups=tuple(follow_ups))


async def _can_begin(event: GoalEnded) -> bool:
    """Returns whether an exclusive can begin from this request; if not, its hold goes back to the viewer."""
    if event.metadata.exclusive is None or event.conditions.session_id is None:
        return False
    return await Session.by_id(event.conditions.session_id) is not None
