"""Statements of accounts and reports over all of them: read by index, from one snapshot, as streams."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pymongo import ASCENDING

from goalsvc.database_session import DatabaseSession
from goalsvc.domain import books
from goalsvc.domain.documents import Stored
from goalsvc.domain.reading import whole
from goalsvc.models.book_audit import snapshot
from goalsvc.models.filters import whole_of, whole_part_of
from goalsvc.models.wallet import Account, Transfer, balance_in

#: A statement in JSON has at most so many lines; as CSV it has all.
MOST_LINES = 5000


@dataclass(frozen=True, slots=True)
class Line:
    """A transfer as one of its accounts sees it: what it added (below 0: took), and the balance after it."""

    transfer: Stored
    change: int
    balance: int


@dataclass(slots=True)
class Statement:
    """An account over a period."""

    account: str
    opening: int = 0
    closing: int = 0
    lines: list[Line] = field(default_factory=list)
    truncated: bool = False


async def statement_of(account_id: str, begin: datetime | None, end: datetime | None) -> Statement:
    """Returns the account's balances at the beginning and the end of the period, and the lines between."""
    found = Statement(account_id)
    async with snapshot() as session:
        found.opening = await opening_of(account_id, begin, session)
        found.closing = found.opening
        async for line in lines_of(account_id, begin, end, found.opening, session):
            if len(found.lines) < MOST_LINES:
                found.lines.append(line)
            else:
                found.truncated = True
            found.closing = line.balance
    return found


async def opening_of(account_id: str, begin: datetime | None, session: DatabaseSession) -> int:
    """Returns the account's balance right before that instant: what it holds now, without what moved since."""
    if begin is None:
        return 0
    account = await Account.get_motor_collection().find_one({"_id": account_id}, {"balance": 1}, session=session)
    balance = balance_in(account)
    since = {"$gte": begin}
    return balance - await _sum("credit", account_id, since, session) + await _sum("debit", account_id, since, session)


async def _sum(side: str, account_id: str, when: Mapping[str, object], session: DatabaseSession) -> int:
    stages: list[Mapping[str, object]] = [
        {"$match": {side: account_id, "created_at": when}},
        {"$group": {"_id": None, "sum": {"$sum": whole_of("amount")}}},
    ]
    found = await Transfer.get_motor_collection().aggregate(stages, session=session).to_list(None)
    return int(found[0]["sum"]) if found else 0


async def lines_of(
    account_id: str, begin: datetime | None, end: datetime | None, balance: int, session: DatabaseSession
) -> AsyncIterator[Line]:
    """Yields the account's transfers in the period, in order of time, each with the balance after it."""
    window = _window(begin, end)
    where = {"$or": [{side: account_id, **window} for side in ("debit", "credit")]}
    found = Transfer.get_motor_collection().find(where, session=session, batch_size=500)
    same: list[Mapping[str, object]] = []
    async for transfer in found.sort([("created_at", ASCENDING), ("_id", ASCENDING)]):
        if same and transfer.get("created_at") != same[0].get("created_at"):
            for line in _in_order(account_id, same, balance):
                balance = line.balance
                yield line
            same = []
        same.append(transfer)
    for line in _in_order(account_id, same, balance):
        yield line


def _in_order(account_id: str, transfers: Sequence[Mapping[str, object]], balance: int) -> Iterator[Line]:
    """Yields the lines of one instant: what came in before what went out, as it must have been."""
    changes = []
    for transfer in transfers:
        debit, credit = books.legs_of(transfer)
        amount = whole(transfer.get("amount")) or 0
        changes.append((amount * ((credit == account_id) - (debit == account_id)), transfer))
    for change, transfer in sorted(changes, key=lambda pair: pair[0] < 0):
        balance += change
        yield Line(transfer, change, balance)


async def transfers_between(begin: datetime | None, end: datetime | None) -> AsyncIterator[Mapping[str, object]]:
    """Yields every transfer of the period, in order of time."""
    where = _window(begin, end) or {"created_at": {"$exists": True}}
    found = Transfer.get_motor_collection().find(where, batch_size=1000)
    async for transfer in found.sort([("created_at", ASCENDING), ("_id", ASCENDING)]):
        yield transfer


def _window(begin: datetime | None, end: datetime | None) -> dict[str, object]:
    bounds = {operator: instant for operator, instant in (("$gte", begin), ("$lt", end)) if instant is not None}
    return {"created_at": bounds} if bounds else {}


# -- all accounts -----------------------------------------------------------------------------------------------------


async def balances_by_kind() -> Mapping[str, Mapping[str, int]]:
    """Returns for each kind of account (`user`, `escrow`, `payout`, `debt`, `fees`, `issuer`) their number and sum."""
    kind = {"$arrayElemAt": [{"$split": ["$_id", ":"]}, 0]}
    stages: list[Mapping[str, object]] = [
        {"$match": {"_id": {"$gt": ""}}},
        {"$group": {"_id": kind, "accounts": {"$sum": 1}, "balance": {"$sum": whole_part_of("balance")}}},
        {"$sort": {"_id": 1}},
    ]
    async with snapshot() as session:
        found = await Account.get_motor_collection().aggregate(stages, session=session).to_list(None)
    return {str(one["_id"]): {"accounts": one["accounts"], "balance": int(one["balance"])} for one in found}
