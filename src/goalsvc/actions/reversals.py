"""Reversing a deposit, as after a chargeback: from the wallet, then from the user's open escrows, then as a debt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from bson import ObjectId
from pymongo import DESCENDING
from pymongo.errors import BulkWriteError

from goalsvc.actions.money import NO_PARTICULARS, Particulars, refused_reference
from goalsvc.context import Context
from goalsvc.database_session import DatabaseSession
from goalsvc.domain import books
from goalsvc.domain.escrow import (
    ISSUER,
    REFUNDED,
    debt_account,
    escrow_account,
    exclusive_escrow,
    is_amount,
    tag_of,
    transfer_id_of,
    trigger_escrow,
    user_account,
)
from goalsvc.domain.events import Event
from goalsvc.domain.ids import derived_id, exclusive_of
from goalsvc.domain.orders import Order
from goalsvc.domain.origin import Cause
from goalsvc.domain.reading import whole
from goalsvc.errors import ConflictError, NotFoundError
from goalsvc.models.claims import NOT_SETTLED
from goalsvc.models.ledger import move_within
from goalsvc.models.transfer_events import of_transfer
from goalsvc.models.wallet import Account, Earning, Transfer, balance_in

#: How many holds of the user's requests are looked at with one question; all of them are, the latest first.
_HOLDS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversal:
    """A deposit that was reversed: how many tokens came from where."""

    transfer_id: str
    user_id: str
    amount: int
    from_wallet: int
    """Of these, `from_escrows` were in open escrows before."""
    from_escrows: int
    from_debt: int
    created_at: datetime


async def reverse_deposit(
    context: Context, transfer_id: str, reason: str, particulars: Particulars = NO_PARTICULARS
) -> tuple[Reversal, bool]:
    """Reverses a deposit, once: the reversal, and whether it was made now. All of it is one transaction.

    Raises NotFoundError, InvalidError, ConflictError `not_a_deposit`, `reference_used`.
    """
    deposit = await Transfer.by_id(transfer_id)
    if deposit is None:
        raise NotFoundError(f"there is no transfer {transfer_id}")
    if deposit.debit != ISSUER or "deposit" not in deposit.tags or deposit.to_user_id is None:
        raise ConflictError("not_a_deposit", f"transfer {transfer_id} is not a deposit")
    now, cause = context.clock.now(), context.origin.cause
    work = _Work(deposit, deposit.to_user_id, reason, now, cause, replace(particulars, metadata=particulars.checked()))

    async def reverse_and_tell(session: DatabaseSession) -> Reversal | None:
        reversal = await work.run(session)
        if reversal is not None:
            await context.events.write([_event_of(deposit, reversal, reason, now, cause)], session)
        return reversal

    try:
        made: Reversal | None = await context.ledger.transaction(reverse_and_tell)
    except BulkWriteError as error:
        raise refused_reference(error, particulars.reference, user_account(work.user_id)) from error
    if made is not None:
        return made, True
    return await work.made_before(), False


def _event_of(deposit: Transfer, reversal: Reversal, reason: str, at: datetime, cause: Cause) -> Event:
    """`deposit.reversed`: the deposit, and where its tokens were taken from; the time and the cause are the reversal's."""
    document = {"_id": deposit.id, **deposit.model_dump(exclude={"id"})}
    told = of_transfer(
        "deposit.reversed",
        document,
        reason=reason,
        from_wallet=reversal.from_wallet,
        from_escrows=reversal.from_escrows,
        from_debt=reversal.from_debt,
    )
    return replace(told, created_at=at, cause=cause)


