"""The wallet: double entry, all or nothing.

An account is a user's, an escrow's, or the issuer's (deposits come from it; it alone may be negative). A transfer takes
tokens from one account and adds them to another, within one transaction; its id is its primary key, so the same transfer
is never made twice, and the sum of all accounts is always zero.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol, Self, TypeVar

from beanie import Document, PydanticObjectId
from bson import ObjectId
from pydantic import ConfigDict, Field
from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError

from goalsvc.domain.escrow import ISSUER, Settlement, escrow_account
from goalsvc.domain.goals import UserId
from goalsvc.errors import ConflictError, GoalsvcError, InsufficientFundsError, TransferConflictError
from goalsvc.models.shared import Sharing

T = TypeVar("T")


class Account(Sharing):
    """So many tokens of somebody, or held for somebody."""

    model_config = ConfigDict(extra="allow")

    id: str = Field(default="", alias="_id")  # type: ignore[assignment]
    balance: int = 0
    settlement: Settlement | None = None
    shares_settled: int = 0
    """How many were transferred."""
    shares_announced: int = 0
    """Of how many it was told that they were; at most that many, fewer after a crash."""
    shares_due: int | None = None
    completed_by: str | None = None
    """Which announcement was the last: of several that come at the same time, one finds its own mark here."""
    held: int | None = None

    class Settings:
        """Where and how Beanie keeps accounts."""

        name = "accounts"
        keep_nulls = False

    @classmethod
    async def balance_of(cls, account_id: str) -> int:
        """Its tokens; 0 for an account that nothing was ever moved to."""
        account = await cls.find_one({"_id": account_id})
        return account.balance if account else 0

    @classmethod
    async def expect_shares(cls, escrow_id: str, shares: int) -> Self | None:
        """Notes into how many shares the escrow goes; the account as it is then, None when nothing was ever held."""
        due = {"$set": {"shares_due": shares}}
        return cls._seen(await cls.shared().change(escrow_account(escrow_id), {}, due, lasting=False))

    @classmethod
    async def of_escrow(cls, escrow_id: str) -> Self | None:
        """The escrow's account."""
        return cls._seen(await cls.shared().read(escrow_account(escrow_id)))

    @classmethod
    async def announced(cls, escrow_id: str, now: datetime) -> Self | None:
        """Notes that one more share was announced; the account if that was the last, None for all others.

        A crash of the database may undo it. Then nobody finds himself the last, but the promise of them all is still there,
        and who keeps it once more finds that all are settled.
        """
        run = str(ObjectId())
        last = {
            "$and": [
                {"$gte": ["$shares_announced", {"$ifNull": ["$shares_due", math.inf]}]},
                {"$eq": [{"$ifNull": ["$completed_at", None]}, None]},
            ]
        }
        stages = [
            {"$set": {"shares_announced": {"$add": [{"$ifNull": ["$shares_announced", 0]}, 1]}}},
            {"$set": {"completed_by": {"$cond": [last, run, "$completed_by"]}}},
            {"$set": {"completed_at": {"$cond": [last, now, "$completed_at"]}}},
        ]
        account = cls._seen(await cls.shared().change(escrow_account(escrow_id), {}, stages, lasting=False))
        return account if account is not None and account.completed_by == run else None

    @classmethod
    async def complete(cls, escrow_id: str, now: datetime) -> None:
        """Notes that all shares are through, unless that is known."""
        where = {"_id": escrow_account(escrow_id), "completed_at": None}
        await cls._change(where, {"$set": {"completed_at": now}})

    @classmethod
    async def freeze(cls, escrow_id: str) -> int:
        """How much the escrow held when it was first to be divided: every share is reckoned from this same amount."""
        held = [{"$set": {"held": {"$ifNull": ["$held", "$balance"]}}}]
        account = await cls._change({"_id": escrow_account(escrow_id)}, held)
        return account.held or 0 if account else 0

    @classmethod
    async def _change(cls, where: Mapping[str, Any], update: Any) -> Self | None:
        # Past Beanie's query builder, which would walk through all of it to encode what is in BSON's types already.
        return cls._seen(
            await cls.get_motor_collection().find_one_and_update(where, update, return_document=ReturnDocument.AFTER)
        )

    @classmethod
    def _seen(cls, document: Mapping[str, Any] | None) -> Self | None:
        return None if document is None else cls.model_validate(document)


