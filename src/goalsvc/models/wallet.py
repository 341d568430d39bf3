"""The wallet: accounts, the transfers between them, and the earnings that escrows hold.

An account is a user's, an escrow's, a withdrawal's (`payout:`), a debt's, the platform's (`fees`), or the issuer's, from which
deposits come. Only the issuer and debts may be negative. `goalsvc.models.ledger` makes the transfers.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Self

from beanie import PydanticObjectId
from bson import ObjectId
from pydantic import ConfigDict, Field
from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument, UpdateOne
from pymongo.errors import BulkWriteError

from goalsvc.database_session import DatabaseSession
from goalsvc.domain.documents import Query
from goalsvc.domain.escrow import Settlement, escrow_account, is_amount
from goalsvc.domain.goals import UserId, user_id
from goalsvc.domain.reading import (
    GREATEST_WHOLE,
    LEAST_WHOLE,
    Flag,
    Instant,
    Text,
    Whole,
    WholePart,
    instant,
    mapping,
    sequence,
    text,
    whole,
    whole_part,
)
from goalsvc.errors import UnusableDocumentError
from goalsvc.models.healing import is_about_a_document
from goalsvc.models.shared import Lenient, Sharing


class Account(Sharing):
    """An account: tokens that belong to a user, or that are held."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    _identity: ClassVar[type] = str

    id: str = Field(default="", alias="_id")  # type: ignore[assignment]
    balance: WholePart = 0
    settlement: Settlement | None = None
    shares_settled: WholePart = 0
    """How many were transferred."""
    shares_amount: WholePart = 0
    """What users received by them."""
    shares_announced: WholePart = 0
    """Of how many it was told that they were; at most that many, fewer after a crash."""
    settling: Flag = False
    """Whether its earnings are being divided: a reversal takes none of them from then on."""
    shares_due: WholePart | None = None
    completed_by: Text | None = None
    """Which announcement was the last: of several that come at the same time, one finds its own mark here."""
    held: WholePart | None = None
    completed_at: Instant | None = None
    """When all shares of this escrow had been announced."""

    @property
    def paying(self) -> bool:
        """Whether shares of this escrow are being paid: some have been, and others are still to come."""
        return self.settlement is Settlement.PAY and self.balance > 0 and self.completed_at is None

    class Settings:
        """Where and how Beanie keeps accounts."""

        name = "accounts"
        keep_nulls = False

    @classmethod
    async def balance_of(cls, account_id: str, session: DatabaseSession | None = None) -> int:
        """Its tokens; 0 for an account that nothing was ever moved to."""
        account = await cls.find_one({"_id": account_id}, session=session)
        return account.balance if account else 0

    @classmethod
    async def begin_settling(cls, escrow_id: str) -> Self | None:
        """Closes the escrow to reversals, before its earnings are listed; the account, None when nothing was ever held."""
        begun = {"$set": {"settling": True}}
        return cls._seen(await cls.shared().change(escrow_account(escrow_id), {}, begun))

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
    async def announced(cls, escrow_id: str, now: datetime, shares: int = 1) -> Self | None:
        """Notes that so many more shares were announced; the account if the last was among them, else None.

        A crash of the database may undo it. No announcement then counts as the last one; the promise of all shares is still
        stored, and its task, which runs again, finds that all are settled.
        """
        run = str(ObjectId())
        last = {
            "$and": [
                {"$gte": ["$shares_announced", {"$ifNull": ["$shares_due", math.inf]}]},
                {"$eq": [{"$ifNull": ["$completed_at", None]}, None]},
            ]
        }
        stages: list[Query] = [
            {"$set": {"shares_announced": {"$add": [{"$ifNull": ["$shares_announced", 0]}, shares]}}},
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
    async def _change(cls, where: Mapping[str, object], update: Any) -> Self | None:
        # Past Beanie's query builder, which would walk through all of it to encode what is in BSON's types already.
        return cls._seen(
            await cls.get_motor_collection().find_one_and_update(where, update, return_document=ReturnDocument.AFTER)
        )

    @classmethod
    def _seen(cls, document: Mapping[str, object] | None) -> Self | None:
        return None if document is None else cls.model_validate(document)


async def change_balances(changes: Sequence[UpdateOne], session: DatabaseSession) -> int:
    """Within a transaction: makes these changes of accounts; of how many the filter held, or which were made new.

    Raises UnusableDocumentError for an account whose balance is not a number.
    """
    try:
        written = await Account.get_motor_collection().bulk_write(list(changes), session=session)
    except BulkWriteError as error:
        if not is_about_a_document(error):
            raise
        first = next(iter(sequence(mapping(error.details).get("writeErrors"))), None)
        account_id = mapping(mapping(mapping(first).get("op")).get("q")).get("_id")
        raise UnusableDocumentError(f"accounts/{account_id}", "balance", "must be a whole number") from error
    return int(written.matched_count + written.upserted_count)


def balance_in(account: Mapping[str, object] | None) -> int:
    """The tokens of an account's document; 0 where there is none, or no number in it."""
    return (whole_part(account.get("balance")) or 0) if account else 0


class Transfer(Lenient):
    """Tokens that went from `debit` to `credit`. `from_user_id` and `to_user_id` are there when that side is a user."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    _identity: ClassVar[type] = str

    id: str = Field(default="", alias="_id")  # type: ignore[assignment]
    debit: Text = ""
    credit: Text = ""
    from_user_id: UserId | None = None
    to_user_id: UserId | None = None
    amount: Whole = 0
    tags: list[Text] = []
    metadata: dict[str, object] = {}
    cause: dict[str, Any] | None = None
    """What it goes back to (`Cause.document`)."""
    created_at: Instant | None = None
    reference: Text | None = None
    """The caller's own id of it, unique for the account that it names (`account`)."""
    account: Text | None = None
    reversed_at: Instant | None = None
    """When this deposit was reversed."""

    class Settings:
        """Where and how Beanie keeps transfers."""

        name = "transfers"
        keep_nulls = False
        indexes: ClassVar[list[IndexModel]] = [
            IndexModel([("from_user_id", ASCENDING), ("_id", ASCENDING)], name="from", sparse=True),
            IndexModel([("to_user_id", ASCENDING), ("_id", ASCENDING)], name="to", sparse=True),
            IndexModel([("tags", ASCENDING), ("_id", ASCENDING)], name="tags"),
            IndexModel([("debit", ASCENDING), ("created_at", ASCENDING), ("_id", ASCENDING)], name="debit"),
            IndexModel([("credit", ASCENDING), ("created_at", ASCENDING), ("_id", ASCENDING)], name="credit"),
            IndexModel([("created_at", ASCENDING), ("_id", ASCENDING)], name="created"),
            IndexModel([("reference", ASCENDING), ("created_at", ASCENDING)], name="listed_reference", sparse=True),
            IndexModel([("from_user_id", ASCENDING), ("created_at", ASCENDING)], name="listed_from", sparse=True),
            IndexModel([("to_user_id", ASCENDING), ("created_at", ASCENDING)], name="listed_to", sparse=True),
            IndexModel([("tags", ASCENDING), ("created_at", ASCENDING), ("_id", ASCENDING)], name="listed_tags"),
            IndexModel(
                [("cause.event_id", ASCENDING), ("created_at", ASCENDING), ("_id", ASCENDING)],
                name="caused",
                partialFilterExpression={"cause.event_id": {"$exists": True}},
            ),
            IndexModel(
                [("account", ASCENDING), ("reference", ASCENDING)],
                name="reference",
                unique=True,
                sparse=True,
            ),
        ]

    @classmethod
    async def times_of(cls, account_id: str) -> tuple[datetime | None, datetime | None]:
        """When something was moved to or from that account first, and when last."""

        async def end(side: str, direction: int) -> datetime | None:
            wanted, sort = {"created_at": 1}, [("created_at", direction), ("_id", direction)]
            found = await cls.get_motor_collection().find_one({side: account_id}, wanted, sort=sort)
            return None if found is None else instant(found.get("created_at"))

        ends = [(side, direction) for direction in (ASCENDING, DESCENDING) for side in ("debit", "credit")]
        found = await asyncio.gather(*(end(*one) for one in ends))
        first, last = ([time for time in half if time is not None] for half in (found[:2], found[2:]))
        return min(first, default=None), max(last, default=None)

    @classmethod
    async def paid_out(cls, escrow_id: str) -> AsyncIterator[Mapping[str, Any]]:
        """Yields the transfers that paid shares of that escrow to its streamer, in the order of their ids.

        Each names a user, an amount (as an integer) and, in `metadata.doc_id`, its share; others are left out.
        """
        where = {
            "_id": {"$gte": f"escrow-{escrow_id}-", "$lt": f"escrow-{escrow_id}."},
            "to_user_id": {"$exists": True},
        }
        async for transfer in cls.get_motor_collection().find(where, batch_size=500).sort("_id", ASCENDING):
            amount, doc_id = whole(transfer.get("amount")), mapping(transfer.get("metadata")).get("doc_id")
            if is_amount(amount) and user_id(transfer["to_user_id"]) is not None and ObjectId.is_valid(doc_id or ""):
                yield {**transfer, "amount": amount}

    @classmethod
    async def paid_from(cls, escrow_id: str) -> int:
        """Returns how many tokens of that escrow were paid to its streamer."""
        return sum([transfer["amount"] async for transfer in cls.paid_out(escrow_id)])

    @classmethod
    async def by_id(cls, transfer_id: str) -> "Transfer | None":
        """The transfer of that id."""
        return await cls.find_one({"_id": transfer_id})


#: The fields of an earning that name no escrow.
_NO_ESCROWS = (
    "user_id", "from_user_id", "amount", "created_at", "goal_id", "transfer_id", "state", "settled_at", "metadata", "tags",
    "progress", "cause", "reversal", "breakdown_id",
)  # fmt: skip


class Earning(Sharing):
    """What one viewer contributed to one streamer; `_show_funding:{funding_goal_id}` is there when that escrow holds it."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    id: PydanticObjectId | None = Field(default=None, alias="_id")
    user_id: UserId = ""
    from_user_id: UserId = ""
    amount: Whole = 0
    created_at: Instant | None = None
    state: Text | None = None
    """`held`, `paid` or `refunded`; absent in an earning of another service that is not settled yet."""
    settled_at: Instant | None = None

    class Settings:
        """Where and how Beanie keeps earnings."""

        name = "earnings"
        keep_nulls = False
        indexes: ClassVar[list[IndexModel]] = [
            IndexModel([("user_id", ASCENDING), ("created_at", ASCENDING)], name="user"),
            IndexModel([("goal_id", ASCENDING), ("_id", ASCENDING)], name="listed_goal", sparse=True),
            IndexModel([("from_user_id", ASCENDING), ("_id", ASCENDING)], name="listed_payer"),
            IndexModel([("created_at", ASCENDING), ("_id", ASCENDING)], name="listed_time"),
            IndexModel([("goal_id", ASCENDING), ("progress", ASCENDING)], name="goal_progress", sparse=True),
            # The escrow is the name of a field, `_show_funding:{funding_goal_id}`, so no other index can find its earnings.
            IndexModel([("$**", ASCENDING)], name="escrow", wildcardProjection=dict.fromkeys(_NO_ESCROWS, 0)),
        ]

    @classmethod
    async def amount_of(cls, earning_id: ObjectId) -> Any:
        """Returns what its `amount` holds, which may be no amount at all; None when there is no such earning."""
        found = await cls.shared().read(earning_id)
        return None if found is None else readable_earning(found).get("amount", 0)

    @classmethod
    async def stream(cls, escrow_id: str) -> AsyncIterator[Mapping[str, object]]:
        """Yields every earning that the escrow holds, of any date, whatever else is in it; not held in memory."""
        wanted = {"_id": 1, "from_user_id": 1, "amount": 1}
        where = {f"_{escrow_id}": {"$exists": True}, "reversal": {"$not": {"$type": "string"}}}
        async for earning in cls.get_motor_collection().find(where, wanted, batch_size=500):
            yield readable_earning(earning)

    @classmethod
    async def reached_by(cls, goal_id: ObjectId, above: int, contributions: int) -> int | None:
        """Returns the progress that this many contributions above `above` have reached; None where there are fewer."""
        where = {"goal_id": goal_id, "progress": {"$gt": above}}
        last = cls.get_motor_collection().find(
            where, {"progress": 1, "_id": 0}, sort=[("progress", ASCENDING)], skip=contributions - 1, limit=1
        )
        found = await last.to_list(None)
        return whole(found[0].get("progress")) if found else None

    @classmethod
    async def paid_between(cls, goal_id: ObjectId, above: int, up_to: int) -> list[Mapping[str, object]]:
        """`{user_id, amount, contributions, transfer_id, at}` by viewer, of the contributions that raised the goal's progress
        to more than `above` and at most `up_to`.
        """
        where = {"goal_id": goal_id, "progress": {"$gt": above, "$lte": up_to}}
        wanted = {"from_user_id": 1, "amount": 1, "transfer_id": 1, "created_at": 1}
        paid: dict[str, dict[str, Any]] = {}
        async for earning in cls.get_motor_collection().find(where, wanted):
            viewer, amount = user_id(earning.get("from_user_id")), whole(earning.get("amount"))
            if viewer is None or amount is None or not isinstance(earning["_id"], ObjectId):
                continue
            payer = paid.setdefault(viewer, {"user_id": viewer, "amount": 0, "contributions": 0})
            payer["amount"] += amount
            payer["contributions"] += 1
            at = instant(earning.get("created_at")) or earning["_id"].generation_time
            payer |= {"transfer_id": text(earning.get("transfer_id")), "at": at}
        return list(paid.values())

    @classmethod
    async def leaderboard(
        cls, goal_id: ObjectId, most: int, after: tuple[int, str] | None = None, *, highest_first: bool = True
    ) -> list[Mapping[str, object]]:
        """`{user_id, amount}` of those who contributed to that goal, highest first, equals in order of user id; or the
        reverse. With `after`, only those who follow that amount and user.
        """
        amounts, users = (DESCENDING, ASCENDING) if highest_first else (ASCENDING, DESCENDING)
        beyond = {ASCENDING: "$gt", DESCENDING: "$lt"}
        following: list[dict[str, object]] = []
        if after is not None:
            amount, user = after
            beside = {"amount": amount, "_id": {beyond[users]: user}}
            following = [{"$match": {"$or": [{"amount": {beyond[amounts]: amount}}, beside]}}]
        a_user = [{"from_user_id": {"$gt": ""}}, {"from_user_id": {"$gte": LEAST_WHOLE}}]
        pipeline: list[dict[str, object]] = [
            # Comparisons find values of the same type only: what is not an amount, or not of a user, is left out.
            {"$match": {"goal_id": goal_id, "amount": {"$gte": 1, "$lte": GREATEST_WHOLE}, "$or": a_user}},
            {"$group": {"_id": "$from_user_id", "amount": {"$sum": "$amount"}}},
            *following,
            {"$sort": {"amount": amounts, "_id": users}},
            {"$limit": most},
            {"$project": {"_id": 0, "user_id": "$_id", "amount": 1}},
        ]
        found = await cls.get_motor_collection().aggregate(pipeline).to_list(None)
        lines = [(user_id(one.get("user_id")), whole_part(one["amount"])) for one in found]
        return [
            {"user_id": user, "amount": amount} for user, amount in lines if user is not None and amount is not None
        ]


def readable_earning(earning: Mapping[str, object]) -> Mapping[str, Any]:
    """Returns the earning with its amount and payer as goalsvc writes them; what cannot be read stays as it is."""
    amount, payer = whole(earning.get("amount")), user_id(earning.get("from_user_id"))
    read: dict[str, object] = {} if amount is None else {"amount": amount}
    return {**earning, **read} if payer is None else {**earning, **read, "from_user_id": payer}
