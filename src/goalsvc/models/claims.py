"""Claims: why tokens may leave an escrow. Every job that moves money shows, in its transaction, the promise that covers it.

A job in Redis is only a hint. One that was planted, that is left over, or that belongs to another state of the database finds
no promise that covers it, and moves nothing.
"""

from collections.abc import Mapping, Sequence, Set
from datetime import datetime
from typing import Any

from bson import ObjectId

from goalsvc.database_session import DatabaseSession
from goalsvc.domain.escrow import (
    SETTLEMENT,
    EscrowShare,
    Settlement,
    escrow_account,
    fee_of,
    is_amount,
    named_in,
    tag_of,
    user_account,
)
from goalsvc.domain.orders import Claim, Order
from goalsvc.domain.promises import PromiseRef
from goalsvc.domain.reading import mapping, plain, sequence
from goalsvc.errors import ConflictError, InvalidError, NotPromisedError
from goalsvc.models.goal import Goal
from goalsvc.models.records import DeadLetter
from goalsvc.models.wallet import Earning, readable_earning

#: What an earning's `state` is once it is settled that way.
SETTLED_STATE = {Settlement.PAY: "paid", Settlement.REFUND: "refunded"}
#: The filter value for the state of an earning that is not settled: `held`, or none where another service wrote it.
NOT_SETTLED = {"$nin": list(SETTLED_STATE.values())}


def split(amount: int, fee_bps: int) -> tuple[int, int]:
    """Returns the amounts of the two transfers that pay this share: to its user and to the platform.

    Where the platform's part is all of it, one transfer makes it.
    """
    fee = fee_of(amount, fee_bps)
    return (amount - fee, fee) if fee < amount else (amount, 0)


#: Tasks whose promise is one to settle an escrow, or one share of it.
_SETTLING = frozenset({"escrow_out", "refund_escrow", "transfer_escrow"})
#: An order, the share that it settles, and the fee that it says.
_Settling = tuple[Order, EscrowShare, int]


async def verify_claims(orders: Sequence[Order], now: datetime, session: DatabaseSession) -> None:
    """Within a transaction: raises NotPromisedError unless a promise covers each order's claim, and settles their earnings.

    Orders without a claim rest on a call; they are left alone.

    Raises ConflictError `settled_otherwise` for an earning that was settled the other way.
    """
    claimed = [(order, order.claim) for order in orders if order.claim is not None]
    if not claimed:
        return
    promises = await _promises_of({claim.promise for _, claim in claimed}, session)
    by_earning: dict[ObjectId, _Settling] = {}
    for order, claim in claimed:
        promise = promises.get(claim.promise) if claim.promise is not None else None
        if promise is None or not _covers(promise, order, claim):
            raise NotPromisedError(f"no document promises transfer {order.transfer_id}")
        if claim.share is not None and claim.share.earning_id is not None:
            by_earning[claim.share.earning_id] = order, claim.share, claim.fee_bps
    if by_earning:
        await _settle_earnings(by_earning, now, session)


async def _promises_of(
    named: Set[PromiseRef | None], session: DatabaseSession
) -> Mapping[PromiseRef, Mapping[str, object]]:
    """Returns these promises, as far as their goals hold them, or dead letters in their stead.

    A share that failed for the last time takes the promise of them all into its dead letter; the others are still owed.
    """
    wanted = {ref for ref in named if ref is not None and ref.collection == "goals"}
    if not wanted:
        return {}
    where: dict[str, object] = {"_id": {"$in": list({ref.document_id for ref in wanted})}}
    found: dict[PromiseRef, Mapping[str, object]] = {}
    async for goal in Goal.get_motor_collection().find(where, {"promises": 1}, session=session):
        for promise in map(mapping, sequence(goal.get("promises"))):
            ref = PromiseRef("goals", goal["_id"], str(promise.get("id")))
            if ref in wanted:
                found[ref] = {**promise, "arguments": plain(promise.get("arguments"))}
    if missing := {str(ref): ref for ref in wanted if ref not in found}:
        where = {"_id": {"$in": list(missing)}, "state": "dead"}
        wanted_fields = {"task": 1, "arguments": 1}
        async for letter in DeadLetter.get_motor_collection().find(where, wanted_fields, session=session):
            found[missing[letter["_id"]]] = {**letter, "arguments": plain(letter.get("arguments"))}
    return found


