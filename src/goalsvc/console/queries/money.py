"""Escrows and wallets as statements: opening balance, lines, closing balance, and the proof."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from pymongo.errors import ExecutionTimeout

from goalsvc.clock import from_epoch_milliseconds, to_epoch_milliseconds
from goalsvc.console.pictures.balance import Change
from goalsvc.console.pictures.ribbon import Party
from goalsvc.console.queries import MOST_MILLISECONDS, collection, rows, total
from goalsvc.console.queries.flows import transfer_path
from goalsvc.database_session import DatabaseSession
from goalsvc.domain import books
from goalsvc.domain.escrow import escrow_account
from goalsvc.domain.reading import LAST_TIME, whole
from goalsvc.models.book_audit import snapshot
from goalsvc.models.filters import at_most, whole_of
from goalsvc.models.wallet import Account, balance_in

MOST_LINES = 80
MOST_COUNTED = 100_000


@dataclass(frozen=True, slots=True)
class Before:
    """A place in a statement: what is shown is before it."""

    at: datetime
    transfer_id: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Returns the place of that text; None if it is not the text of a place."""
        milliseconds, _, transfer_id = text.partition("_")
        if milliseconds.isascii() and milliseconds.isdecimal() and len(milliseconds) < 15:
            return cls(from_epoch_milliseconds(int(milliseconds)), transfer_id)
        return None

    def __str__(self) -> str:
        return f"{to_epoch_milliseconds(self.at)}_{self.transfer_id}"

    def filter(self, *, earlier: bool) -> Mapping[str, object]:
        """Returns the filter of the transfers before it, or of those from it on."""
        beyond, at = ("$lt", "$lt") if earlier else ("$gte", "$gt")
        here = {"created_at": self.at, "_id": {beyond: self.transfer_id}}
        return {"$or": [{"created_at": {at: self.at}}, here]}


@dataclass(frozen=True, slots=True)
class Line:
    """One transfer as a line of a statement; `amount` is negative when tokens left the account."""

    at: datetime | None
    transfer_id: str
    amount: int
    balance: int
    other: str
    cause: Mapping[str, object]
    contribution: str
    """The id of the contribution that it is; empty when it is something else."""
    key_digest: str
    """The digest of the Idempotency-Key under which the contribution was made."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The sum of all transfers of an account, recomputed for the page, against its balance."""

    number: int
    transferred: int
    balance: int

    @property
    def holds(self) -> bool:
        """Whether the balance is the sum of the transfers."""
        return self.transferred == self.balance


@dataclass(frozen=True, slots=True)
class Statement:
    """An account over time: its latest lines, or those before a place."""

    account: str
    opening: int
    lines: Sequence[Line]
    closing: int
    balance: int
    """What the account holds now."""
    earlier: Before | None
    """Where the lines before these are; None when there are none."""
    proof: Proof | None
    """None when it could not be computed in time."""

    @property
    def changes(self) -> list[Change]:
        """What its lines did to the balance, as its curve shows."""
        return [
            Change(line.at, line.amount, line.balance, transfer_path(line.transfer_id))
            for line in self.lines
            if line.at is not None
        ]


async def statement(account: str, before: Before | None = None) -> Statement:
    """Returns the statement of an account: the latest lines before that place, oldest first."""
    # A transfer without a time that can be read has no line; the opening balance contains it.
    own: dict[str, object] = {"$or": [{"debit": account}, {"credit": account}], "created_at": at_most(LAST_TIME)}
    where = own if before is None else {"$and": [own, before.filter(earlier=True)]}
    order = [("created_at", -1), ("_id", -1)]
    balance, found, later, proof = await asyncio.gather(
        Account.balance_of(account),
        rows("transfers", where, sort=order, limit=MOST_LINES + 1),
        _sum(account, before.filter(earlier=False)) if before is not None else _nothing(),
        _proof(account),
    )
    shown = found[:MOST_LINES]
    earlier = _place(shown[-1]) if len(found) > MOST_LINES else None
    closing = running = balance - later[0]
    lines: list[Line] = []
    for transfer in sorted(shown, key=lambda row: (row["created_at"], _signed(row, account) < 0), reverse=True):
        amount = _signed(transfer, account)
        debit, credit = books.legs_of(transfer)
        cause = transfer.get("cause")
        other = debit if credit == account else credit
        told = cause if isinstance(cause, Mapping) else {}
        transfer_id = str(transfer["_id"])
        contribution, digest = _contribution(transfer)
        lines.append(Line(transfer.get("created_at"), transfer_id, amount, running, other, told, contribution, digest))
        running -= amount
    return Statement(account, running, lines[::-1], closing, balance, earlier, proof)


