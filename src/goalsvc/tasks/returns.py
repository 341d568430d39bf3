"""Returning a payout: each share goes back to the user that it came from, once."""

from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId

from goalsvc.context import Context
from goalsvc.database_session import DatabaseSession
from goalsvc.domain.escrow import debt_account, user_account
from goalsvc.domain.goals import user_id
from goalsvc.domain.orders import Order
from goalsvc.domain.origin import Cause
from goalsvc.domain.outcome import Done, Outcome, Reason, Returned
from goalsvc.domain.promises import PromiseRef
from goalsvc.domain.reading import mapping, whole
from goalsvc.errors import NotFoundError, NotPromisedError, NotYetError, RetryableError
from goalsvc.models.events import of_goal
from goalsvc.models.goal import Goal
from goalsvc.models.ledger import move_within
from goalsvc.models.wallet import Account, Earning, Transfer, balance_in
from goalsvc.tasks.arguments import DocumentId
from goalsvc.tasks.task import RetryPolicy, task

#: How many shares one run returns; the next run goes on.
_BATCH = 200
#: How soon to look again whether an earlier refund has been made.
_EARLIER_SECONDS = 0.1


@task(retry=RetryPolicy(first_seconds=0.1), timeout=60)
async def return_payout(
    context: Context,
    *,
    goal_id: DocumentId,
    escrow_id: str,
    refund_id: str,
    amount: int,
    paid: int,
    reason: str,
    metadata: Mapping[str, object] | None = None,
) -> Outcome:
    """Returns `amount` of the `paid` tokens to those who paid, in proportion to what is left of each share, to the token.

    The refunds of a goal are made in the order in which they were promised, so that each run of this one reckons the same
    shares. `metadata` is the caller's, kept with each transfer.

    Raises NotYetError while an earlier one is being made, and RetryableError where it has failed for good.
    """
    promise = context.promise
    if promise is None:
        return Returned(Reason.NOT_PROMISED)
    identity = ObjectId(goal_id)
    goal = await Goal.by_id(identity)
    if goal is None:
        return Returned(Reason.UNKNOWN_GOAL)
    if unmade := await refunds_unmade(goal, before=refund_id):
        if promise_of(unmade[0]) in refunds_promised(goal):
            raise NotYetError("an earlier refund of this goal is being made", _EARLIER_SECONDS)
        raise RetryableError(f"an earlier refund must be made first: redrive dead letter {letter_of(goal, unmade[0])}")
    refund = Refund(
        context=context,
        goal_id=identity,
        refund_id=refund_id,
        amount=amount,
        paid=paid,
        reason=reason,
        metadata=metadata or {},
        now=context.clock.now(),
        cause=context.origin.cause.about(goal_id),
    )
    made = 0
    async for share in refund.shares(escrow_id):
        try:
            made += await share.make(promise.promise_id)
        except NotPromisedError:
            return Returned(Reason.NOT_PROMISED)
        if made == _BATCH:
            raise NotYetError("there are more shares to return", 0.0)
    goal = await Goal.by_id(identity)
    if goal is None:
        return Returned(Reason.UNKNOWN_GOAL)
    # Told also where an earlier run made the last share: that run may have been killed before it wrote the event.
    about = {"id": refund_id, "amount": amount, "paid": paid, "reason": reason}
    told = of_goal(
        "goal.refunded",
        goal,
        context.clock.now(),
        context.origin.cause.about(goal_id),
        identity=f"{goal_id}:{refund_id}",
        refund=about,
    )
    return Done(f"{amount} tokens" if made else "made before", events=(told,))


def refunds_promised(goal: Goal) -> list[str]:
    """Returns the ids of the promises of refunds that this goal has still to make."""
    return [promise.id for promise in goal.promises if promise.task == return_payout.name]


def promise_of(refund_id: str) -> str:
    """Returns the id of the promise to make that refund."""
    return f"{return_payout.name}:{refund_id}"


def letter_of(goal: Goal, refund_id: str) -> str:
    """Returns the id of the dead letter of that refund."""
    return str(PromiseRef("goals", ObjectId(goal.id), promise_of(refund_id)))


def promised_refunds(goal: Goal) -> Mapping[str, Any]:
    """Returns the amounts of all refunds of this goal by their ids, in the order in which they were promised."""
    return mapping((goal.model_extra or {}).get("returns"))


