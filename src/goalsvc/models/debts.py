"""Debts: what users owe after a reversal, and how their next income repays it."""

from collections.abc import Sequence
from datetime import datetime

from goalsvc.database_session import DatabaseSession
from goalsvc.domain.escrow import debt_account, user_account
from goalsvc.models.wallet import Account, Transfer, balance_in


async def repay_debts(transfers: Sequence[Transfer], now: datetime, session: DatabaseSession) -> Sequence[Transfer]:
    """Within a transaction: lets the income of users who owe tokens (`owes`) repay their debts first; the repayments."""
    repayments: list[Transfer] = []
    users = sorted({transfer.to_user_id for transfer in transfers if transfer.to_user_id and _is_income(transfer)})
    if not users:
        return repayments
    accounts = Account.get_motor_collection()
    owing = {"_id": {"$in": [user_account(user) for user in users]}, "owes": True}
    async for account in accounts.find(owing, session=session):
        user_id = str(account["_id"]).partition(":")[2]
        debt = await accounts.find_one({"_id": debt_account(user_id)}, session=session)
        owed = -balance_in(debt)
        repaid = min(owed, max(balance_in(account), 0))
        if repaid > 0:
            cause = next(transfer for transfer in transfers if transfer.to_user_id == user_id)
            await accounts.update_one({"_id": account["_id"]}, {"$inc": {"balance": -repaid}}, session=session)
            await accounts.update_one(
                {"_id": debt_account(user_id)}, {"$inc": {"balance": repaid}}, upsert=True, session=session
            )
            repayment = Transfer(
                id=f"repay-{cause.id}",
                debit=user_account(user_id),
                credit=debt_account(user_id),
                from_user_id=user_id,
                amount=repaid,
                tags=["repayment", f"debt::{user_id}"],
                metadata={"transfer_id": cause.id},
                created_at=now,
                cause=cause.cause,
            )
            await Transfer.insert_many([repayment], session=session)
            repayments.append(repayment)
        if repaid >= owed:
            await accounts.update_one({"_id": account["_id"]}, {"$unset": {"owes": True}}, session=session)
    return repayments


def _is_income(transfer: Transfer) -> bool:
    return transfer.credit.startswith("user:")
