"""Escrow: what viewers put in goes to the streamer, or back to them; every share once.

`escrow_out` and `refund_escrow` walk over the earnings of a show and enqueue one chain for each share. Their promise stays
in the goal until the last share is through, so what a crash or an emptied queue swallows is enqueued again; a share that
has been settled is passed over, and a transfer that has been made is not made twice. Each transfer checks, in its
transaction, that the promise is still there (`goalsvc.models.claims`).
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from goalsvc.context import Context, WorkerContext
from goalsvc.domain.escrow import (
    COMPLETED,
    REFUNDED,
    SETTLEMENT,
    escrow_account,
    fee_of,
    named_in,
    tag_of,
    transfer_id_of,
    user_account,
)
from goalsvc.domain.orders import Claim, Order
from goalsvc.domain.origin import Origin
from goalsvc.domain.outcome import Done, Fulfils, Outcome, Reason, Returned
from goalsvc.domain.promises import Job, PromiseRef
from goalsvc.domain.trace import follow_ups_of
from goalsvc.errors import (
    InvalidArgumentError,
    InvalidError,
    MissingArgumentError,
    NotFoundError,
    NotPromisedError,
    NotYetError,
)
from goalsvc.models.claims import check_amount
from goalsvc.models.events import events_of
from goalsvc.models.goal import Goal
from goalsvc.models.wallet import Account, Earning, Transfer
from goalsvc.tasks.arguments import DocumentId, FeeBps, SettlingEvent, ShareMetadata
from goalsvc.tasks.escrow_orders import order_of, share_of
from goalsvc.tasks.escrow_records import (
    all_announced,
    all_settled,
    bury,
    payee_of,
    report_remainder,
    settled_of,
    share_event,
    write_bi,
)
from goalsvc.tasks.settling import completed_after_all
from goalsvc.tasks.task import RetryPolicy, Task, task

#: How many shares one job settles.
_TOGETHER = 64
#: How many shares are enqueued at a time, and how long the sweep leaves them alone.
_BATCH = 500
_UNDER_WAY = timedelta(seconds=20)
_FOR_EACH_SHARE = timedelta(milliseconds=20)

#: The task that settles shares together; it is in `goalsvc.tasks.shares`, above this module.
SETTLE_SHARES = "settle_shares"
#: The task that promises a share of an exclusive; it is in `goalsvc.tasks.division`, above this module.
SETTLE_EXCLUSIVE = "settle_exclusive_share"

_LEDGER_RETRY = RetryPolicy(first_seconds=0.1)


# -- all shares of a show ---------------------------------------------------------------------------------------------


@task(timeout=60)
async def escrow_out(
    context: Context,
    *,
    escrow_id: str,
    user_id: str,
    nbf: datetime,
    exp: datetime,
    goal_id: DocumentId,
    fee_bps: FeeBps = 0,
) -> Outcome:
    """Pays every earning that the escrow holds to the streamer, whatever its date; `nbf` and `exp` are for analytics."""
    if not user_id:
        raise InvalidError("user_id", f"required: escrow {escrow_id} is the performer's")
    return await _settle_all(context, escrow_out, goal_id, escrow_id, COMPLETED, user_id, fee_bps)


@task(timeout=60)
async def refund_escrow(context: Context, *, escrow_id: str, user_id: str, goal_id: DocumentId) -> Outcome:
    """Returns every earning that the escrow holds to the user that it came from. `user_id` is the streamer, for analytics."""
    if await completed_after_all(context, goal_id):
        return Returned(Reason.TARGET_REACHED)
    return await _settle_all(context, refund_escrow, goal_id, escrow_id, REFUNDED, None, 0)


async def _settle_all(
    context: Context,
    settling: Task[Any],
    goal_id: str,
    escrow_id: str,
    event: str,
    payee: str | None,
    fee_bps: int,
) -> Outcome:
    ref = PromiseRef("goals", ObjectId(goal_id), settling.name)
    goal = await Goal.by_id(ref.document_id)
    promised = goal.promise(settling.name) if goal is not None else None
    if promised is None or promised.arguments.get("escrow_id") != escrow_id:
        return Returned(Reason.NOT_PROMISED)
    account = await Account.begin_settling(escrow_id)
    shares = outstanding = 0
    batch: list[Mapping[str, object]] = []

    async def enqueue_batch() -> None:
        nonlocal outstanding
        some_settled = account is not None and account.shares_settled > 0
        settled = await settled_of(escrow_id, event, batch, payee) if some_settled else frozenset[str]()
        left: list[list[str]] = []
        for earning in batch:
            doc_id, to_user_id = str(earning["_id"]), payee_of(earning, payee)
            if transfer_id_of(event, escrow_id, doc_id, to_user_id) not in settled:
                left.append([doc_id, to_user_id])
        outstanding += len(left)
        for begin in range(0, len(left), _TOGETHER):
            some = left[begin : begin + _TOGETHER]
            context.queue.enqueue(_shares_job(escrow_id, event, some, str(ref), context.origin, fee_bps))
        await context.queue.flush()
        batch.clear()

    async for earning in Earning.stream(escrow_id):
        try:
            _check_share(earning, payee)
        except InvalidError as error:
            await bury(context, ref, promised, error.message, letter=f"{ref}:{earning['_id']}")
            continue
        shares += 1
        batch.append(earning)
        if len(batch) == _BATCH:
            await enqueue_batch()
    account = await Account.expect_shares(escrow_id, shares)
    await enqueue_batch()

    now = context.clock.now()
    if outstanding:
        await Goal.defer(ref.document_id, settling.name, now + _UNDER_WAY + shares * _FOR_EACH_SHARE)
        return Done(f"{shares} shares", fulfils=Fulfils.NONE_YET)
    # All are through already: this is a later run, after a crash before the end was announced.
    await Account.complete(escrow_id, now)
    remainder = await report_remainder(context, ref, escrow_id, shares)
    if remainder and not shares:
        return Done(f"no shares, {remainder} tokens are left")
    account = await Account.of_escrow(escrow_id)
    amount = account.shares_amount if account is not None else 0
    report = await context.bus.send(context, all_settled(escrow_id, event, shares, payee, now, amount))
    return Done(f"{shares} shares", reports=(report,))


def _check_share(earning: Mapping[str, object], payee: str | None) -> None:
    """Raises InvalidError for an earning that cannot be settled; it concerns only itself."""
    if not isinstance(earning["_id"], ObjectId):
        raise InvalidError(f"earning {earning['_id']}: _id", "must be of type ObjectId")
    check_amount(earning)
    if payee is None and not isinstance(earning.get("from_user_id"), str):
        raise InvalidError(f"earning {earning['_id']}: from_user_id", "required for a refund")


def _shares_job(escrow_id: str, event: str, shares: list[list[str]], promise: str, origin: Origin, fee_bps: int) -> Job:
    """Returns the job that settles these shares together (`goalsvc.tasks.shares`)."""
    arguments = {"escrow_id": escrow_id, "event": event, "shares": shares, "parent": origin.parent, **_fee(fee_bps)}
    identity = f"shares-{SETTLEMENT[event].value}-{escrow_id}-{shares[0][0]}"
    return Job(identity, SETTLE_SHARES, arguments, promise=promise, fulfils=False, origin=origin)


def share_job(
    share: str,
    escrow_id: str,
    event: str,
    doc_id: str,
    to_user_id: str,
    promise: str,
    origin: Origin,
    fee_bps: int,
) -> Job:
    """Returns the job that settles one share by itself."""
    metadata = {"doc_id": doc_id, "user_id": to_user_id}
    first = update_bi_escrow.step(escrow_id=escrow_id, event=event, metadata=metadata)
    then = transfer_escrow.step(
        to_user_id=to_user_id, escrow_id=escrow_id, event=event, metadata=metadata, **_fee(fee_bps)
    )
    return Job(share, first["task"], first["arguments"], promise=promise, fulfils=False, origin=origin, then=(then,))


def _fee(fee_bps: int) -> Mapping[str, Any]:
    """The argument that says so, where a fee is taken; absent where none is."""
    return {"fee_bps": fee_bps} if fee_bps else {}


# -- one share --------------------------------------------------------------------------------------------------------


@task()
async def update_bi_escrow(
    context: Context, *, escrow_id: str, event: SettlingEvent, metadata: ShareMetadata
) -> Outcome:
    """Writes down, for analytics, that this share is being settled."""
    await write_bi(context, escrow_id, event, metadata, "settling", asks=False)
    return Done()


@task()
async def transfer_escrow(
    context: Context,
    *,
    to_user_id: str,
    escrow_id: str,
    event: SettlingEvent,
    metadata: ShareMetadata,
    fee_bps: FeeBps = 0,
) -> Outcome:
    """Settles one share: the chain `transfer`, then the signal that it is there.

    The amount is that of the earning `metadata.doc_id`, or `metadata.amount` where no earning stands behind it.
    """
    amount = metadata.get("amount")
    if amount is None:
        amount = await Earning.amount_of(ObjectId(metadata["doc_id"]))
        if amount is None:
            raise NotFoundError(f"there is no earning {metadata['doc_id']}")
    check_amount({"_id": metadata["doc_id"], "amount": amount})
    transfer_id = transfer_id_of(event, escrow_id, metadata["doc_id"], metadata["user_id"])
    move = transfer.step(
        transfer_id=transfer_id,
        from_user_id=None,
        to_user_id=to_user_id,
        amount=amount,
        tags=[tag_of(escrow_id)],
        metadata=dict(metadata),
        escrow_id=escrow_id,
        event=event,
        **_fee(fee_bps),
    )
    tell = announce_escrow_share.step(
        transfer_id=transfer_id,
        to_user_id=to_user_id,
        escrow_id=escrow_id,
        amount=amount - fee_of(amount, fee_bps),
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
    metadata: Mapping[str, object] | None = None,
    fee_bps: FeeBps = 0,
    escrow_id: str | None = None,
    event: str | None = None,
) -> Outcome:
    """Moves tokens, double entry, all or nothing. Without `from_user_id` the escrow pays: `escrow_id` and `event` say of
    which escrow this is a share, and whether it is paid or refunded; in jobs of version 0.1 the tags and the id say it.

    Of a payout, the platform's fee goes to the account `fees` in the same transaction. The transfer id is the primary key: the
    same transfer again is a no-op, the same id with other content an error. Moves nothing that no document promises.
    """
    if from_user_id is None and escrow_id is None:
        escrow_id, event = named_in(transfer_id, tags)
    debit = user_account(from_user_id) if from_user_id is not None else escrow_account(escrow_id or "")
    share = None
    if from_user_id is None and escrow_id is not None and event in SETTLEMENT:
        share = share_of(escrow_id, event, to_user_id, metadata or {}, alone=metadata is None or "amount" in metadata)
    order = order_of(
        context,
        transfer_id=transfer_id,
        debit=debit,
        from_user_id=from_user_id,
        to_user_id=to_user_id,
        amount=amount,
        tags=tags,
        metadata=metadata or {},
        share=share,
        fee_bps=fee_bps,
    )
    return await _post(context, order)


async def _post(context: Context, order: Order) -> Outcome:
    try:
        made, new = await context.ledger.post(order, context.clock.now())
    except NotPromisedError:
        return Returned(Reason.NOT_PROMISED)
    return Done(f"{made.amount} tokens to {made.credit}") if new else Returned(Reason.ALREADY_PAID)


@task()
async def announce_escrow_share(
    context: WorkerContext,
    *,
    transfer_id: str,
    to_user_id: str,
    escrow_id: str,
    amount: int,
    event: SettlingEvent,
    metadata: ShareMetadata,
) -> Outcome:
    """Sends `escrow.….individual`; then the share is through."""
    now = context.clock.now()
    told = share_event(event, transfer_id, now, escrow_id, to_user_id, amount)
    alone = "amount" in metadata  # a share of its own, not one of many
    if alone:
        await _check_exclusive(context, escrow_id)
    report = await context.bus.send(context, told)
    if alone:
        return Done(
            reports=(
                report,
                await context.bus.send(context, all_settled(escrow_id, event, 1, to_user_id, now, amount)),
            )
        )
    announced = Done(reports=(report,))
    if report.failures:
        return announced  # to be tried again
    # The event and what receivers owe are written before the share counts as settled: no job comes back to it then.
    if any(follow_ups_of(announced, context.origin)):
        conclude = conclude_escrow_share.step(escrow_id=escrow_id, event=event, metadata=metadata)
        return replace(announced, then=(conclude,))
    goal_id = str(context.promise.document_id) if context.promise is not None else None
    await context.events.write(list(events_of(announced, context.origin.cause, goal_id)))
    concluded = await conclude_escrow_share(context, escrow_id=escrow_id, event=event, metadata=metadata)
    return replace(concluded, reports=(report, *concluded.reports)) if isinstance(concluded, Done) else announced


@task()
async def conclude_escrow_share(
    context: Context, *, escrow_id: str, event: SettlingEvent, metadata: ShareMetadata
) -> Outcome:
    """Counts a share whose announcement is through; after the last sends `escrow.completed` or `escrow.refunded`, once."""
    if not await write_bi(context, escrow_id, event, metadata, "settled", asks=True):
        return Returned(Reason.ALREADY_DONE)
    # What is counted are announcements, not transfers: a share that was transferred by a worker that died then is still
    # to be announced, and only the promise knows of it.
    account = await Account.announced(escrow_id, context.clock.now())
    if account is None:
        return Done()
    return await all_announced(context, account, escrow_id, event, metadata["user_id"])


async def _check_exclusive(context: Context, escrow_id: str) -> None:
    """Writes a dead letter when an escrow that its goal divides is not empty after the last of these shares."""
    promise = context.promise
    if promise is None or not await Account.balance_of(escrow_account(escrow_id)):
        return
    goal = await Goal.by_id(promise.document_id)
    promises = goal.promises if goal is not None else []
    if any(each.task == SETTLE_EXCLUSIVE for each in promises):
        raise NotYetError(f"what is left in {escrow_id} may be the other user's share", 1.0)
    shares = [each for each in promises if each.task == transfer_escrow.name]
    for share in shares:
        due = _transfer_of(share.arguments, escrow_id)
        if due is not None and await Transfer.by_id(due) is None:
            return  # its own run looks once more
    await report_remainder(context, promise, escrow_id, len(shares))


def _transfer_of(arguments: Mapping[str, object], escrow_id: str) -> str | None:
    """Returns the id of the transfer that a promise of a share with these arguments makes; None where they cannot be read."""
    try:
        read: Mapping[str, Any] = transfer_escrow.arguments_from(arguments)
    except (MissingArgumentError, InvalidArgumentError):
        return None  # it becomes a dead letter of its own
    return transfer_id_of(read["event"], escrow_id, read["metadata"]["doc_id"], read["metadata"]["user_id"])


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
        claim=Claim(promise=context.promise),
        cause=context.origin.cause,
        event="hold.moved",
    )
    return await _post(context, order)
