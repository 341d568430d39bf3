"""The tokens that moved through a goal's escrows: each transfer while there are few, by the second where there are many."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from goalsvc.console.pictures.timeline import Flow
from goalsvc.console.queries import rows
from goalsvc.domain.escrow import escrow_account, tag_of
from goalsvc.models.payments import Payments, payments_by_second

#: More transfers than this are summed up by the second.
MOST_SINGLE = 300


@dataclass(frozen=True, slots=True)
class Money:
    """What moved: all of it as flows; the latest transfers one by one."""

    flows: Sequence[Flow]
    latest: Sequence[Mapping[str, object]]
    number: int
    """How many transfers there are in all; when `cut`, in the seconds that are summed up."""
    cut: bool = False
    """Whether there are seconds with payments before those that are summed up."""


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
    summed = await payments_by_second(escrows)
    number = sum(one.count for one in summed.items)
    return Money([_sum(one) for one in summed.items], latest[1:], number, cut=summed.truncated)


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


def _sum(one: Payments) -> Flow:
    title = f"{one.count} transfers, {one.amount} tokens {'in' if one.into else 'out'}"
    return Flow(one.at, one.amount if one.into else -one.amount, title, count=one.count)
