"""The division of an exclusive's escrow: the performed share to the performer, the rest to the viewer."""

from bson import ObjectId

from goalsvc.context import Context
from goalsvc.domain.escrow import (
    COMPLETED,
    WHOLE_BPS,
    escrow_account,
    exclusive_escrow,
    performed_share,
    transfer_id_of,
    trigger_escrow,
)
from goalsvc.domain.goals import Metadata
from goalsvc.domain.outcome import Done, FollowUp, Outcome, Reason, Returned
from goalsvc.errors import InvalidError, RetryableError
from goalsvc.models.wallet import Account, Transfer
from goalsvc.tasks import announcements
from goalsvc.tasks.arguments import DocumentId, SettlingEvent
from goalsvc.tasks.escrow import transfer_escrow
from goalsvc.tasks.settling import final_goal
from goalsvc.tasks.task import task


@task()
async def settle_exclusive_share(context: Context, *, goal_id: DocumentId, event: SettlingEvent) -> Outcome:
    """Promises one share of the escrow of an exclusive that waited for late webhooks: the performer's, or the viewer's.

    `event` says whose: `escrow.completed` is the performer's, `escrow.refunded` the viewer's.
    """
    goal = await final_goal(context, goal_id)
    if goal is None:
        return Returned(Reason.UNKNOWN_GOAL)
    viewer = goal.conditions.exclusive_to or goal.metadata.viewer_id
    payee = goal.metadata.user_id if event == COMPLETED else viewer
    if payee is None:
        return Returned(Reason.NO_VIEWER)
    if not goal.target and goal.progress > 0:
        # Without a target nothing completes it but its end.
        now = context.clock.now()
        report = await context.bus.send(context, announcements.completed(goal, f"{goal_id}:completed", now))
        return Done("performed", reports=(report,))
    escrow_id, held = await held_for(ObjectId(goal_id), goal.conditions.trigger_goal_id)
    performed = performed_share(held, goal.progress, goal.target) if goal.target else 0
    share = performed if event == COMPLETED else held - performed
    if share == 0:
        return Returned(Reason.NOT_PERFORMED if event == COMPLETED else Reason.NOTHING_HELD)
    if await Transfer.by_id(transfer_id_of(event, escrow_id, goal_id, payee)) is not None:
        return Returned(Reason.ALREADY_PAID)
    fee = fee_bps_of(context, goal.metadata) if event == COMPLETED else 0
    follow_up = share_of(goal_id, escrow_id, event, payee, share, fee)
    return Done(f"{share} of {held} tokens for {goal.progress} s", follow_ups=(follow_up,))


async def held_for(goal_id: ObjectId, request: ObjectId | None) -> tuple[str, int]:
    """Returns the exclusive's escrow, and what it held when it was first to be divided.

    Raises RetryableError while the hold of its request has still to be moved there: divided now, it would stay there for ever.
    """
    if request is not None and await Account.balance_of(escrow_account(trigger_escrow(request))) > 0:
        raise RetryableError(f"the hold of request {request} has not reached the exclusive's escrow yet")
    escrow_id = exclusive_escrow(goal_id)
    return escrow_id, await Account.freeze(escrow_id)


def share_of(goal_id: str, escrow_id: str, event: str, user_id: str, amount: int, fee_bps: int = 0) -> FollowUp:
    """Returns one share of an escrow without earnings, as a follow-up: the goal itself is its document.

    `fee_bps` is the platform's fee, which is taken from a payout. Raises InvalidError for a share that is nobody's.
    """
    if not user_id:
        raise InvalidError("metadata.user_id", f"required: {amount} tokens of escrow {escrow_id} are the performer's")
    metadata = {"doc_id": goal_id, "user_id": user_id, "amount": amount}
    fee = {"fee_bps": fee_bps} if fee_bps else {}
    follow_up = transfer_escrow.follow_up(
        to_user_id=user_id, escrow_id=escrow_id, event=event, metadata=metadata, **fee
    )
    return follow_up.called(f"transfer_escrow:{event}")


def fee_bps_of(context: Context, metadata: Metadata) -> int:
    """Returns the platform's fee for the payout of that goal: its own, otherwise that of the settings."""
    given = metadata.fee_bps
    return context.settings.platform_fee_bps if given is None else min(max(given, 0), WHOLE_BPS)
