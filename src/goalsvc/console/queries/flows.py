"""The tokens that moved through a goal's escrows: each transfer while there are few, by the second where there are many."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from goalsvc.console.pictures.timeline import Flow
from goalsvc.console.queries import rows, total
from goalsvc.domain.escrow import escrow_account, tag_of

#: More transfers than this are summed up by the second.
MOST_SINGLE = 300


@dataclass(frozen=True, slots=True)
class Money:
    """What moved: all of it as flows; the latest transfers one by one."""

    flows: Sequence[Flow]
    latest: Sequence[Mapping[str, object]]
    number: int
    """How many transfers there are in all."""


async def money_of(escrows: Sequence[str]) -> Money:
    """Returns the tokens that moved into and out of these escrows."""
    if not escrows:
        return Money((), (), 0)
    where = {"tags": {"$in": [tag_of(escrow) for escrow in escrows]}}
    accounts = [escrow_account(escrow) for escrow in escrows]
    order = [("created_at", -1), ("_id", -1)]
    latest = (await rows("transfers", where, sort=order, limit=MOST_SINGLE + 1))[::-1]
    if len(latest) <= MOST_SINGLE:
        flows = [flow for transfer in latest if (flow := _flow(transfer, accounts)) is not None]
        return Money(flows, latest, len(latest))
    came, went = await asyncio.gather(_by_second(accounts, into=True), _by_second(accounts, into=False))
    flows = sorted([*came, *went], key=lambda flow: flow.at)
    return Money(flows, latest[1:], sum(flow.count for flow in flows))


def transfer_path(transfer_id: object) -> str:
    """Returns where the console shows that transfer."""
    return f"/transfers/{quote(str(transfer_id), safe='')}"


def party(transfer: Mapping[str, object], side: str, user: str) -> str:
    """Returns who paid or was paid, as people call them."""
    return str(transfer.get(user) or transfer.get(side) or "an unknown account").removeprefix("user:")


def _flow(transfer: Mapping[str, object], accounts: Sequence[str]) -> Flow | None:
    at, amount = transfer.get("created_at"), transfer.get("amount")
    into, out = transfer.get("credit") in accounts, transfer.get("debit") in accounts
    if not isinstance(at, datetime) or not isinstance(amount, int) or into == out:
        return None
    path = transfer_path(transfer["_id"])
    if into:
        return Flow(at, amount, f"{amount} tokens from {party(transfer, 'debit', 'from_user_id')}", path=path)
    return Flow(at, -amount, f"{amount} tokens to {party(transfer, 'credit', 'to_user_id')}", path=path)


async def _by_second(accounts: Sequence[str], *, into: bool) -> list[Flow]:
    """Returns what came into these accounts, or left them, by the second, by the index of that side."""
    own, other = ("credit", "debit") if into else ("debit", "credit")
    moved = {own: {"$in": list(accounts)}, other: {"$nin": list(accounts)}, "created_at": {"$type": "date"}}
    second = {"$dateTrunc": {"date": "$created_at", "unit": "second"}}
    group = {"_id": second, "amount": {"$sum": "$amount"}, "count": {"$sum": 1}}
    return [_sum(row, into=into) for row in await total("transfers", [{"$match": moved}, {"$group": group}])]


def _sum(row: Mapping[str, Any], *, into: bool) -> Flow:
    amount, count = int(row["amount"]), int(row["count"])
    title = f"{count} transfers, {amount} tokens {'in' if into else 'out'}"
    return Flow(row["_id"], amount if into else -amount, title, count=count)
