"""Contributions: the viewer's tokens, the escrow, the earning and the goal's progress, in one transaction."""

import hashlib
from typing import Any

from bson import ObjectId

from goalsvc.context import Context
from goalsvc.domain.escrow import escrow_account, show_escrow, tag_of, user_account
from goalsvc.domain.goals import GoalKind
from goalsvc.errors import ConflictError
from goalsvc.models.goal import Goal
from goalsvc.models.ledger import Order
from goalsvc.models.wallet import Earning, Transfer
from goalsvc.tasks.dispatch import enqueue_promises


def key_digest(key: str) -> str:
    """An Idempotency-Key, which may hold anything, as part of a transfer id."""
    return hashlib.sha256(key.encode()).hexdigest()[:40]


async def contribute(context: Context, goal: Goal, user_id: str, amount: int, key: str) -> tuple[Transfer, bool]:
    """Makes the contribution, once for each key; its transfer, and whether it was made now.

    Raises ConflictError, InsufficientFundsError, TransferConflictError, LedgerBusyError; in each case nothing was changed.
    """
    if goal.kind is not GoalKind.FUNDING:
        raise ConflictError("wrong_goal_kind", f"a {goal.kind} takes no contributions; a FundingGoal does")
    assert goal.id is not None  # noqa: S101 - it was read from the database
    goal_id: ObjectId = goal.id
    escrow_id = show_escrow(goal_id)
    earning_id, now = ObjectId(), context.clock.now()
    cause = context.origin.cause.about(str(goal_id))
    transfer_id = f"contribution-{goal_id}-{key_digest(key)}"
    order = Order(
        transfer_id=transfer_id,
        debit=user_account(user_id),
        credit=escrow_account(escrow_id),
        amount=amount,
        tags=[tag_of(escrow_id)],
        metadata={"doc_id": str(earning_id), "user_id": goal.metadata.user_id},
        from_user_id=user_id,
        cause=cause,
    )
    changed: list[Goal] = []

    async def earn(session: Any) -> None:
        earning = {
            "_id": earning_id,
            "user_id": goal.metadata.user_id,
            "from_user_id": user_id,
            "amount": amount,
            "created_at": now,
            "state": "held",
            "goal_id": goal_id,
            "transfer_id": transfer_id,
            "cause": cause.document(),
            f"_{escrow_id}": True,
        }
        await Earning.get_motor_collection().insert_one(earning, session=session)
        target = goal.target if goal.target is not None else 0
        raised = await Goal.contribute(goal_id, amount, target, now, transfer_id, context.origin, session)
        if raised is None:
            raise ConflictError("goal_inactive", "the goal is not active, or its last level is reached")
        changed[:] = [raised]

    transfer, new = await context.ledger.post(order, now, earn)
    if new:
        enqueue_promises(context, changed[0], [transfer_id])
    return transfer, new
