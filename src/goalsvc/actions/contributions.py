"""Contributions: the viewer's tokens, the escrow, the earning and the goal's progress, in one transaction."""

from bson import ObjectId

from goalsvc.context import Context
from goalsvc.domain.funding import Contributed, Contribution
from goalsvc.domain.ids import key_digest
from goalsvc.tasks.dispatch import enqueue_these


async def contribute(
    context: Context, goal_id: ObjectId, user_id: str, amount: int, key: str, *, cap: bool = False
) -> Contributed:
    """Makes the contribution, once for each Idempotency-Key. With `cap`, takes at most what is missing to the target.

    Raises NotFoundError, ConflictError, InsufficientFundsError, TransferConflictError: then nothing was changed. Raises
    LedgerBusyError when there was no answer in time: a repeat with the same key is safe.
    """
    contribution = Contribution(
        goal_id=goal_id,
        transfer_id=f"contribution-{goal_id}-{key_digest(key)}",
        user_id=user_id,
        amount=amount,
        capped=cap,
    )
    contributed = await context.contributions.make(contribution, context.origin)
    if contributed.promise is not None:
        enqueue_these(context, "goals", goal_id, [contributed.promise])
    return contributed