class Transfer(Document):
    """Tokens that went from `debit` to `credit`. `from_user_id` and `to_user_id` are there when that side is a user."""

    model_config = ConfigDict(extra="allow")

    id: str = Field(default="", alias="_id")  # type: ignore[assignment]
    debit: str = ""
    credit: str = ""
    from_user_id: UserId | None = None
    to_user_id: UserId | None = None
    amount: int
    tags: list[str] = []
    metadata: dict[str, Any] = {}
    created_at: datetime | None = None

    class Settings:
        """Where and how Beanie keeps transfers."""

        name = "transfers"
        keep_nulls = False
        indexes: ClassVar[list[IndexModel]] = [
            IndexModel([("from_user_id", ASCENDING), ("_id", ASCENDING)], name="from", sparse=True),
            IndexModel([("to_user_id", ASCENDING), ("_id", ASCENDING)], name="to", sparse=True),
            IndexModel([("tags", ASCENDING), ("_id", ASCENDING)], name="tags"),
        ]

    @classmethod
    async def by_id(cls, transfer_id: str) -> "Transfer | None":
        """The transfer of that id."""
        return await cls.find_one({"_id": transfer_id})


class Earning(Sharing):
    """What one viewer contributed to one streamer; `_show_funding:{funding_goal_id}` is there when that escrow holds it."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    id: PydanticObjectId | None = Field(default=None, alias="_id")
    user_id: UserId
    from_user_id: UserId
    amount: int
    created_at: datetime

    class Settings:
        """Where and how Beanie keeps earnings."""

        name = "earnings"
        keep_nulls = False
        indexes: ClassVar[list[IndexModel]] = [
            IndexModel([("user_id", ASCENDING), ("created_at", ASCENDING)], name="user"),
            IndexModel([("goal_id", ASCENDING), ("from_user_id", ASCENDING)], name="goal", sparse=True),
        ]

    @classmethod
    async def amount_of(cls, earning_id: ObjectId) -> int | None:
        """How many tokens were contributed; None when there is no such earning."""
        found = await cls.shared().read(earning_id)
        return None if found is None else int(found["amount"])

    @classmethod
    async def stream(
        cls, user_id: str, escrow_id: str, nbf: datetime | None = None, exp: datetime | None = None
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Every earning of that streamer that the escrow holds, made within [nbf, exp]; as they come, not held in memory."""
        where: dict[str, Any] = {"user_id": user_id, f"_{escrow_id}": {"$exists": True}}
        window = {operator: instant for operator, instant in (("$gte", nbf), ("$lte", exp)) if instant is not None}
        if window:
            where["created_at"] = window
        wanted = {"_id": 1, "from_user_id": 1, "amount": 1}
        cursor = cls.get_motor_collection().find(where, wanted, batch_size=500).sort("created_at", ASCENDING)
        async for earning in cursor:
            yield earning

    @classmethod
    async def leaderboard(cls, goal_id: ObjectId, most: int) -> list[Mapping[str, Any]]:
        """`{user_id, amount}` of those who contributed most to that goal, highest first; equals in order of user id."""
        pipeline: list[dict[str, Any]] = [
            {"$match": {"goal_id": goal_id}},
            {"$group": {"_id": "$from_user_id", "amount": {"$sum": "$amount"}}},
            {"$sort": {"amount": DESCENDING, "_id": ASCENDING}},
            {"$limit": most},
            {"$project": {"_id": 0, "user_id": "$_id", "amount": 1}},
        ]
        found: list[Mapping[str, Any]] = await cls.get_motor_collection().aggregate(pipeline).to_list(None)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A transfer that is to be made."""

    transfer_id: str
    debit: str
    credit: str
    amount: int
    tags: Sequence[str] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    from_user_id: str | None = None
    to_user_id: str | None = None
    settlement: Settlement | None = None

    def same_as(self, transfer: Transfer) -> bool:
        """Whether that transfer is this one; the time at which it was made does not matter."""
        return (
            (transfer.debit in ("", self.debit) and transfer.credit in ("", self.credit))
            and (transfer.amount, transfer.from_user_id, transfer.to_user_id)
            == (self.amount, self.from_user_id, self.to_user_id)
            and list(transfer.tags) == list(self.tags)
        )


class Transactions(Protocol):
    """Runs work in a transaction (`goalsvc.models.database.Database`)."""

    async def transaction(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """Runs `work(session)`; all of it happens, or nothing."""
        ...


@dataclass(slots=True)
class _Waiting:
    """An order that stands in line."""

    order: Order
    now: datetime
    also: Callable[[Any], Awaitable[None]] | None
    answer: "asyncio.Future[tuple[Transfer, bool]]"


#: How many transfers from one account are made in one transaction.
LARGEST_BATCH = 64


class Ledger:
    """Makes transfers.

    Transfers from the same account cannot go side by side in the database. Those of one process wait here in line, and what
    waits together is made together: one transaction, one commit. Only if that fails is each made for itself, so that an order
    is never answered for what is wrong with another.
    """

    def __init__(self, database: Transactions) -> None:
        self._database = database
        self._lines: dict[tuple[str, Settlement | None], list[_Waiting]] = {}
        self._serving: set[asyncio.Task[None]] = set()

    async def post(
        self, order: Order, now: datetime, also: Callable[[Any], Awaitable[None]] | None = None
    ) -> tuple[Transfer, bool]:
        """Makes the transfer, and `also(session)` in the same transaction; the transfer, and whether it was made now.

        Raises InsufficientFundsError, TransferConflictError (the id is taken by another transfer), ConflictError
        `settled_otherwise`, LedgerBusyError; in each case nothing was changed.
        """
        waiting = _Waiting(order, now, also, asyncio.get_running_loop().create_future())
        key = (order.debit, order.settlement)
        line = self._lines.get(key)
        if line is not None:
            line.append(waiting)
        else:
            self._lines[key] = [waiting]
            serving = asyncio.create_task(self._serve(key), name=f"ledger {order.debit}")
            self._serving.add(serving)
            serving.add_done_callback(self._serving.discard)
        return await waiting.answer

    async def _serve(self, key: tuple[str, Settlement | None]) -> None:
        line = self._lines[key]
        try:
            while line:
                batch = line[:LARGEST_BATCH]
                del line[:LARGEST_BATCH]
                if len(batch) == 1 or not await self._make_together(batch):
                    for waiting in batch:
                        await self._make_alone(waiting)
        finally:
            del self._lines[key]

    async def _make_together(self, batch: Sequence[_Waiting]) -> bool:
        """Makes all of these in one transaction; False when that did not work, and then none of them was made."""
        transfers = [_transfer_of(waiting) for waiting in batch]
        try:
            await self._database.transaction(lambda session: _move(batch, transfers, session))
        except Exception:
            return False
        for waiting, transfer in zip(batch, transfers, strict=True):
            _answer(waiting, (transfer, True))
        return True

    async def _make_alone(self, waiting: _Waiting) -> None:
        transfer = _transfer_of(waiting)
        try:
            try:
                await self._database.transaction(lambda session: _move([waiting], [transfer], session))
            except (DuplicateKeyError, BulkWriteError, InsufficientFundsError, ConflictError) as error:
                # Made before? Then that is the answer, whatever the accounts say today.
                made = await Transfer.by_id(waiting.order.transfer_id)
                if made is None:
                    raise
                if not waiting.order.same_as(made):
                    message = f"transfer {waiting.order.transfer_id} exists with other content"
                    raise TransferConflictError(message) from error
                _answer(waiting, (made, False))
            else:
                _answer(waiting, (transfer, True))
        except Exception as error:
            if not waiting.answer.done():
                waiting.answer.set_exception(error)


def _answer(waiting: _Waiting, answer: tuple[Transfer, bool]) -> None:
    if not waiting.answer.done():
        waiting.answer.set_result(answer)


def _transfer_of(waiting: _Waiting) -> Transfer:
    order = waiting.order
    return Transfer(
        id=order.transfer_id,
        debit=order.debit,
        credit=order.credit,
        from_user_id=order.from_user_id,
        to_user_id=order.to_user_id,
        amount=order.amount,
        tags=list(order.tags),
        metadata=dict(order.metadata),
        created_at=waiting.now,
    )


async def _move(batch: Sequence[_Waiting], transfers: Sequence[Transfer], session: Any) -> None:
    """Within a transaction: takes the tokens from the one account that all have in common, and gives them where they go."""
    first = batch[0].order
    amount = sum(waiting.order.amount for waiting in batch)
    received: dict[str, int] = {}
    for waiting in batch:
        received[waiting.order.credit] = received.get(waiting.order.credit, 0) + waiting.order.amount
    changes = [
        _debit(first, amount, len(batch)),
        *(
            UpdateOne({"_id": account}, {"$inc": {"balance": more}}, upsert=True)
            for account, more in sorted(received.items())
        ),
    ]
    made = await Account.get_motor_collection().bulk_write(changes, session=session)
    if made.matched_count + made.upserted_count < len(changes):
        # Whoever receives is found or made; so it is the one who pays.
        raise await _refusal(first, amount, session)
    await Transfer.insert_many(list(transfers), session=session)
    for waiting in batch:
        if waiting.also is not None:
            await waiting.also(session)


def _debit(order: Order, amount: int, shares: int) -> UpdateOne:
    where: dict[str, Any] = {"_id": order.debit}
    update: dict[str, Any] = {"$inc": {"balance": -amount}}
    if order.debit != ISSUER:
        where["balance"] = {"$gte": amount}
    if order.settlement is not None:
        where["settlement"] = {"$in": [None, order.settlement.value]}
        update["$set"] = {"settlement": order.settlement.value}
        update["$inc"]["shares_settled"] = shares
    return UpdateOne(where, update, upsert=order.debit == ISSUER)


async def _refusal(order: Order, amount: int, session: Any) -> GoalsvcError:
    """Why so much cannot be taken from that account."""
    account = await Account.find_one({"_id": order.debit}, session=session)
    if account and order.settlement and account.settlement not in (None, order.settlement):
        message = f"{order.debit} is being settled by {account.settlement.name.lower()}"
        return ConflictError("settled_otherwise", message)
    balance = account.balance if account else 0
    return InsufficientFundsError(f"{order.debit} holds {balance} tokens, {amount} are asked for")
