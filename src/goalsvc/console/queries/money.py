"""Escrows and wallets as statements: opening balance, lines, closing balance, and the proof."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from goalsvc.clock import from_epoch_milliseconds, to_epoch_milliseconds
from goalsvc.console.pictures.balance import Change
from goalsvc.console.pictures.ribbon import Party
from goalsvc.console.queries import rows
from goalsvc.console.queries.flows import transfer_path
from goalsvc.domain import books
from goalsvc.domain.reading import LAST_TIME, whole
from goalsvc.models.account_proof import Proof, changes_of, proof_of
from goalsvc.models.escrow_sums import EscrowSums, Side
from goalsvc.models.filters import at_most
from goalsvc.models.wallet import Account

MOST_LINES = 80
#: How many payers and payees a page has by themselves.
MOST_PARTIES = 50


@dataclass(frozen=True, slots=True)
class Before:
    """A place in a statement: what is shown is before it."""

    at: datetime
    transfer_id: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Reads a place from its text, as `str` writes it; None if the text is of another form."""
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
        changes_of(account, before.filter(earlier=False)) if before is not None else _nothing(),
        proof_of(account),
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


def _signed(transfer: Mapping[str, object], account: str) -> int:
    debit, credit = books.legs_of(transfer)
    return (whole(transfer.get("amount")) or 0) * ((credit == account) - (debit == account))


def parties(sums: EscrowSums) -> tuple[list[Party], list[Party]] | None:
    """Returns who paid into an escrow and whom it paid, the largest first and the others as one; None without sums."""
    if sums.paid_in is None or sums.paid_out is None:
        return None
    return _parties(sums.paid_in), _parties(sums.paid_out)


def _parties(side: Side) -> list[Party]:
    listed = [Party(one.user_id or one.account or "an unknown account", one.amount) for one in side.largest]
    if not side.more:
        return listed
    number, amount = side.parties - len(listed), side.amount - sum(one.amount for one in listed)
    return [*listed, Party(f"{number} others", amount, count=number)]


async def transfer(transfer_id: str) -> dict[str, object] | None:
    """Returns the transfer of that id as it is stored."""
    found = await rows("transfers", {"_id": transfer_id}, limit=1)
    return found[0] if found else None
