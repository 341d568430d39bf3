"""Escrows and wallets as statements: opening balance, lines, closing balance, and the proof."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from goalsvc.console.queries import rows, total
from goalsvc.domain.escrow import escrow_account, tag_of, user_account
from goalsvc.models.wallet import Account

MOST_LINES = 500


@dataclass(frozen=True, slots=True)
class Line:
    """One transfer as a line of a statement; `amount` is negative when tokens left the account."""

    at: datetime | None
    transfer_id: str
    amount: int
    balance: int
    other: str
    cause: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Statement:
    """An account over time."""

    account: str
    opening: int
    lines: Sequence[Line]
    closing: int
    transferred: int
    """The sum of all transfers, recomputed now; it must be the account's balance."""
    number: int
    """How many transfers there are in all."""

    @property
    def proved(self) -> bool:
        """Whether the balance is the sum of the transfers."""
        return self.transferred == self.closing


async def escrow_statement(escrow_id: str) -> Statement:
    """Returns the statement of an escrow: every transfer that carries its tag."""
    return await _statement(escrow_account(escrow_id), {"tags": tag_of(escrow_id)})


async def wallet_statement(user_id: str) -> Statement:
    """Returns the statement of a user's wallet, its latest lines."""
    where = {"$or": [{"from_user_id": user_id}, {"to_user_id": user_id}]}
    return await _statement(user_account(user_id), where)


async def _statement(account: str, where: Mapping[str, Any]) -> Statement:
    balance = await Account.balance_of(account)
    found = await rows("transfers", where, sort=[("created_at", -1), ("_id", -1)], limit=MOST_LINES)
    sums = await total(
        "transfers",
        [
            {"$match": where},
            {
                "$group": {
                    "_id": None,
                    "in": {"$sum": {"$cond": [_credits(account), "$amount", 0]}},
                    "out": {"$sum": {"$cond": [_debits(account), "$amount", 0]}},
                    "number": {"$sum": 1},
                }
            },
        ],
    )
    transferred = int(sums[0]["in"] - sums[0]["out"]) if sums else 0
    lines: list[Line] = []
    running = balance
    for transfer in found:
        amount = _signed(transfer, account)
        other = transfer.get("debit") if amount >= 0 else transfer.get("credit")
        cause = transfer.get("cause")
        lines.append(
            Line(
                transfer.get("created_at"),
                str(transfer["_id"]),
                amount,
                running,
                str(other or transfer.get("from_user_id") or transfer.get("to_user_id") or ""),
                cause if isinstance(cause, Mapping) else {},
            )
        )
        running -= amount
    lines.reverse()
    return Statement(account, running, lines, balance, transferred, int(sums[0]["number"]) if sums else 0)


def _user_of(account: str) -> str:
    return account.removeprefix("user:") if account.startswith("user:") else ""


def _credits(account: str) -> Mapping[str, Any]:
    own = {"$eq": ["$credit", account]}
    return {"$or": [own, {"$and": [{"$not": ["$credit"]}, {"$eq": ["$to_user_id", _user_of(account)]}]}]}


def _debits(account: str) -> Mapping[str, Any]:
    own = {"$eq": ["$debit", account]}
    return {"$or": [own, {"$and": [{"$not": ["$debit"]}, {"$eq": ["$from_user_id", _user_of(account)]}]}]}


def _signed(transfer: Mapping[str, Any], account: str) -> int:
    amount, user = int(transfer.get("amount", 0)), _user_of(account)
    credit = transfer.get("credit") or (f"user:{transfer['to_user_id']}" if transfer.get("to_user_id") == user else "")
    debit = transfer.get("debit") or (
        f"user:{transfer['from_user_id']}" if transfer.get("from_user_id") == user else ""
    )
    return (amount if credit == account else 0) - (amount if debit == account else 0)


async def transfer(transfer_id: str) -> dict[str, Any] | None:
    """Returns the transfer of that id as it is stored."""
    found = await rows("transfers", {"_id": transfer_id}, limit=1)
    return found[0] if found else None
