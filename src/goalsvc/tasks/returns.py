"""Returning a payout: each share goes back to the user that it came from, once."""

from collections.abc import Mapping
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
from goalsvc.errors import NotFoundError, NotPromisedError, NotYetError
from goalsvc.models.events import of_goal
from goalsvc.models.goal import Goal
from goalsvc.models.ledger import move_within
from goalsvc.models.wallet import Account, Earning, Transfer, balance_in
from goalsvc.tasks.task import RetryPolicy, task

#: How many shares one run returns; the next run goes on.
_BATCH = 200


@task(retry=RetryPolicy(first_seconds=0.1), timeout=60)
async def return_payout(
    context: Context, *, goal_id: str, escrow_id: str, refund_id: str, amount: int, paid: int, reason: str
) -> Outcome:
    """Returns `amount` of the `paid` tokens to those who paid, in proportion, each share to the token and once."""
    promise = context.promise
    if promise is None:
        return Returned(Reason.NOT_PROMISED)
    identity = ObjectId(goal_id)
    made = before = 0
    async for payout in Transfer.paid_out(escrow_id):
        # Cut at the running sum, so that all shares together are the amount to the token.
        share = amount * (before + payout["amount"]) // paid - amount * before // paid
        before += payout["amount"]
        if share == 0:
            continue
        work = _Share(
            context=context,
            goal_id=identity,
            promise_id=promise.promise_id,
            refund_id=refund_id,
            payout=payout,
            share=share,
            reason=reason,
            now=context.clock.now(),
            cause=context.origin.cause.about(goal_id),
        )
        try:
            made += await work.make()
        except NotPromisedError:
            return Returned(Reason.NOT_PROMISED)
        if made == _BATCH:
            raise NotYetError("there are more shares to return", 0.0)
    goal = await Goal.by_id(identity)
    if goal is None:
        return Returned(Reason.UNKNOWN_GOAL)
    # Told also where an earlier run made the last share: that run may have been killed before it wrote the event.
    refund = {"id": refund_id, "amount": amount, "paid": paid, "reason": reason}
    told = of_goal(
        "goal.refunded",
        goal,
        context.clock.now(),
        context.origin.cause.about(goal_id),
        identity=f"{goal_id}:{refund_id}",
        refund=refund,
    )
    return Done(f"{amount} tokens" if made else "made before", events=(told,))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Share:
    context: Context
    goal_id: ObjectId
    promise_id: str
    refund_id: str
    payout: Mapping[str, Any]
    share: int
    reason: str
    now: datetime
    cause: Cause

    @property
    def _ids(self) -> tuple[str, str]:
        doc_id = self.payout["metadata"]["doc_id"]
        return f"return-{self.refund_id}-{doc_id}", f"return-debt-{self.refund_id}-{doc_id}"

    async def make(self) -> bool:
        """Makes the transfers of this share; whether that was done now."""
        if await Transfer.find_one({"_id": {"$in": list(self._ids)}}) is not None:
            return False
        payer = await self._payer()
        await self.context.ledger.transaction(lambda session: self._move(payer, session))
        return True

    async def _payer(self) -> str:
        doc_id = ObjectId(self.payout["metadata"]["doc_id"])
        earning = await Earning.get_motor_collection().find_one({"_id": doc_id}, {"from_user_id": 1})
        if earning is not None and (payer := user_id(earning.get("from_user_id"))) is not None:
            return payer
        goal = await Goal.by_id(doc_id)
        viewer = (goal.conditions.exclusive_to or goal.metadata.viewer_id) if goal is not None else None
        if viewer is None:
            raise NotFoundError(f"transfer {self.payout['_id']}: there is no earning and no viewer {doc_id}")
        return viewer

    async def _move(self, payer: str, session: DatabaseSession) -> None:
        where = {"_id": self.goal_id, "promises": {"$elemMatch": {"id": self.promise_id, "task": return_payout.name}}}
        if await Goal.get_motor_collection().find_one(where, {"_id": 1}, session=session) is None:
            raise NotPromisedError(f"goal {self.goal_id} does not promise refund {self.refund_id}")
        streamer = str(self.payout["to_user_id"])
        wallet = await Account.get_motor_collection().find_one({"_id": user_account(streamer)}, session=session)
        from_wallet = max(min(self.share, balance_in(wallet)), 0)
        own, as_debt = self._ids
        if from_wallet:
            await self._leg(own, user_account(streamer), payer, from_wallet, session)
        if self.share > from_wallet:
            owes = {"$set": {"owes": True}, "$setOnInsert": {"balance": 0}}
            where = {"_id": user_account(streamer)}
            await Account.get_motor_collection().update_one(where, owes, upsert=True, session=session)
            await self._leg(as_debt, debt_account(streamer), payer, self.share - from_wallet, session)

    async def _leg(self, transfer_id: str, account: str, payer: str, amount: int, session: DatabaseSession) -> None:
        debt = account.startswith("debt:")
        streamer = str(self.payout["to_user_id"])
        order = Order(
            transfer_id=transfer_id,
            debit=account,
            credit=user_account(payer),
            amount=amount,
            tags=["goal_refund", f"goal::{self.goal_id}", *([f"debt::{streamer}"] if debt else [])],
            metadata={"transfer_id": self.payout["_id"], "refund_id": self.refund_id, "reason": self.reason},
            from_user_id=None if debt else streamer,
            to_user_id=payer,
            cause=self.cause,
            overdraft=debt,
            event="debt.created" if debt else "goal.refunded.individual",
        )
        await move_within(order, self.now, session)
