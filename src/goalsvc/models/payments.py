"""The tokens that moved through a goal's escrows, summed by the second."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId

from goalsvc.domain.escrow import escrow_account
from goalsvc.domain.reading import LAST_TIME
from goalsvc.models.bounded import total
from goalsvc.models.filters import at_most, whole_of
from goalsvc.models.goal import Goal
from goalsvc.models.goal_escrows import escrows_of

#: At most so many seconds of each direction are answered, the latest.
MOST_SECONDS = 10_000


@dataclass(frozen=True, slots=True)
class Payments:
    """What came into escrows, or left them, within one second."""

    at: datetime
    """When the second began."""
    into: bool
    amount: int
    count: int
    """How many transfers it was."""


@dataclass(frozen=True, slots=True)
class PaymentsBySecond:
    """What came into escrows and left them, oldest first."""

    items: Sequence[Payments]
    truncated: bool
    """Whether there are earlier ones."""


async def payments_of(goal_id: ObjectId) -> PaymentsBySecond | None:
    """Returns what moved through that goal's escrows; None when there is no such goal. Raises PyMongoError."""
    goal = await Goal.by_id(goal_id)
    return None if goal is None else await payments_by_second(await escrows_of(goal))


async def payments_by_second(escrows: Sequence[str]) -> PaymentsBySecond:
    """Returns what came into these escrows from elsewhere, and left them for elsewhere, by the index of each side."""
    if not escrows:
        return PaymentsBySecond((), truncated=False)
    accounts = [escrow_account(escrow) for escrow in escrows]
    came, went = await asyncio.gather(_side(accounts, into=True), _side(accounts, into=False))
    items = sorted([*came[:MOST_SECONDS], *went[:MOST_SECONDS]], key=lambda one: (one.at, not one.into))
    return PaymentsBySecond(items, truncated=max(len(came), len(went)) > MOST_SECONDS)


async def _side(accounts: Sequence[str], *, into: bool) -> list[Payments]:
    own, other = ("credit", "debit") if into else ("debit", "credit")
    moved = {own: {"$in": list(accounts)}, other: {"$nin": list(accounts)}, "created_at": at_most(LAST_TIME)}
    second = {"$dateTrunc": {"date": "$created_at", "unit": "second"}}
    group = {"_id": second, "amount": {"$sum": whole_of("amount")}, "count": {"$sum": 1}}
    stages: list[dict[str, Any]] = [
        {"$match": moved},
        {"$group": group},
        {"$sort": {"_id": -1}},
        {"$limit": MOST_SECONDS + 1},
    ]
    return [_payments(row, into=into) for row in await total("transfers", stages)]


def _payments(row: Mapping[str, Any], *, into: bool) -> Payments:
    return Payments(row["_id"], into, int(row["amount"]), int(row["count"]))