@dataclass(frozen=True, slots=True)
class _Work:
    deposit: Transfer
    user_id: str
    reason: str
    now: datetime
    cause: Cause
    particulars: Particulars

    async def run(self, session: DatabaseSession) -> Reversal | None:
        """Within a transaction: reverses the deposit; None when that was done before."""
        transfers = Transfer.get_motor_collection()
        where = {"_id": self.deposit.id, "reversed_at": {"$exists": False}}
        marked = await transfers.update_one(where, {"$set": {"reversed_at": self.now}}, session=session)
        if not marked.matched_count:
            return None
        amount, wallet = self.deposit.amount, user_account(self.user_id)
        missing = amount - await _balance(wallet, session)
        freed = await self._free(missing, session) if missing > 0 else 0
        from_wallet = max(min(amount, await _balance(wallet, session)), 0)
        if from_wallet:
            await self._take(f"reversal-{self.deposit.id}", wallet, from_wallet, session, self.particulars.reference)
        if amount > from_wallet:
            reference = None if from_wallet else self.particulars.reference
            debt, owed = debt_account(self.user_id), amount - from_wallet
            await self._take(f"reversal-debt-{self.deposit.id}", debt, owed, session, reference)
            owes = {"$set": {"owes": True}, "$setOnInsert": {"balance": 0}}
            await Account.get_motor_collection().update_one({"_id": wallet}, owes, upsert=True, session=session)
        return self._reversal(from_wallet, min(freed, from_wallet), amount - from_wallet, self.now)

    async def made_before(self) -> Reversal:
        """What the transfers of the reversal say, once it was made."""
        ids = [f"reversal-{self.deposit.id}", f"reversal-debt-{self.deposit.id}"]
        found = {each.id: each async for each in Transfer.find({"_id": {"$in": ids}})}
        made_at = next((each.created_at for each in found.values() if each.created_at is not None), self.now)
        wallet, debt = (found[each].amount if each in found else 0 for each in ids)
        freed = {"tags": f"reversal::{self.deposit.id}", "credit": user_account(self.user_id)}
        escrows = sum([each.amount async for each in Transfer.find(freed)])
        return self._reversal(wallet, min(escrows, wallet), debt, made_at)

    def _reversal(self, from_wallet: int, from_escrows: int, from_debt: int, at: datetime) -> Reversal:
        return Reversal(
            transfer_id=self.deposit.id,
            user_id=self.user_id,
            amount=self.deposit.amount,
            from_wallet=from_wallet,
            from_escrows=from_escrows,
            from_debt=from_debt,
            created_at=at,
        )

    async def _take(
        self, transfer_id: str, account: str, amount: int, session: DatabaseSession, reference: str | None
    ) -> None:
        """Takes tokens from the wallet or as a debt; the first of both has the caller's reference."""
        debt = account.startswith("debt:")
        order = Order(
            transfer_id=transfer_id,
            debit=account,
            credit=ISSUER,
            amount=amount,
            tags=["reversal", f"reversal::{self.deposit.id}", *([f"debt::{self.user_id}"] if debt else [])],
            metadata={
                **(self.particulars.metadata or {}),
                "transfer_id": self.deposit.id,
                "reason": self.reason,
            },
            from_user_id=None if debt else self.user_id,
            cause=self.cause,
            overdraft=debt,
            reference=reference,
            account=user_account(self.user_id),
            event="debt.created" if debt else "reversal.taken",
        )
        await move_within(order, self.now, session)

    # -- open escrows ---------------------------------------------------------------------------------------------

    async def _free(self, missing: int, session: DatabaseSession) -> int:
        """Moves up to so many tokens from the user's open escrows to the wallet; how many."""
        freed = await self._free_contributions(missing, session)
        return freed + (await self._free_holds(missing - freed, session) if freed < missing else 0)

    async def _free_contributions(self, missing: int, session: DatabaseSession) -> int:
        """Takes from the user's contributions that are held, the latest first, however many there are."""
        freed = 0
        left: dict[str, int] = {}
        where = {"from_user_id": self.user_id, "state": NOT_SETTLED, "_id": Earning.usable_ids()}
        async for earning in Earning.get_motor_collection().find(where, session=session).sort("_id", DESCENDING):
            escrow_id, amount = books.escrow_of(earning), whole(earning.get("amount"))
            if escrow_id is None or amount is None or not is_amount(amount):
                continue
            if escrow_id not in left:
                left[escrow_id] = await _open_balance(escrow_id, session)
            taken = min(missing - freed, amount, left[escrow_id])
            if taken <= 0:
                continue
            doc_id = await self._split_off(earning, amount, taken, session)
            transfer_id = transfer_id_of(REFUNDED, escrow_id, str(doc_id), self.user_id)
            await self._give_back(transfer_id, escrow_id, taken, str(doc_id), session)
            left[escrow_id] -= taken
            freed += taken
            if freed == missing:
                break
        return freed

    async def _split_off(
        self, earning: Mapping[str, Any], amount: int, taken: int, session: DatabaseSession
    ) -> ObjectId:
        """Marks that part of an earning as refunded, as an earning of its own unless it is all of it; that one's id."""
        collection = Earning.get_motor_collection()
        settled = {"state": "refunded", "settled_at": self.now, "reversal": self.deposit.id}
        if taken == amount:
            await collection.update_one({"_id": earning["_id"]}, {"$set": settled}, session=session)
            doc_id: ObjectId = earning["_id"]
            return doc_id
        part = derived_id(earning["_id"], f"reversal:{self.deposit.id}")
        await collection.update_one({"_id": earning["_id"]}, {"$set": {"amount": amount - taken}}, session=session)
        await collection.insert_one({**earning, "_id": part, "amount": taken, **settled}, session=session)
        return part

    async def _free_holds(self, missing: int, session: DatabaseSession) -> int:
        """Takes from the holds of the user's requests, and from the exclusives that came of them; the latest first."""
        freed, before = 0, "hold-trigger;"
        while freed < missing:
            where = {"from_user_id": self.user_id, "_id": {"$gte": "hold-trigger:", "$lt": before}}
            found = Transfer.get_motor_collection().find(where, {"_id": 1}, session=session).sort("_id", DESCENDING)
            holds = [str(hold["_id"]) for hold in await found.limit(_HOLDS).to_list(None)]
            if not holds:
                break
            before = holds[-1]
            requests = [text for hold in holds if ObjectId.is_valid(text := hold.removeprefix("hold-trigger:"))]
            escrows = {escrow_id: request for request in requests for escrow_id in _escrows_of(ObjectId(request))}
            holding = await _open_balances(list(escrows), session)
            for escrow_id, request in escrows.items():
                taken = min(missing - freed, holding.get(escrow_id, 0))
                if taken > 0:
                    transfer_id = f"reversal-{self.deposit.id}-{escrow_id}"
                    await self._give_back(transfer_id, escrow_id, taken, request, session)
                    freed += taken
        return freed

    async def _give_back(
        self, transfer_id: str, escrow_id: str, amount: int, doc_id: str, session: DatabaseSession
    ) -> None:
        order = Order(
            transfer_id=transfer_id,
            debit=escrow_account(escrow_id),
            credit=user_account(self.user_id),
            amount=amount,
            tags=[tag_of(escrow_id), f"reversal::{self.deposit.id}"],
            metadata={"doc_id": doc_id, "user_id": self.user_id, "reversal": self.deposit.id},
            to_user_id=self.user_id,
            cause=self.cause,
            event="escrow.reversed",
        )
        await move_within(order, self.now, session)