async def refunds_unmade(goal: Goal, before: str | None = None) -> list[str]:
    """Returns the ids of the refunds, of those promised `before` that one, of which a transfer is still to be made."""
    promised = promised_refunds(goal)
    ids = list(promised)
    if before is not None:
        ids = ids[: ids.index(before)] if before in promised else []
    made = Counter[str]()
    if ids:
        wanted = {"metadata.refund_id": 1, "amount": 1}
        async for transfer in Transfer.get_motor_collection().find({"tags": f"goal::{goal.id}"}, wanted):
            made[str(mapping(transfer.get("metadata")).get("refund_id"))] += whole(transfer.get("amount")) or 0
    return [refund_id for refund_id in ids if made[refund_id] < (whole(promised[refund_id]) or 0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """A payout that returns to those who paid, whole or in part."""

    context: Context
    goal_id: ObjectId
    refund_id: str
    amount: int
    paid: int
    reason: str
    metadata: Mapping[str, object]
    now: datetime
    cause: Cause

    async def shares(self, escrow_id: str) -> AsyncGenerator["Share", None]:
        """Yields what returns of each payout of that escrow, in the order of their ids.

        It is in proportion to what earlier refunds have left of each: no more of one is returned than was paid.
        """
        returned = await self._returned_before()
        left = self.paid - returned.total()
        before = 0
        async for payout in Transfer.paid_out(escrow_id):
            # Cut at the running sum, so that all shares together are the amount to the token.
            own = payout["amount"] - returned[payout["_id"]]
            share = self.amount * (before + own) // left - self.amount * before // left
            before += own
            if share:
                yield Share(self, payout, share)

    async def _returned_before(self) -> Counter[str]:
        """Returns how much other refunds of the goal have returned, by the id of the payout that it was paid with."""
        returned = Counter[str]()
        where = {"tags": f"goal::{self.goal_id}", "metadata.refund_id": {"$ne": self.refund_id}}
        wanted = {"metadata": 1, "amount": 1}
        async for transfer in Transfer.get_motor_collection().find(where, wanted, batch_size=500):
            payout = mapping(transfer.get("metadata")).get("transfer_id")
            if isinstance(payout, str):
                returned[payout] += whole(transfer.get("amount")) or 0
        return returned


@dataclass(frozen=True, slots=True)
class Share:
    """What returns of one payout."""

    refund: Refund
    payout: Mapping[str, Any]
    amount: int

    @property
    def streamer(self) -> str:
        """Who was paid."""
        return str(self.payout["to_user_id"])

    @property
    def _ids(self) -> tuple[str, str]:
        doc_id = self.payout["metadata"]["doc_id"]
        return f"return-{self.refund.refund_id}-{doc_id}", f"return-debt-{self.refund.refund_id}-{doc_id}"

    async def make(self, promise_id: str) -> bool:
        """Makes the transfers of this share while the goal promises the refund. Returns False when they had been made before.

        Raises NotPromisedError.
        """
        if await self._made(None):
            return False
        payer = await self.payer()

        async def move(session: DatabaseSession) -> bool:
            owed = {"$elemMatch": {"id": promise_id, "task": return_payout.name}}
            where = {"_id": self.refund.goal_id, "promises": owed}
            if await Goal.get_motor_collection().find_one(where, {"_id": 1}, session=session) is None:
                raise NotPromisedError(f"goal {self.refund.goal_id} does not promise refund {self.refund.refund_id}")
            # Another run that took the wallet's last tokens would leave this one the debt, which has an id of its own.
            if await self._made(session):
                return False
            await self.move(payer, session)
            return True

        made: bool = await self.refund.context.ledger.transaction(move)
        return made

    async def _made(self, session: DatabaseSession | None) -> bool:
        made = {"_id": {"$in": list(self._ids)}}
        return await Transfer.get_motor_collection().find_one(made, {"_id": 1}, session=session) is not None

    async def move(self, payer: str, session: DatabaseSession, reference: str | None = None) -> None:
        """Within a transaction: makes the transfers of this share. The first of them has the caller's reference."""
        streamer = self.streamer
        accounts = Account.get_motor_collection()
        wallet = await accounts.find_one({"_id": user_account(streamer)}, session=session)
        from_wallet = max(min(self.amount, balance_in(wallet)), 0)
        own, as_debt = self._ids
        if from_wallet:
            await self._leg(own, user_account(streamer), payer, from_wallet, reference, session)
        if self.amount > from_wallet:
            owes = {"$set": {"owes": True}, "$setOnInsert": {"balance": 0}}
            await accounts.update_one({"_id": user_account(streamer)}, owes, upsert=True, session=session)
            owed, reference = self.amount - from_wallet, None if from_wallet else reference
            await self._leg(as_debt, debt_account(streamer), payer, owed, reference, session)

    async def payer(self) -> str:
        """Who paid, and receives it; raises NotFoundError."""
        doc_id = ObjectId(self.payout["metadata"]["doc_id"])
        earning = await Earning.get_motor_collection().find_one({"_id": doc_id}, {"from_user_id": 1})
        if earning is not None and (payer := user_id(earning.get("from_user_id"))) is not None:
            return payer
        goal = await Goal.by_id(doc_id)
        viewer = (goal.conditions.exclusive_to or goal.metadata.viewer_id) if goal is not None else None
        if viewer is None:
            raise NotFoundError(f"transfer {self.payout['_id']}: no earning and no viewer has the id {doc_id}")
        return viewer

    async def _leg(
        self, transfer_id: str, account: str, payer: str, amount: int, reference: str | None, session: DatabaseSession
    ) -> None:
        debt, refund = account.startswith("debt:"), self.refund
        told = {"transfer_id": self.payout["_id"], "refund_id": refund.refund_id, "reason": refund.reason}
        order = Order(
            transfer_id=transfer_id,
            debit=account,
            credit=user_account(payer),
            amount=amount,
            tags=["goal_refund", f"goal::{refund.goal_id}", *([f"debt::{self.streamer}"] if debt else [])],
            metadata={**refund.metadata, **told},
            from_user_id=None if debt else self.streamer,
            to_user_id=payer,
            cause=refund.cause,
            overdraft=debt,
            reference=reference,
            account=user_account(self.streamer),
            event="debt.created" if debt else "goal.refunded.individual",
        )
        await move_within(order, refund.now, session)
