"""Withdrawals: how a payout that is pending ends, and the return of those that nothing has ended."""

from collections.abc import Mapping

from goalsvc.context import Context
from goalsvc.database_session import DatabaseSession
from goalsvc.domain.escrow import ISSUER, is_amount, payout_account, user_account
from goalsvc.domain.orders import Order
from goalsvc.domain.outcome import Done, Outcome, Reason, Returned
from goalsvc.errors import ConflictError, InsufficientFundsError, NotFoundError, UnusableDocumentError
from goalsvc.models.transfer_events import of_order
from goalsvc.models.withdrawal import PENDING, RETURNED, Withdrawal
from goalsvc.tasks.one_by_one import by_itself
from goalsvc.tasks.task import task

#: How many withdrawals one run returns.
_BATCH = 500


@task()
async def return_withdrawals(context: Context) -> Outcome:
    """Returns the withdrawals that were not concluded within `GOALSVC_WITHDRAWAL_LIMIT`."""
    where = {"state": PENDING, "returns_at": {"$lte": context.clock.now()}}
    found = Withdrawal.get_motor_collection().find(where, {"_id": 1}).sort("returns_at")
    returned = 0
    async for withdrawal in found:
        place = f"withdrawals/{withdrawal['_id']}"
        returned += await by_itself(f"{place} is not returned", _return(context, str(withdrawal["_id"]))) or 0
        if returned == _BATCH:
            break
    return Done(f"{returned} withdrawals") if returned else Returned(Reason.ALREADY_DONE)


async def _return(context: Context, withdrawal_id: str) -> bool:
    try:
        return (await conclude_withdrawal(context, withdrawal_id, RETURNED, "not concluded in time"))[1]
    except ConflictError:  # it was confirmed at this moment
        return False


async def known_withdrawal(withdrawal_id: str) -> Withdrawal:
    """The withdrawal of that id; raises NotFoundError."""
    withdrawal = await Withdrawal.find_one({"_id": withdrawal_id})
    if withdrawal is None:
        raise NotFoundError(f"there is no withdrawal {withdrawal_id}")
    return withdrawal


async def conclude_withdrawal(
    context: Context,
    withdrawal_id: str,
    state: str,
    reason: str | None,
    *,
    reference: str | None = None,
    metadata: Mapping[str, object] | None = None,
) -> tuple[Withdrawal, bool]:
    """Ends a pending withdrawal; what it is then, and whether that was done now. The same end again changes nothing.

    The transfer that ends it has `reference` and `metadata`. Raises NotFoundError, ConflictError `withdrawal_concluded`,
    `reference_used`.
    """
    withdrawal = await known_withdrawal(withdrawal_id)
    if not withdrawal.user_id or not is_amount(withdrawal.amount):
        field = "amount" if withdrawal.user_id else "user_id"
        raise UnusableDocumentError(f"withdrawals/{withdrawal_id}", field, "is missing or of another type")
    if withdrawal.state != PENDING:
        return _concluded(withdrawal, state), False
    now, returned = context.clock.now(), state == RETURNED
    order = Order(
        transfer_id=f"withdrawal-{withdrawal_id}-{state}",
        debit=payout_account(withdrawal_id),
        credit=user_account(withdrawal.user_id) if returned else ISSUER,
        amount=withdrawal.amount,
        tags=["withdrawal", f"withdrawal::{withdrawal_id}"],
        metadata={**(metadata or {}), **({} if reason is None else {"reason": reason})},
        to_user_id=withdrawal.user_id if returned else None,
        cause=context.origin.cause,
        reference=reference,
        account=user_account(withdrawal.user_id),
    )

    async def note(session: DatabaseSession) -> None:
        if await Withdrawal.conclude(withdrawal_id, state, now, session, reason=reason) is None:
            raise ConflictError("withdrawal_concluded", f"withdrawal {withdrawal_id} is not pending")
        await context.events.write([of_order(f"withdrawal.{state}", order, now, user_id=withdrawal.user_id)], session)

    try:
        _, new = await context.ledger.post(order, now, note)
    except (ConflictError, InsufficientFundsError):
        ended = await known_withdrawal(withdrawal_id)
        if ended.state == PENDING:  # its reference is taken
            raise
        return _concluded(ended, state), False  # another call was faster
    return await known_withdrawal(withdrawal_id), new


def _concluded(withdrawal: Withdrawal, state: str) -> Withdrawal:
    if withdrawal.state != state:
        raise ConflictError("withdrawal_concluded", f"withdrawal {withdrawal.id} was {withdrawal.state}")
    return withdrawal
