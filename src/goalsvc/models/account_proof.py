"""The proof of an account: the sum of all its transfers against its balance, both at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass

from pymongo.errors import ExecutionTimeout

from goalsvc.database_session import DatabaseSession
from goalsvc.models.book_audit import snapshot
from goalsvc.models.bounded import collection, total
from goalsvc.models.filters import whole_of
from goalsvc.models.wallet import balance_in


@dataclass(frozen=True, slots=True)
class Proof:
    """The sum of all transfers of an account against its balance."""

    transfers: int
    """How many there are."""
    sum: int
    balance: int

    @property
    def holds(self) -> bool:
        """Whether the balance is the sum of the transfers."""
        return self.sum == self.balance


async def proof_of(account: str) -> Proof | None:
    """Returns the proof of an account; None when it takes the database too long. Raises PyMongoError."""
    try:
        async with snapshot() as session:  # what moves meanwhile is in neither
            changed, number = await changes_of(account, {}, session)
            return Proof(number, changed, await balance_within(account, session))
    except ExecutionTimeout:
        return None


async def balance_within(account: str, session: DatabaseSession | None) -> int:
    """Returns what that account holds, as that session sees it."""
    return balance_in(await collection("accounts").find_one({"_id": account}, {"balance": 1}, session=session))


async def changes_of(
    account: str, when: Mapping[str, object], session: DatabaseSession | None = None
) -> tuple[int, int]:
    """Returns what the transfers of that account, of that filter, changed in all, and how many they are."""
    changed = number = 0
    group = {"$group": {"_id": None, "sum": {"$sum": whole_of("amount")}, "number": {"$sum": 1}}}
    for side, sign in (("credit", 1), ("debit", -1)):
        for row in await total("transfers", [{"$match": {side: account, **when}}, group], session):
            changed += sign * int(row["sum"])
            number += int(row["number"])
    return changed, number
