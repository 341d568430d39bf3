"""Shares of an escrow, settled many at a time: one job, one transaction and one count for all of them.

What is done for each share is what its own chain does, `update_bi_escrow` → `transfer_escrow` → `transfer` →
`announce_escrow_share`, and the trace shows it so. A share that cannot be settled with the others gets a job with that chain.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import perf_counter

from bson import ObjectId

from goalsvc.context import Context
from goalsvc.domain.documents import Stored
from goalsvc.domain.escrow import transfer_id_of
from goalsvc.domain.events import Event
from goalsvc.domain.origin import Origin
from goalsvc.domain.outcome import Answer, Done, Outcome, Reason, Report, Returned
from goalsvc.domain.trace import Node, TracedFollowUp, follow_ups_of, node_of, segment_document, signal_node
from goalsvc.errors import NotPromisedError
from goalsvc.models.events import events_of
from goalsvc.models.goal import Goal
from goalsvc.models.wallet import Account, Earning, Transfer
from goalsvc.tasks import escrow, escrow_records
from goalsvc.tasks.arguments import FeeBps, SettlingEvent
from goalsvc.tasks.dispatch import enqueue_these
from goalsvc.tasks.escrow_orders import share_order
from goalsvc.tasks.task import task


@dataclass(slots=True)
class _Share:
    """One share on its way."""

    doc_id: str
    to_user_id: str
    transfer_id: str
    origin: Origin
    amount: int = 0
    moved: Answer | None = None
    reports: list[Report] = field(default_factory=list)

    @property
    def metadata(self) -> Stored:
        return {"doc_id": self.doc_id, "user_id": self.to_user_id}


@task(timeout=60, traced=False)
async def settle_shares(
    context: Context,
    *,
    escrow_id: str,
    event: SettlingEvent,
    shares: Sequence[tuple[str, str]],
    parent: str,
    fee_bps: FeeBps = 0,
) -> Outcome:
    """Settles these shares of one escrow, each `[earning id, user id]`. `parent` is the settlement's place in the trace."""
    at, begun = context.clock.now(), perf_counter()
    above = Origin.read(parent, context.origin.cause.document())
    all_shares = [
        _Share(
            doc_id, user, transfer_id_of(event, escrow_id, doc_id, user), above.of_task(escrow.update_bi_escrow.name)
        )
        for doc_id, user in shares
    ]
    if all_shares:  # what the end of all of them owes hangs under the last share, in this task's own segment
        all_shares[-1].origin = context.origin
    moved = await _move(context, escrow_id, event, all_shares, fee_bps)
    told = [share for share in moved if isinstance(share.moved, Done | Returned)]
    await _announce(context, escrow_id, event, told, at)
    settled = [share for share in told if not any(report.failures for report in share.reports)]
    outcome = await _conclude(context, escrow_id, event, settled)
    milliseconds = (perf_counter() - begun) * 1000 / max(1, len(all_shares))
    for share in told:
        _record(context, above, share, at, milliseconds)
    for share in all_shares:
        if share not in settled and share.moved != Returned(Reason.NOT_PROMISED):
            _settle_apart(context, escrow_id, event, share, above, fee_bps)
    return outcome


async def _move(
    context: Context, escrow_id: str, event: str, shares: Sequence[_Share], fee_bps: int
) -> Sequence[_Share]:
    """Makes the transfers that have not been made; the shares whose transfers are made, with their amounts."""
    ids = [ObjectId(share.doc_id) for share in shares if ObjectId.is_valid(share.doc_id)]
    found = Earning.get_motor_collection().find({"_id": {"$in": ids}}, {"amount": 1})
    amounts = {str(earning["_id"]): earning.get("amount") for earning in await found.to_list(None)}
    known = Transfer.get_motor_collection().find({"_id": {"$in": [share.transfer_id for share in shares]}}, {"_id": 1})
    made = {transfer["_id"] for transfer in await known.to_list(None)}

    async def move(share: _Share) -> None:
        try:
            order = share_order(
                context, escrow_id, event, share.to_user_id, amounts.get(share.doc_id), share.metadata, fee_bps
            )
            share.amount = order.amount if order.to_user_id is not None else 0
            if share.transfer_id in made:
                share.moved = Returned(Reason.ALREADY_PAID)
                return
            _, new = await context.ledger.post(order, context.clock.now())
        except NotPromisedError:
            share.moved = Returned(Reason.NOT_PROMISED)
        except Exception:
            share.moved = None  # its own job says why
        else:
            share.moved = Done(f"{order.amount} tokens to {order.credit}") if new else Returned(Reason.ALREADY_PAID)

    await asyncio.gather(*(move(share) for share in shares))
    return [share for share in shares if share.moved not in (None, Returned(Reason.NOT_PROMISED))]


