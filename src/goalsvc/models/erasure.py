"""Erasing a person: what stands in the way, and what is removed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from goalsvc.database_session import DatabaseSession
from goalsvc.domain.books import escrow_of
from goalsvc.domain.documents import Query
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
_KEPT = ("created_at", "promises")

#: The field by which an account is held for the time of an erasure; no reader ever sees it.
_HELD = "held_for_erasure"


async def hold_money_of(user_id: str, session: DatabaseSession) -> None:
    """Within a transaction: lets no other transaction move tokens to or from that user until this one is over."""
    accounts, where = Account.get_motor_collection(), {"_id": user_account(user_id)}
    # What is written and taken back is held all the same; an update that changes nothing would not be.
    held = await accounts.update_one(where, {"$set": {_HELD: True}}, upsert=True, session=session)
    if held.upserted_id is None:
        await accounts.update_one(where, {"$unset": {_HELD: True}}, session=session)
    else:
        await accounts.delete_one(where, session=session)


async def running_for(user_id: str, session: DatabaseSession) -> Sequence[str]:
    """Ids of sessions and goals that go on with that user, a few of them."""
    open_ = {"user_id": user_id, "statuses.started": at_most(LAST_TIME), "statuses.ended": UNSET}
    sessions = await _ids(Session, open_, session)
    by_role = [{"metadata.user_id": user_id}, {"metadata.viewer_id": user_id}, {"conditions.exclusive_to": user_id}]
    goals = await _ids(Goal, {"_cls": {"$in": CLASSES}, "active": ACTIVE, "$or": by_role}, session)
    return [*(f"session {one}" for one in sessions), *(f"goal {one}" for one in goals)][:_MOST]


async def open_money_of(user_id: str, session: DatabaseSession) -> Sequence[str]:
    """What that user still has, owes or waits for, in words: a balance, a debt, what is held, withdrawals that are pending."""
    found = []
    for name, account_id in (("wallet", user_account(user_id)), ("debt", f"debt:{user_id}")):
        balance = await Account.balance_of(account_id, session)
        if balance:
            found.append(f"{name} of {balance} tokens")
    for role in ("from_user_id", "user_id"):
        found += [f"contribution {one} is held" for one in await _held_contributions({role: user_id}, session)]
    pending = await _ids(Withdrawal, {"user_id": user_id, "state": PENDING}, session)
    found += [f"withdrawal {one} is pending" for one in pending]
    if len(found) < _MOST:
        found += [f"escrow {one} holds tokens" for one in await _open_requests_of(user_id, session)]
    return found[:_MOST]


async def _held_contributions(where: Query, session: DatabaseSession) -> Sequence[str]:
    """Ids of those of these earnings that an escrow holds; another service's has no state, and its escrow is asked."""
    earnings = Earning.get_motor_collection().find({**where, "state": NOT_SETTLED}, session=session)
    while batch := await earnings.to_list(_BATCH):
        escrows = {one["_id"]: escrow_account(escrow_of(one) or "") for one in batch}
        holding = {"_id": {"$in": list(set(escrows.values()))}, "balance": {"$gt": 0}}
        accounts = Account.get_motor_collection().find(holding, {"_id": 1}, session=session)
        full = {account["_id"] async for account in accounts}
        held = [one["_id"] for one in batch if one.get("state") == "held" or escrows[one["_id"]] in full]
        if held:
            return [str(one) for one in held[:_MOST]]
    return []


async def _open_requests_of(user_id: str, session: DatabaseSession) -> Sequence[str]:
    """Ids of escrows that hold the price of a request by or to that user, or of the exclusive that came of it."""
    roles = [{"metadata.user_id": user_id}, {"metadata.viewer_id": user_id}]
    theirs = {"_cls": GoalKind.TRIGGER.cls, "$or": roles}
    requests = Goal.get_motor_collection().find(theirs, {"_id": 1}, session=session)
    while batch := await requests.to_list(_BATCH):
        names = {
            escrow_account(escrow_id): escrow_id
            for one in batch
            for escrow_id in (trigger_escrow(one["_id"]), exclusive_escrow(exclusive_of(one["_id"])))
        }
        holding = await _ids(Account, {"_id": {"$in": list(names)}, "balance": {"$gt": 0}}, session)
        if holding:
            return [names[account_id] for account_id in holding]
    return []


async def erase(user_id: str, now: datetime, session: DatabaseSession) -> datetime | None:
    """Removes what is known of the person; when that was done first, None when there is no such user."""
    collection = User.get_motor_collection()
    # Not `$unset`: another service's fields may have names that it does not take (`a.b`, `$c`). What is kept, the server
    # copies as it is stored, also text that does not survive decoding.
    bare: Sequence[Query] = [{"$project": dict.fromkeys(_KEPT, 1)}, {"$set": {"erased_at": now, "updated_at": now}}]
    where = {"_id": user_id, "erased_at": UNSET}
    if (await collection.update_one(where, bare, session=session)).matched_count:
        return now
    found = await collection.find_one({"_id": user_id}, {"erased_at": 1}, session=session)
    return None if found is None else instant(found.get("erased_at"))


async def _ids(model: Any, where: Query, session: DatabaseSession) -> Sequence[str]:
    found = await model.get_motor_collection().find(where, {"_id": 1}, session=session).limit(_MOST).to_list(_MOST)
    return [str(one["_id"]) for one in found]
