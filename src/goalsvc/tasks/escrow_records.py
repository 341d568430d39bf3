"""What the tasks that settle escrows have in common: figures, announcements, and what is left over."""

from collections.abc import Mapping
from datetime import datetime

from bson import ObjectId

from goalsvc.context import Context
from goalsvc.domain.documents import Stored
from goalsvc.domain.escrow import COMPLETED, REFUNDED, escrow_account, transfer_id_of
from goalsvc.domain.outcome import Done
from goalsvc.domain.promises import Promise, PromiseRef
from goalsvc.models.goal import Goal
from goalsvc.models.records import BiEscrow, DeadLetter
from goalsvc.models.wallet import Account
from goalsvc.signals.events import EscrowCompleted, EscrowRefunded, EscrowShareCompleted, EscrowShareRefunded
from goalsvc.tasks import dead_letters

#: The task that settles an escrow, by the event in which its shares end; also the id of its promise.
SETTLING = {COMPLETED: "escrow_out", REFUNDED: "refund_escrow"}


async def settled_of(
    escrow_id: str, event: str, earnings: list[Mapping[str, object]], payee: str | None
) -> frozenset[str]:
    """Returns the transfer ids of those of these shares that have been settled and announced."""
    shares = [transfer_id_of(event, escrow_id, str(one["_id"]), payee_of(one, payee)) for one in earnings]
    settled = BiEscrow.get_motor_collection().find({"_id": {"$in": shares}, "state": "settled"}, {"_id": 1})
    return frozenset([share["_id"] async for share in settled])


def payee_of(earning: Mapping[str, object], payee: str | None) -> str:
    """Returns to whom this earning goes: to the `payee` of a payout; in a refund, which has none, to whom it came from."""
    return payee if payee is not None else str(earning["from_user_id"])


async def write_bi(context: Context, escrow_id: str, event: str, metadata: Stored, state: str, *, asks: bool) -> bool:
    """Writes the share's figures, unless it is settled: it stays so when an old job is run again.

    If that is asked, whether this was news.
    """
    share = transfer_id_of(event, escrow_id, metadata["doc_id"], metadata["user_id"])
    run = str(ObjectId())
    fields = {
        "escrow_id": escrow_id,
        "doc_id": metadata["doc_id"],
        "user_id": metadata["user_id"],
        "event": event,
        "updated_at": context.clock.now(),
        "state": state,
        "run": run,
    }
    # A figure that a crash of the database undoes is written again.
    written = await BiEscrow.shared().change(
        share, {"state": {"$ne": "settled"}}, {"$set": fields}, upsert=True, wants_document=asks, lasting=False
    )
    return written is not None and written["run"] == run


def share_event(
    event: str, transfer_id: str, at: datetime, escrow_id: str, to_user_id: str, amount: int
) -> EscrowShareCompleted | EscrowShareRefunded:
    """Returns the signal of one share that has reached its user."""
    kind = EscrowShareCompleted if event == COMPLETED else EscrowShareRefunded
    return kind(
        event_id=transfer_id,
        at=at,
        escrow_id=escrow_id,
        to_user_id=to_user_id,
        amount=amount,
        transfer_id=transfer_id,
    )


async def all_announced(context: Context, account: Account, escrow_id: str, event: str, payee: str) -> Done:
    """Sends `escrow.completed` or `escrow.refunded` after the last share; fulfils the promise of all of them."""
    now = context.clock.now()
    if (promise := context.promise) is not None:
        await report_remainder(context, promise, escrow_id, account.shares_settled)
    report = await context.bus.send(
        context, all_settled(escrow_id, event, account.shares_settled, payee, now, account.shares_amount)
    )
    return Done("the last share", reports=(report,), fulfils=SETTLING[event])


def all_settled(
    escrow_id: str, event: str, shares: int, to_user_id: str | None, at: datetime, amount: int
) -> EscrowCompleted | EscrowRefunded:
    """Returns the signal that says that every share has been paid, or refunded."""
    if event == COMPLETED:
        return EscrowCompleted(
            event_id=f"{escrow_id}:{event}",
            at=at,
            escrow_id=escrow_id,
            shares=shares,
            to_user_id=to_user_id or "",
            amount=amount,
        )
    return EscrowRefunded(event_id=f"{escrow_id}:{event}", at=at, escrow_id=escrow_id, shares=shares)


async def report_remainder(context: Context, ref: PromiseRef, escrow_id: str, shares: int) -> int:
    """Writes a dead letter when the escrow is not empty after its last share; returns what is left."""
    remainder = await Account.balance_of(escrow_account(escrow_id))
    goal = await Goal.by_id(ref.document_id) if remainder else None
    promised = goal.promise(ref.promise_id) if goal is not None else None
    if promised is not None:
        what = (
            f"escrow_not_empty: {escrow_account(escrow_id)} holds {remainder} tokens after the last of {shares} shares"
        )
        await bury(context, ref, promised, what)
    return remainder


async def bury(context: Context, ref: PromiseRef, promised: Promise, reason: str, *, letter: str | None = None) -> None:
    """Writes a dead letter that runs the whole promised settlement again when it is redriven."""
    now = context.clock.now()
    await dead_letters.bury(
        context,
        DeadLetter(
            id=letter or str(ref),
            task=promised.task,
            arguments=dict(promised.arguments),
            reason=reason,
            at=now,
            tries=1,
            promise=str(ref),
            parent=context.origin.parent or None,
            cause=context.origin.cause.document(),
            goal_id=str(ref.document_id),
        ),
    )
