"""Refunding a completed goal: its payout returns to those who paid, from the streamer's wallet, otherwise as a debt."""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from bson import ObjectId
from pymongo.errors import BulkWriteError, DuplicateKeyError

from goalsvc.actions.known import known_goal
from goalsvc.actions.money import NO_PARTICULARS, Particulars, refused_reference
from goalsvc.context import Context
from goalsvc.database_session import DatabaseSession
from goalsvc.domain.call import Call
from goalsvc.domain.escrow import exclusive_escrow, show_escrow, user_account
from goalsvc.domain.goals import GoalKind
from goalsvc.domain.ids import derived_id
from goalsvc.domain.reading import instant, mapping, whole, whole_part
from goalsvc.errors import ConflictError, LedgerBusyError
from goalsvc.models.goal import Goal
from goalsvc.models.promise import add_promises_stage, array_of, promise_expression
from goalsvc.models.session import Session
from goalsvc.models.wallet import Account, Transfer
from goalsvc.tasks.dispatch import enqueue_promises
from goalsvc.tasks.returns import (
    Refund,
    letter_of,
    promise_of,
    promised_refunds,
    refunds_promised,
    refunds_unmade,
    return_payout,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GoalRefund:
    """A refund that the goal promises; its transfers follow."""

    id: str
    goal_id: str
    amount: int
    returned: int
    """How many tokens of the payout are returned by now, with this refund."""
    paid: int
    """How many tokens were paid out."""
    created_at: datetime


async def refund_goal(
    context: Context,
    call: Call,
    goal_id: ObjectId,
    amount: int | None,
    reason: str,
    particulars: Particulars = NO_PARTICULARS,
) -> GoalRefund:
    """Promises to return the payout of a completed goal, whole or in part; a repeat of the call finds the same refund.

    A show and the FundingGoal that paid for it have one payout; what is returned of it is counted in the show. A reference is
    given to the refund's first transfer, which is then made with the promise. Raises NotFoundError, InvalidError, ConflictError
    `nothing_paid`, `payout_under_way`, `more_than_paid`, `reference_used`, and `conflict` while a dead letter holds an earlier
    refund; with a reference, LedgerBusyError while an earlier refund is being made.
    """
    named = goal_id
    metadata = particulars.checked()
    goal = await known_goal(goal_id)
    refund_id = str(call.object_id("refund"))
    escrow_id = await _escrow_of(goal)
    paid = await Transfer.paid_from(escrow_id) if escrow_id is not None else 0
    if escrow_id is None or paid == 0:
        raise ConflictError("nothing_paid", f"goal {goal_id} has paid nothing out")
    account = await Account.of_escrow(escrow_id)
    if account is not None and account.paying:
        raise ConflictError("payout_under_way", f"goal {goal_id} is being paid out: repeat this after that")
    goal = await _show_of(goal) or goal
    assert goal.id is not None  # noqa: S101 - it was read from the database
    goal_id = goal.id
    await _refuse_behind_a_dead_letter(goal, refund_id)
    before = whole_part((goal.model_extra or {}).get("returned")) or 0
    asked = paid - before if amount is None else amount
    promise_id = promise_of(refund_id)
    arguments: dict[str, object] = {
        "goal_id": str(goal_id),
        "escrow_id": escrow_id,
        "refund_id": refund_id,
        "amount": asked,
        "paid": paid,
        "reason": reason,
        **({"metadata": metadata} if metadata else {}),
    }
    now = context.clock.now()
    promise = promise_expression(promise_id, return_payout.name, {"$literal": arguments}, now, context.origin)
    returned = {"$ifNull": ["$returned", 0]}
    where = {
        "_id": goal_id,
        f"returns.{refund_id}": {"$exists": False},
        "$expr": {"$lte": [{"$add": [returned, asked]}, paid]},
    }
    stages = [
        {
            "$set": {
                "returned": {"$add": [returned, asked]},
                f"returns.{refund_id}": asked,
                f"returned_at.{refund_id}": now,
                "changed_at": now,
            }
        },
        add_promises_stage(array_of(promise)),
    ]
    changed: Goal | None = None
    if asked > 0 and particulars.reference is None:
        changed = await Goal.change(where, stages)
    elif asked > 0:
        refund = Refund(
            context=context,
            goal_id=goal_id,
            refund_id=refund_id,
            amount=asked,
            paid=paid,
            reason=reason,
            metadata=metadata,
            now=now,
            cause=context.origin.cause.about(str(goal_id)),
        )
        # Its first share is reckoned now, so that no other refund may be under way, or come in between.
        where |= {"promises.task": {"$ne": return_payout.name}, "returned": before or {"$in": [None, 0]}}
        if not refunds_promised(goal):
            changed = await _with_its_first_share(refund, escrow_id, where, stages, str(particulars.reference))
    if changed is None:
        goal = await known_goal(goal_id)
        extra = goal.model_extra or {}
        known = whole(mapping(extra.get("returns")).get(refund_id))
        if known is None:
            left = paid - (whole_part(extra.get("returned")) or 0)
            if particulars.reference is not None and 0 < asked <= left:
                raise await _held_up(user_account(goal.metadata.user_id), particulars.reference)
            raise ConflictError("more_than_paid", f"of {paid} tokens that were paid, {left} can still be returned")
        changed, asked = goal, known
    enqueue_promises(context, changed, [promise_id])
    extra = changed.model_extra or {}
    return GoalRefund(
        id=refund_id,
        goal_id=str(named),
        amount=asked,
        returned=whole_part(extra.get("returned")) or asked,
        paid=paid,
        created_at=instant(mapping(extra.get("returned_at")).get(refund_id)) or now,
    )


async def _refuse_behind_a_dead_letter(goal: Goal, refund_id: str) -> None:
    """Raises ConflictError `conflict` for a new refund while an earlier one, which must come first, has failed for good."""
    if refund_id in promised_refunds(goal):
        return
    promised = refunds_promised(goal)
    dead = [one for one in await refunds_unmade(goal) if promise_of(one) not in promised]
    if dead:
        message = (
            f"refund {dead[0]} of this goal was not made in full: redrive dead letter {letter_of(goal, dead[0])} first"
        )
        raise ConflictError("conflict", message)


async def _with_its_first_share(
    refund: Refund, escrow_id: str, where: Mapping[str, object], stages: Sequence[Mapping[str, object]], reference: str
) -> Goal | None:
    """Promises the refund and makes its first transfer, in one transaction, so that a reference is refused at once."""
    async with aclosing(refund.shares(escrow_id)) as shares:
        first = await anext(shares)
    payer = await first.payer()

    async def promise(session: DatabaseSession) -> Goal | None:
        changed = await Goal.change(where, stages, session=session)
        if changed is not None:
            await first.move(payer, session, reference)
        return changed

    try:
        changed: Goal | None = await refund.context.ledger.transaction(promise)
    except (BulkWriteError, DuplicateKeyError) as error:
        raise refused_reference(error, reference, user_account(first.streamer)) from error
    return changed


async def _held_up(account: str, reference: str) -> Exception:
    """Returns why a refund with that reference was not promised: another refund used it, or is only under way."""
    if await Transfer.find_one({"account": account, "reference": reference}) is not None:
        return ConflictError("reference_used", f"reference: {reference!r} was used for {account} before")
    return LedgerBusyError("another refund of this goal is being made; repeat this one with the same key")


async def _show_of(goal: Goal) -> Goal | None:
    """Returns the show that this FundingGoal paid for; None for a goal of another kind, or without such a show."""
    if goal.kind is not GoalKind.FUNDING or goal.id is None:
        return None
    session_id = goal.conditions.session_id
    session = await Session.by_id(session_id) if session_id is not None else None
    pairs = session.show_goal_pairs if session is not None else []
    paired = next((pair.show_goal for pair in pairs if pair.funding_goal == goal.id), None)
    return await Goal.by_id(paired or derived_id(goal.id, "show"))


async def _escrow_of(goal: Goal) -> str | None:
    """Returns the escrow that this goal was paid from; None for a goal that is not paid."""
    assert goal.id is not None  # noqa: S101 - it was read from the database
    if goal.kind is GoalKind.EXCLUSIVE:
        return exclusive_escrow(goal.id)
    if goal.kind is GoalKind.FUNDING:
        return show_escrow(goal.id)
    if goal.kind is not GoalKind.SHOW:
        return None
    session_id = goal.conditions.session_id
    session = await Session.by_id(session_id) if session_id is not None else None
    pair = session.pair_of_show(goal.id) if session is not None else None
    funding = pair.funding_goal if pair is not None and pair.funding_goal is not None else goal.metadata.funding_goal_id
    return show_escrow(funding) if funding is not None else None