async def _announce(context: Context, escrow_id: str, event: str, shares: Sequence[_Share], at: datetime) -> None:
    """Sends the signal of each share; events and what receivers owe are written before any of the shares counts as settled."""

    async def announce(share: _Share) -> None:
        told = escrow_records.share_event(event, share.transfer_id, at, escrow_id, share.to_user_id, share.amount)
        share.reports.append(await context.bus.send(context.within(share.origin), told))

    await asyncio.gather(*(announce(share) for share in shares))
    promise = context.promise
    goal_id = str(promise.document_id) if promise is not None else None
    owed: list[TracedFollowUp] = []
    events: list[Event] = []
    for share in shares:
        told_of = Done(reports=tuple(share.reports))
        owed += follow_ups_of(told_of, share.origin)
        events += events_of(told_of, context.origin.cause, goal_id)
    if events:
        await context.events.write(events)
    if owed and promise is not None:
        held = await Goal.add_promises(promise.document_id, owed, context.clock.now())
        enqueue_these(context, promise.collection, promise.document_id, held)


async def _conclude(context: Context, escrow_id: str, event: str, shares: Sequence[_Share]) -> Outcome:
    """Counts the shares; after the last of all sends `escrow.completed` or `escrow.refunded`, once."""
    news = await asyncio.gather(
        *(escrow_records.write_bi(context, escrow_id, event, share.metadata, "settled", asks=True) for share in shares)
    )
    if not any(news):
        return Returned(Reason.ALREADY_DONE)
    account = await Account.announced(escrow_id, context.clock.now(), sum(news))
    if account is None:
        return Done(f"{len(shares)} shares")
    last = shares[-1]
    outcome = await escrow_records.all_announced(context, account, escrow_id, event, last.to_user_id)
    last.reports += outcome.reports
    return outcome


def _settle_apart(context: Context, escrow_id: str, event: str, share: _Share, above: Origin, fee_bps: int) -> None:
    job = escrow.share_job(
        share.transfer_id, escrow_id, event, share.doc_id, share.to_user_id, str(context.promise), above, fee_bps
    )
    context.queue.enqueue(job)


def _record(context: Context, above: Origin, share: _Share, at: datetime, milliseconds: float) -> None:
    """Writes the trace of a share: its chain, as one segment."""
    told = Done(reports=tuple(share.reports))
    node = _node(escrow.announce_escrow_share.name, told, at, milliseconds, [signal_node(one) for one in share.reports])
    node = _node(escrow.transfer.name, share.moved or Done(), at, milliseconds, [node])
    node["refs"] = {"transfer": share.transfer_id, "amount": share.amount, "user": share.to_user_id}
    node = _node(escrow.transfer_escrow.name, Done(f"{share.amount} tokens"), at, milliseconds, [node])
    node = _node(escrow.update_bi_escrow.name, Done(), at, milliseconds, [node])
    promise = context.promise
    goal_id = str(promise.document_id) if promise is not None else None
    context.recorder.trace(segment_document(share.origin, goal_id, above.parent, at, node))


def _node(name: str, answer: Answer, at: datetime, milliseconds: float, children: Sequence[Node]) -> Node:
    return node_of("task", name, answer, at, milliseconds, children) | {"place": f"task/{name}"}