def _covers(promise: Mapping[str, object], order: Order, claim: Claim) -> bool:
    """Returns whether that promise is one to make this very transfer, or to settle the escrow of which it is a share."""
    arguments = mapping(promise.get("arguments"))
    task = promise.get("task")
    if task in _SETTLING:
        return claim.share is not None and _covers_share(task, arguments, order, claim.share, claim.fee_bps)
    match task:
        case "hold_exclusive":
            return (arguments.get("transfer_id"), arguments.get("amount")) == (order.transfer_id, order.amount)
        case "transfer":
            return order.debit == _payer_in(arguments) and (
                arguments.get("transfer_id"), arguments.get("amount"), arguments.get("to_user_id"),
                arguments.get("from_user_id"), list(sequence(arguments.get("tags"))),
            ) == (order.transfer_id, order.amount, order.to_user_id, order.from_user_id, list(order.tags))  # fmt: skip
        case _:
            return False


def _payer_in(arguments: Mapping[str, object]) -> str:
    """Returns the account that pays a promised transfer: the user's, or that of the escrow in its tags."""
    if arguments.get("from_user_id") is not None:
        return user_account(str(arguments["from_user_id"]))
    escrow_id, _ = named_in("", [str(tag) for tag in sequence(arguments.get("tags"))])
    return escrow_account(escrow_id or "")


def _covers_share(task: str, arguments: Mapping[str, object], order: Order, share: EscrowShare, fee_bps: int) -> bool:
    """Returns whether a promise with these arguments is one to settle that share by this very transfer."""
    if arguments.get("escrow_id") != share.escrow_id or order.transfer_id != share.transfer_id:
        return False
    if order.debit != escrow_account(share.escrow_id) or list(order.tags) != [tag_of(share.escrow_id)]:
        return False
    if task == "refund_escrow":
        return not share.paid and share.earning_id is not None
    if (arguments.get("fee_bps") or 0) != fee_bps:
        return False
    if task == "escrow_out":
        return share.paid and arguments.get("user_id") == share.user_id and share.earning_id is not None
    amount: Any = mapping(arguments.get("metadata")).get("amount")
    same_amount = is_amount(amount) and split(amount, fee_bps if share.paid else 0) == (order.amount, order.fee)
    same_way = SETTLEMENT.get(str(arguments.get("event"))) is share.way
    return same_amount and same_way and arguments.get("to_user_id") == share.user_id and share.earning_id is None


async def _settle_earnings(claimed: Mapping[ObjectId, _Settling], now: datetime, session: DatabaseSession) -> None:
    earnings = Earning.get_motor_collection()
    cursor = earnings.find({"_id": {"$in": list(claimed)}}, session=session)
    found = {earning["_id"]: readable_earning(earning) async for earning in cursor}
    states = set()
    for earning_id, (order, share, fee_bps) in claimed.items():
        earning = found.get(earning_id)
        if earning is None or f"_{share.escrow_id}" not in earning:
            raise NotPromisedError(f"escrow {share.escrow_id} holds no earning {earning_id}")
        check_amount(earning)
        if (order.amount, order.fee) != split(earning["amount"], fee_bps if share.paid else 0):
            raise NotPromisedError(f"earning {earning_id}: the transfer must be of its {earning['amount']} tokens")
        if not share.paid and str(earning.get("from_user_id")) != share.user_id:
            raise NotPromisedError(f"earning {earning_id} is not from user {share.user_id}")
        state = SETTLED_STATE[share.way]
        if earning.get("state") in [each for each in SETTLED_STATE.values() if each != state]:  # of any type
            raise ConflictError("settled_otherwise", f"earning {earning_id} was {earning['state']}")
        states.add(state)
    (state,) = states  # the orders of one transaction have one settlement in common
    changes = {"$set": {"state": state, "settled_at": now}}
    await earnings.update_many({"_id": {"$in": list(claimed)}}, changes, session=session)


def check_amount(holder: Mapping[str, object], what: str = "earning") -> None:
    """Raises InvalidError for an earning or a transfer whose amount is not a whole number above 0."""
    if not is_amount(holder.get("amount")):
        fault = f"must be a whole number above 0, is {holder.get('amount')!r}"
        raise InvalidError(f"{what} {holder['_id']}: amount", fault)