async def _balance(account_id: str, session: DatabaseSession) -> int:
    found = await Account.get_motor_collection().find_one({"_id": account_id}, {"balance": 1}, session=session)
    return balance_in(found)


def _escrows_of(request: ObjectId) -> tuple[str, str]:
    """Returns the escrows that may hold the price of that request: its own, and its exclusive's."""
    return trigger_escrow(request), exclusive_escrow(exclusive_of(request))


async def _open_balance(escrow_id: str, session: DatabaseSession) -> int:
    """Returns what an escrow holds while nothing has begun to settle it, else 0."""
    return (await _open_balances([escrow_id], session)).get(escrow_id, 0)


async def _open_balances(escrow_ids: Sequence[str], session: DatabaseSession) -> Mapping[str, int]:
    """Returns what each of these escrows holds while nothing has begun to settle it; the others are absent."""
    accounts = {escrow_account(escrow_id): escrow_id for escrow_id in escrow_ids}
    where = {
        "_id": {"$in": list(accounts)},
        "settlement": None,
        "settling": {"$ne": True},
        "shares_due": None,
        "held": None,
        "balance": {"$gt": 0},
    }
    found = Account.get_motor_collection().find(where, {"balance": 1}, session=session)
    return {accounts[account["_id"]]: balance_in(account) async for account in found}
