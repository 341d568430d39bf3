"""What an escrow took in and paid out in all, from whom and to whom, and what became of its contributions."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymongo.errors import ExecutionTimeout

from goalsvc.database_session import DatabaseSession
from goalsvc.domain.escrow import escrow_account
from goalsvc.domain.reading import text
from goalsvc.models.account_proof import balance_within
from goalsvc.models.book_audit import snapshot
from goalsvc.models.bounded import total
from goalsvc.models.filters import whole_of
from goalsvc.models.wallet import Account


@dataclass(frozen=True, slots=True)
class Party:
    """An account that paid tokens into an escrow, or was paid by it."""

    account: str
    """Empty where none is stored."""
    amount: int
    transfers: int

    @property
    def user_id(self) -> str | None:
        """The user whose wallet it is; None for any other account."""
        return self.account.removeprefix("user:") if self.account.startswith("user:") else None


@dataclass(frozen=True, slots=True)
class Side:
    """All that came into an escrow, or all that left it."""

    amount: int
    transfers: int
    parties: int
    """How many accounts."""
    largest: Sequence[Party]

    @property
    def more(self) -> bool:
        """Whether there are more accounts than the largest that are listed."""
        return self.parties > len(self.largest)


@dataclass(frozen=True, slots=True)
class Shares:
    """What the contributions of an escrow say became of them, in tokens."""

    held: int
    paid: int
    refunded: int
    balance: int
    """Of the escrow, at the same moment."""

    @property
    def holds(self) -> bool:
        """Whether the escrow has what its contributions say that it holds."""
        return self.held == self.balance


@dataclass(frozen=True, slots=True)
class EscrowSums:
    """An escrow in sums."""

    balance: int
    paid_in: Side | None
    """None when it takes the database too long; so `paid_out`."""
    paid_out: Side | None
    shares: Shares | None
    """None when it has no contributions, when one of them says no state, as those of other services, or when it takes the
    database too long."""

    @property
    def agrees(self) -> bool | None:
        """Whether what came in less what went out is the balance; None when it takes the database too long."""
        if self.paid_in is None or self.paid_out is None:
            return None
        return self.paid_in.amount - self.paid_out.amount == self.balance


async def sums_of_escrow(escrow_id: str, most: int) -> EscrowSums:
    """Returns the sums of that escrow, with at most so many payers and payees. Raises PyMongoError."""
    account = escrow_account(escrow_id)
    sides, shares = await asyncio.gather(_sides(account, most), _shares(escrow_id))
    if sides is None:
        return EscrowSums(await Account.balance_of(account), None, None, shares)
    return EscrowSums(*sides, shares)


async def _sides(account: str, most: int) -> tuple[int, Side, Side] | None:
    try:
        async with snapshot() as session:  # what moves meanwhile is in none of them
            came = await _side(account, "credit", "debit", most, session)
            went = await _side(account, "debit", "credit", most, session)
            return await balance_within(account, session), came, went
    except ExecutionTimeout:
        return None


async def _side(account: str, own: str, other: str, most: int, session: DatabaseSession | None) -> Side:
    figures: Mapping[str, object] = {"amount": {"$sum": "$amount"}, "transfers": {"$sum": "$transfers"}}
    amount, order = {"$sum": whole_of("amount")}, {"amount": -1, "_id": 1}
    stages: list[dict[str, Any]] = [
        {"$match": {own: account}},
        {"$group": {"_id": f"${other}", "amount": amount, "transfers": {"$sum": 1}}},
        {
            "$facet": {
                "largest": [{"$sort": order}, {"$limit": most}],
                "all": [{"$group": {"_id": None, **figures, "parties": {"$sum": 1}}}],
            }
        },
    ]
    (found,) = await total("transfers", stages, session)
    largest = [Party(text(row["_id"]) or "", int(row["amount"]), int(row["transfers"])) for row in found["largest"]]
    if not found["all"]:
        return Side(0, 0, 0, ())
    (row,) = found["all"]
    return Side(int(row["amount"]), int(row["transfers"]), int(row["parties"]), largest)


_STATES = ("held", "paid", "refunded")


async def _shares(escrow_id: str) -> Shares | None:
    group = {"$group": {"_id": "$state", "amount": {"$sum": whole_of("amount")}}}
    try:
        async with snapshot() as session:
            found = await total("earnings", [{"$match": {f"_{escrow_id}": {"$exists": True}}}, group], session)
            balance = await balance_within(escrow_account(escrow_id), session)
    except ExecutionTimeout:
        return None
    amounts = {text(row["_id"]): int(row["amount"]) for row in found}
    if not amounts or not amounts.keys() <= set(_STATES):
        return None
    held, paid, refunded = (amounts.get(state, 0) for state in _STATES)
    return Shares(held, paid, refunded, balance)