def _place(transfer: Mapping[str, Any]) -> Before:
    return Before(transfer["created_at"], str(transfer["_id"]))


def _contribution(transfer: Mapping[str, object]) -> tuple[str, str]:
    """Returns the id of the contribution that a transfer is, and the digest of its key; two empty texts for others."""
    metadata, transfer_id = transfer.get("metadata"), str(transfer["_id"])
    if not transfer_id.startswith("contribution-") or not isinstance(metadata, Mapping):
        return "", ""
    return str(metadata.get("doc_id") or ""), transfer_id.rpartition("-")[2]


async def _nothing() -> tuple[int, int]:
    return 0, 0


async def _proof(account: str) -> Proof | None:
    try:
        async with snapshot() as session:  # what moves meanwhile is in neither
            transferred, number = await _sum(account, {}, session)
            return Proof(number, transferred, await _balance(account, session))
    except ExecutionTimeout:
        return None


async def _balance(account: str, session: DatabaseSession) -> int:
    return balance_in(await collection("accounts").find_one({"_id": account}, {"balance": 1}, session=session))


async def _sum(account: str, when: Mapping[str, object], session: DatabaseSession | None = None) -> tuple[int, int]:
    """Returns what these transfers changed in all, and how many they are."""
    changed = number = 0
    group = {"$group": {"_id": None, "sum": {"$sum": whole_of("amount")}, "number": {"$sum": 1}}}
    for side, sign in (("credit", 1), ("debit", -1)):
        for row in await total("transfers", [{"$match": {side: account, **when}}, group], session):
            changed += sign * int(row["sum"])
            number += int(row["number"])
    return changed, number


def _signed(transfer: Mapping[str, object], account: str) -> int:
    debit, credit = books.legs_of(transfer)
    return (whole(transfer.get("amount")) or 0) * ((credit == account) - (debit == account))


async def parties(account: str) -> tuple[list[Party], list[Party]] | None:
    """Returns who paid into an account and whom it paid, with their tokens; None when it takes the database too long."""
    try:
        came, went = await asyncio.gather(_by_party(account, "credit", "debit"), _by_party(account, "debit", "credit"))
    except ExecutionTimeout:
        return None
    return came, went


async def _by_party(account: str, own: str, other: str) -> list[Party]:
    group = {"$group": {"_id": f"${other}", "amount": {"$sum": "$amount"}}}
    order = {"$sort": {"amount": -1, "_id": 1}}
    found = await total("transfers", [{"$match": {own: account}}, group, order])
    return [Party(str(row["_id"]).removeprefix("user:"), int(row["amount"])) for row in found]


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


_STATES = ("held", "paid", "refunded")


async def shares(escrow_id: str) -> Shares | None:
    """Returns what became of an escrow's contributions.

    None when it has none, when one of them says no state, as those of other services, or when it takes the database too long.
    """
    group = {"$group": {"_id": "$state", "amount": {"$sum": whole_of("amount")}}}
    try:
        async with snapshot() as session:
            found = await total("earnings", [{"$match": {f"_{escrow_id}": True}}, group], session)
            balance = await _balance(escrow_account(escrow_id), session)
    except ExecutionTimeout:
        return None
    amounts = {row["_id"]: int(row["amount"]) for row in found}
    if not amounts or not amounts.keys() <= set(_STATES):
        return None
    held, paid, refunded = (amounts.get(state, 0) for state in _STATES)
    return Shares(held, paid, refunded, balance)


async def numbers(account: str) -> tuple[int, int]:
    """Returns how many payments came into an account and how many left it; of very many, a lower bound."""
    came, went = await asyncio.gather(
        collection("transfers").count_documents({"credit": account}, limit=MOST_COUNTED, maxTimeMS=MOST_MILLISECONDS),
        collection("transfers").count_documents({"debit": account}, limit=MOST_COUNTED, maxTimeMS=MOST_MILLISECONDS),
    )
    return int(came), int(went)


async def transfer(transfer_id: str) -> dict[str, object] | None:
    """Returns the transfer of that id as it is stored."""
    found = await rows("transfers", {"_id": transfer_id}, limit=1)
    return found[0] if found else None
