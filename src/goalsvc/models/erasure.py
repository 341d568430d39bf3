"""Erasing a person: what stands in the way, and what is removed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from goalsvc.domain.books import escrow_of
from goalsvc.domain.documents import Query, Stored
from goalsvc.domain.escrow import escrow_account, exclusive_escrow, trigger_escrow, user_account
from goalsvc.domain.goals import CLASSES, GoalKind
from goalsvc.domain.ids import exclusive_of
from goalsvc.domain.reading import LAST_TIME, instant
from goalsvc.models.claims import NOT_SETTLED
from goalsvc.models.filters import ACTIVE, UNSET, at_most
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
_KEPT = ("_id", "created_at", "promises")


async def running_for(user_id: str) -> Sequence[str]:
    """Ids of sessions and goals that go on with that user, a few of them."""
    open_ = {"user_id": user_id, "statuses.started": at_most(LAST_TIME), "statuses.ended": UNSET}
    sessions = await _ids(Session, open_)
    by_role = [{"metadata.user_id": user_id}, {"metadata.viewer_id": user_id}, {"conditions.exclusive_to": user_id}]
    goals = await _ids(Goal, {"_cls": {"$in": CLASSES}, "active": ACTIVE, "$or": by_role})
    return [*(f"session {one}" for one in sessions), *(f"goal {one}" for one in goals)][:_MOST]


async def open_money_of(user_id: str) -> Sequence[str]:
    """What that user still has, owes or waits for, in words: a balance, a debt, what is held, withdrawals that are pending."""
    found = []
    for name, account_id in (("wallet", user_account(user_id)), ("debt", f"debt:{user_id}")):
        balance = await Account.balance_of(account_id)
        if balance:
            found.append(f"{name} of {balance} tokens")
    for role in ("from_user_id", "user_id"):
        found += [f"contribution {one} is held" for one in await _held_contributions({role: user_id})]
    pending = await _ids(Withdrawal, {"user_id": user_id, "state": PENDING})
    found += [f"withdrawal {one} is pending" for one in pending]
    if len(found) < _MOST:
        found += [f"escrow {one} holds tokens" for one in await _open_requests_of(user_id)]
    return found[:_MOST]


async def _held_contributions(where: Query) -> Sequence[str]:
    """Ids of those of these earnings that an escrow holds; another service's has no state, and its escrow is asked."""
    earnings = Earning.get_motor_collection().find({**where, "state": NOT_SETTLED})
    while batch := await earnings.to_list(_BATCH):
        escrows = {one["_id"]: escrow_account(escrow_of(one) or "") for one in batch}
        holding = {"_id": {"$in": list(set(escrows.values()))}, "balance": {"$gt": 0}}
        full = {account["_id"] async for account in Account.get_motor_collection().find(holding, {"_id": 1})}
        held = [one["_id"] for one in batch if one.get("state") == "held" or escrows[one["_id"]] in full]
        if held:
            return [str(one) for one in held[:_MOST]]
    return []


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
    while True:
        found: Stored | None = await collection.find_one({"_id": user_id})
        if found is None:
            return None
        if (erased := instant(found.get("erased_at"))) is not None:
            return erased
        kept = {name: found[name] for name in _KEPT if name in found}
        # Not `$unset`: another service's fields may have names that it does not take (`a.b`, `$c`).
        where = {"_id": user_id} | {name: {"$eq": found.get(name)} for name in ("erased_at", "promises")}
        done = await collection.replace_one(where, {**kept, "erased_at": now, "updated_at": now})
        if done.matched_count:
            return now


async def _ids(model: Any, where: Query) -> Sequence[str]:
    found = await model.get_motor_collection().find(where, {"_id": 1}).limit(_MOST).to_list(_MOST)
    return [str(one["_id"]) for one in found]
