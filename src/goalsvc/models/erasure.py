"""Erasing a person: what stands in the way, and what is removed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from goalsvc.domain.documents import Query, RawDocument, Stored
from goalsvc.domain.escrow import escrow_account, exclusive_escrow, trigger_escrow, user_account
from goalsvc.domain.goals import GoalKind
from goalsvc.domain.ids import exclusive_of
from goalsvc.models.filters import ACTIVE
from goalsvc.models.goal import Goal
from goalsvc.models.session import Session
from goalsvc.models.user import User
from goalsvc.models.wallet import Account, Earning
from goalsvc.models.withdrawal import PENDING, Withdrawal

#: At most this many ids are named of what stands in the way.
_MOST = 5

#: The balances of so many requests are read at a time.
_BATCH = 500

#: Fields of a user's document that remain after the erasure.
_KEPT = frozenset({"_id", "created_at", "promises"})


async def running_for(user_id: str) -> Sequence[str]:
    """Ids of sessions and goals that go on with that user, a few of them."""
    open_ = {"user_id": user_id, "statuses.started": {"$ne": None}, "statuses.ended": None}
    sessions = await _ids(Session, open_)
    by_role = [{"metadata.user_id": user_id}, {"metadata.viewer_id": user_id}, {"conditions.exclusive_to": user_id}]
    goals = await _ids(Goal, {"active": ACTIVE, "$or": by_role})
    return [*(f"session {one}" for one in sessions), *(f"goal {one}" for one in goals)][:_MOST]


async def open_money_of(user_id: str) -> Sequence[str]:
    """What that user still has, owes or waits for, in words: a balance, a debt, what is held, withdrawals that are pending."""
    found = []
    for name, account_id in (("wallet", user_account(user_id)), ("debt", f"debt:{user_id}")):
        balance = await Account.balance_of(account_id)
        if balance:
            found.append(f"{name} of {balance} tokens")
    for role in ("from_user_id", "user_id"):
        held = await _ids(Earning, {role: user_id, "state": "held"})
        found += [f"contribution {one} is held" for one in held]
    pending = await _ids(Withdrawal, {"user_id": user_id, "state": PENDING})
    found += [f"withdrawal {one} is pending" for one in pending]
    if len(found) < _MOST:
        found += [f"escrow {one} holds tokens" for one in await _open_requests_of(user_id)]
    return found[:_MOST]


async def _open_requests_of(user_id: str) -> Sequence[str]:
    """Ids of escrows that hold the price of a request by or to that user, or of the exclusive that came of it."""
    roles = [{"metadata.user_id": user_id}, {"metadata.viewer_id": user_id}]
    requests = Goal.get_motor_collection().find({"_cls": GoalKind.TRIGGER.cls, "$or": roles}, {"_id": 1})
    while batch := await requests.to_list(_BATCH):
        names = {
            escrow_account(escrow_id): escrow_id
            for one in batch
            for escrow_id in (trigger_escrow(one["_id"]), exclusive_escrow(exclusive_of(one["_id"])))
        }
        holding = await _ids(Account, {"_id": {"$in": list(names)}, "balance": {"$gt": 0}})
        if holding:
            return [names[account_id] for account_id in holding]
    return []


async def erase(user_id: str, now: datetime) -> datetime | None:
    """Removes what is known of the person; when that was done first, None when there is no such user."""
    collection = User.get_motor_collection()
    found: Stored | None = await collection.find_one({"_id": user_id})
    if found is None:
        return None
    erased: datetime | None = found.get("erased_at")
    if erased is None:
        gone = dict.fromkeys(set(found) - _KEPT, True)
        update: RawDocument = {"$set": {"erased_at": now, "updated_at": now}}
        for name in update["$set"]:
            gone.pop(name, None)
        if gone:
            update["$unset"] = gone
        await collection.update_one({"_id": user_id}, update)
    return erased or now


async def _ids(model: Any, where: Query) -> Sequence[str]:
    found = await model.get_motor_collection().find(where, {"_id": 1}).limit(_MOST).to_list(_MOST)
    return [str(one["_id"]) for one in found]
