"""Escrow: what viewers put in goes to the streamer, or back to them; every share once.

`escrow_out` and `refund_escrow` walk over the earnings of a show and enqueue one chain for each share. Their promise stays
in the goal until the last share is through, so what a crash or an emptied queue swallows is enqueued again; a share that
has been settled is passed over, and a transfer that has been made is not made twice.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from goalsvc.context import Context
from goalsvc.domain.escrow import COMPLETED, REFUNDED, Settlement, escrow_account, tag_of, transfer_id_of, user_account
from goalsvc.domain.origin import Origin
from goalsvc.domain.outcome import Done, Fulfils, Outcome, Reason, Returned
from goalsvc.domain.promises import Job
from goalsvc.domain.trace import follow_ups_of
from goalsvc.errors import NotFoundError
from goalsvc.models.goal import Goal
from goalsvc.models.ledger import Order
from goalsvc.models.records import BiEscrow
from goalsvc.models.wallet import Account, Earning
from goalsvc.signals.events import (
    EscrowCompleted,
    EscrowRefunded,
    EscrowShareCompleted,
    EscrowShareRefunded,
)
from goalsvc.tasks.task import RetryPolicy, Task, task

#: Tokens that come late are still paid out: `escrow_out` looks at earnings made up to so long after its `exp`.
LATE_EARNINGS = timedelta(hours=1)

#: How many shares are enqueued at a time, and how long the sweep leaves them alone.
_BATCH = 500
_UNDER_WAY = timedelta(seconds=20)
_FOR_EACH_SHARE = timedelta(milliseconds=20)

_LEDGER_RETRY = RetryPolicy(first_seconds=0.1)


# -- all shares of a show ---------------------------------------------------------------------------------------------


@task(timeout=60)
async def escrow_out(
    context: Context, *, escrow_id: str, user_id: str, nbf: datetime, exp: datetime, goal_id: str
) -> Outcome:
    """Pays every earning of the streamer that the escrow holds, made within [nbf, exp + 1 hour]."""
    earnings = Earning.stream(user_id, escrow_id, nbf, exp + LATE_EARNINGS)
    return await _settle_all(context, escrow_out, goal_id, escrow_id, COMPLETED, earnings, user_id)


@task(timeout=60)
async def refund_escrow(context: Context, *, escrow_id: str, user_id: str, goal_id: str) -> Outcome:
    """Gives every earning of the streamer that the escrow holds back to whom it came from."""
    earnings = Earning.stream(user_id, escrow_id)
    return await _settle_all(context, refund_escrow, goal_id, escrow_id, REFUNDED, earnings, None)


async def _settle_all(
    context: Context,
    settling: Task[Any],
    goal_id: str,
    escrow_id: str,
    event: str,
    earnings: AsyncIterator[Mapping[str, Any]],
    payee: str | None,
) -> Outcome:
    promise = f"goals/{goal_id}/{settling.name}"
    account: Account | None = None
    shares = outstanding = 0
    batch: list[Mapping[str, Any]] = []

    async def enqueue_batch() -> None:
        nonlocal outstanding
        some_settled = account is not None and account.shares_settled > 0
        settled = await _settled_of(escrow_id, event, batch, payee) if some_settled else frozenset[str]()
        for earning in batch:
            to_user_id = payee or str(earning["from_user_id"])
            share = transfer_id_of(event, escrow_id, str(earning["_id"]), to_user_id)
            if share not in settled:
                outstanding += 1
                context.queue.enqueue(_share_job(share, escrow_id, event, earning, to_user_id, promise, context.origin))
        await context.queue.flush()
        batch.clear()

    async for earning in earnings:
        shares += 1
        batch.append(earning)
        if len(batch) == _BATCH:
            account = account or await Account.of_escrow(escrow_id)
            await enqueue_batch()
    account = await Account.expect_shares(escrow_id, shares)
    await enqueue_batch()

    now = context.clock.now()
    if outstanding:
        await Goal.defer(ObjectId(goal_id), settling.name, now + _UNDER_WAY + shares * _FOR_EACH_SHARE)
        return Done(f"{shares} shares", fulfils=Fulfils.NONE_YET)
    # All are through already: this is a later run, after a crash before the end was announced.
    await Account.complete(escrow_id, now)
    report = await context.bus.send(context, _all_settled(escrow_id, event, shares, payee, now))
    return Done(f"{shares} shares", reports=(report,))


def _share_job(
    share: str,
    escrow_id: str,
    event: str,
    earning: Mapping[str, Any],
    to_user_id: str,
    promise: str,
    origin: Origin,
) -> Job:
    doc_id = str(earning["_id"])
    metadata = {"doc_id": doc_id, "user_id": to_user_id}
    first = update_bi_escrow.step(escrow_id=escrow_id, event=event, metadata=metadata)
    then = transfer_escrow.step(to_user_id=to_user_id, escrow_id=escrow_id, event=event, metadata=metadata)
    return Job(share, first["task"], first["arguments"], promise=promise, fulfils=False, origin=origin, then=(then,))


async def _settled_of(
    escrow_id: str, event: str, earnings: list[Mapping[str, Any]], payee: str | None
) -> frozenset[str]:
    shares = [transfer_id_of(event, escrow_id, str(e["_id"]), payee or str(e["from_user_id"])) for e in earnings]
    settled = BiEscrow.get_motor_collection().find({"_id": {"$in": shares}, "state": "settled"}, {"_id": 1})
    return frozenset([share["_id"] async for share in settled])


# -- one share --------------------------------------------------------------------------------------------------------


@task()
async def update_bi_escrow(context: Context, *, escrow_id: str, event: str, metadata: Mapping[str, Any]) -> Outcome:
    """Writes down, for analytics, that this share is being settled."""
    await _write_bi(context, escrow_id, event, metadata, "settling", asks=False)
    return Done()


async def _write_bi(
    context: Context, escrow_id: str, event: str, metadata: Mapping[str, Any], state: str, *, asks: bool
) -> bool:
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


@task()
async def transfer_escrow(
    context: Context, *, to_user_id: str, escrow_id: str, event: str, metadata: Mapping[str, Any]
) -> Outcome:
    """Settles one share: the chain `transfer`, then the signal that it is there.

    The amount is that of the earning `metadata.doc_id`, or `metadata.amount` where no earning stands behind it.
    """
    amount = metadata.get("amount")
    if amount is None:
        amount = await Earning.amount_of(ObjectId(metadata["doc_id"]))
        if amount is None:
            raise NotFoundError(f"there is no earning {metadata['doc_id']}")
    transfer_id = transfer_id_of(event, escrow_id, metadata["doc_id"], metadata["user_id"])
    move = transfer.step(
        transfer_id=transfer_id,
        from_user_id=None,
        to_user_id=to_user_id,
        amount=amount,
        tags=[tag_of(escrow_id)],
        metadata=dict(metadata),
    )
    tell = announce_escrow_share.step(
        transfer_id=transfer_id,
        to_user_id=to_user_id,
        escrow_id=escrow_id,
        amount=amount,
        event=event,
        metadata=dict(metadata),
    )
    return Done(f"{amount} tokens", then=(move, tell))


@task(retry=_LEDGER_RETRY)
async def transfer(
    context: Context,
    *,
    transfer_id: str,
    from_user_id: str | None,
    to_user_id: str,
    amount: int,
    tags: list[str],
    metadata: Mapping[str, Any] | None = None,
) -> Outcome:
    """Moves tokens, double entry, all or nothing. Without `from_user_id` the escrow named in the tags pays.

    The transfer id is the primary key: the same transfer again is a no-op, the same id with other content an error.
    """
    escrow_id = next((tag.removeprefix("escrow::") for tag in tags if tag.startswith("escrow::")), None)
    debit = user_account(from_user_id) if from_user_id is not None else escrow_account(escrow_id or "")
    by_shares = from_user_id is None and metadata is not None and "amount" not in metadata
    order = Order(
        transfer_id=transfer_id,
        debit=debit,
        credit=user_account(to_user_id),
        amount=amount,
        tags=tags,
        metadata=metadata or {},
        from_user_id=from_user_id,
        to_user_id=to_user_id,
        settlement=Settlement(transfer_id.partition("-")[0]) if by_shares else None,
        cause=context.origin.cause,
    )
    made, new = await context.ledger.post(order, context.clock.now())
    return Done(f"{amount} tokens to {made.credit}") if new else Returned(Reason.ALREADY_PAID)


@task()
async def announce_escrow_share(
    context: Context,
    *,
    transfer_id: str,
    to_user_id: str,
    escrow_id: str,
    amount: int,
    event: str,
    metadata: Mapping[str, Any],
) -> Outcome:
    """Sends `escrow.….individual`; then the share is through."""
    now = context.clock.now()
    individual = EscrowShareCompleted if event == COMPLETED else EscrowShareRefunded
    told = individual(
        event_id=transfer_id,
        at=now,
        escrow_id=escrow_id,
        to_user_id=to_user_id,
        amount=amount,
        transfer_id=transfer_id,
    )
    report = await context.bus.send(context, told)
    if "amount" in metadata:  # a share of its own, not one of many
        return Done(
            reports=(report, await context.bus.send(context, _all_settled(escrow_id, event, 1, to_user_id, now)))
        )
    announced = Done(reports=(report,))
    if report.failures:
        return announced  # to be tried again
    if any(follow_ups_of(announced, context.origin)):
        # What receivers owe is written down before the share counts as settled: nobody comes back to it then.
        return replace(
            announced, then=(conclude_escrow_share.step(escrow_id=escrow_id, event=event, metadata=metadata),)
        )
    concluded = await conclude_escrow_share(context, escrow_id=escrow_id, event=event, metadata=metadata)
    return replace(concluded, reports=(report, *concluded.reports)) if isinstance(concluded, Done) else announced


@task()
async def conclude_escrow_share(
    context: Context, *, escrow_id: str, event: str, metadata: Mapping[str, Any]
) -> Outcome:
    """Counts a share whose announcement is through; after the last sends `escrow.completed` or `escrow.refunded`, once."""
    if not await _write_bi(context, escrow_id, event, metadata, "settled", asks=True):
        return Returned(Reason.ALREADY_DONE)
    # What is counted are announcements, not transfers: a share that was transferred by a worker that died then is still
    # to be announced, and only the promise knows of it.
    now = context.clock.now()
    account = await Account.announced(escrow_id, now)
    if account is None:
        return Done()
    payee = metadata["user_id"]
    report = await context.bus.send(context, _all_settled(escrow_id, event, account.shares_settled, payee, now))
    settling = escrow_out if event == COMPLETED else refund_escrow
    return Done("the last share", reports=(report,), fulfils=settling.name)


def _all_settled(
    escrow_id: str, event: str, shares: int, to_user_id: str | None, at: datetime
) -> EscrowCompleted | EscrowRefunded:
    if event == COMPLETED:
        return EscrowCompleted(
            event_id=f"{escrow_id}:{event}", at=at, escrow_id=escrow_id, shares=shares, to_user_id=to_user_id or ""
        )
    return EscrowRefunded(event_id=f"{escrow_id}:{event}", at=at, escrow_id=escrow_id, shares=shares)


# -- escrow to escrow -------------------------------------------------------------------------------------------------


@task(retry=_LEDGER_RETRY)
async def hold_exclusive(
    context: Context, *, transfer_id: str, from_escrow_id: str, to_escrow_id: str, amount: int
) -> Outcome:
    """Makes the hold of an agreed request the escrow of its exclusive."""
    order = Order(
        transfer_id=transfer_id,
        debit=escrow_account(from_escrow_id),
        credit=escrow_account(to_escrow_id),
        amount=amount,
        tags=[tag_of(from_escrow_id), tag_of(to_escrow_id)],
        cause=context.origin.cause,
    )
    _, new = await context.ledger.post(order, context.clock.now())
    return Done(f"{amount} tokens to {order.credit}") if new else Returned(Reason.ALREADY_PAID)
