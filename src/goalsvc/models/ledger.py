"""The ledger: makes transfers in double entry, all or nothing, each once.

A transfer takes tokens from one account and adds them to another, within one transaction; its id is its primary key, so the
same transfer is never made twice, and the sum of all accounts is always zero.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from prometheus_client import Counter
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError

from goalsvc.database_session import DatabaseSession
from goalsvc.domain.documents import RawDocument
from goalsvc.domain.escrow import FEES, ISSUER, Settlement, is_amount
from goalsvc.domain.orders import Order
from goalsvc.errors import (
    ConflictError,
    GoalsvcError,
    InsufficientFundsError,
    InvalidError,
    NotPromisedError,
    TransferConflictError,
    UnusableDocumentError,
)
from goalsvc.models.claims import verify_claims
from goalsvc.models.debts import repay_debts
from goalsvc.models.event_log import insert_events
from goalsvc.models.transfer_events import of_posted
from goalsvc.models.wallet import Account, Transfer, change_balances

T = TypeVar("T")


class Transactions(Protocol):
    """Runs work in a transaction (`goalsvc.models.database.Database`)."""

    async def transaction(self, work: Callable[[DatabaseSession], Awaitable[T]]) -> T:
        """Runs `work(session)`; all of it happens, or nothing."""
        ...


#: Orders that wait in the same line: shares that are settled the same way, or what one account pays.
_Line = Settlement | str


@dataclass(slots=True)
class _Waiting:
    """An order that stands in line."""

    order: Order
    now: datetime
    also: Callable[[DatabaseSession], Awaitable[None]] | None
    answer: "asyncio.Future[tuple[Transfer, bool]]"


#: How many transfers are made in one transaction.
LARGEST_BATCH = 128


#: The first words of transfer ids, which say what kind of movement it is.
_KINDS = frozenset(
    [
        "adjustment",
        "contribution",
        "deposit",
        "escrow",
        "fee",
        "hold",
        "refund",
        "repay",
        "reversal",
        "tip",
        "transfer",
        "withdrawal",
    ]
)
TOKENS = Counter("goalsvc_tokens_total", "Tokens that transfers moved.", ["kind"])


def count_tokens(transfer_id: str, amount: int) -> None:
    """Counts the tokens of a transfer that was made now, by the first word of its id."""
    kind = transfer_id.partition("-")[0]
    TOKENS.labels(kind if kind in _KINDS else "other").inc(amount)


class Ledger:
    """Makes transfers.

    Transfers from the same account cannot go side by side in the database, nor can the payouts of several escrows to one
    streamer. So the shares of all escrows that are settled the same way wait here in one line, and other transfers in a line
    for each account that pays; what waits together is made together: one transaction, one commit. Only if that fails is each
    account's part made by itself, and then each transfer, so that an order is never answered for what is wrong with another.
    """

    def __init__(self, database: Transactions) -> None:
        self._database = database
        self._lines: dict[_Line, list[_Waiting]] = {}
        self._serving: set[asyncio.Task[None]] = set()

    async def post(
        self, order: Order, now: datetime, also: Callable[[DatabaseSession], Awaitable[None]] | None = None
    ) -> tuple[Transfer, bool]:
        """Makes the transfer, and `also(session)` in the same transaction; the transfer, and whether it was made now.

        Raises InvalidError (an amount that is not above 0), InsufficientFundsError, TransferConflictError (the id is taken by
        another transfer), ConflictError `settled_otherwise`, LedgerBusyError, NotPromisedError (no promise covers the claim of
        the order); in each case nothing was changed.
        """
        if not is_amount(order.amount):
            raise InvalidError("amount", f"must be a whole number greater than 0, is {order.amount!r}")
        waiting = _Waiting(order, now, also, asyncio.get_running_loop().create_future())
        key: _Line = order.settlement or order.debit
        line = self._lines.get(key)
        if line is not None:
            line.append(waiting)
        else:
            self._lines[key] = [waiting]
            serving = asyncio.create_task(self._serve(key), name=f"ledger {order.debit}")
            self._serving.add(serving)
            serving.add_done_callback(self._serving.discard)
        return await waiting.answer

    async def transaction(self, work: Callable[[DatabaseSession], Awaitable[T]]) -> T:
        """Runs `work(session)` in a transaction; see `goalsvc.models.database.Database.transaction`."""
        return await self._database.transaction(work)

    async def _serve(self, key: "_Line") -> None:
        line = self._lines[key]
        try:
            while line:
                batch = line[:LARGEST_BATCH]
                del line[:LARGEST_BATCH]
                await self._make(batch)
        finally:
            del self._lines[key]

    async def _make(self, batch: Sequence[_Waiting]) -> None:
        """Makes all of these: together, else those of each account together, else each by itself."""
        if len(batch) == 1:
            await self._make_alone(batch[0])
        elif not await self._make_together(batch):
            parts = _by_debit(batch)
            for part in parts if len(parts) > 1 else [[waiting] for waiting in batch]:
                await self._make(part)

    async def _make_together(self, batch: Sequence[_Waiting]) -> bool:
        """Makes all of these in one transaction; False when that did not work, and then none of them was made."""
        transfers = [_transfer_of(waiting) for waiting in batch]
        try:
            await self._database.transaction(lambda session: _move(batch, transfers, session))
        except Exception:
            return False
        for waiting, transfer in zip(batch, transfers, strict=True):
            _answer(waiting, (transfer, True))
        return True

    async def _make_alone(self, waiting: _Waiting) -> None:
        transfer = _transfer_of(waiting)
        try:
            try:
                await self._database.transaction(lambda session: _move([waiting], [transfer], session))
            except (
                DuplicateKeyError, BulkWriteError, InsufficientFundsError, ConflictError, NotPromisedError,
                UnusableDocumentError,
            ) as error:  # fmt: skip
                # Made before? Then that is the answer, whatever the accounts say today.
                made = await Transfer.by_id(waiting.order.transfer_id)
                if made is None:
                    raise _refused_reference(waiting.order, error) from error
                if not waiting.order.same_as(made):
                    message = f"transfer {waiting.order.transfer_id} exists with other content"
                    raise TransferConflictError(message) from error
                _answer(waiting, (made, False))
            else:
                _answer(waiting, (transfer, True))
        except Exception as error:
            if not waiting.answer.done():
                waiting.answer.set_exception(error)


def _refused_reference(order: Order, error: Exception) -> Exception:
    """Returns what to raise for an order that the database refused: its reference is taken, or the error itself."""
    taken = isinstance(error, DuplicateKeyError | BulkWriteError) and order.reference is not None
    if not taken:
        return error
    return ConflictError("reference_used", f"reference: {order.reference!r} was used for {order.account} before")


def _answer(waiting: _Waiting, answer: tuple[Transfer, bool]) -> None:
    transfer, new = answer
    if new:
        count_tokens(transfer.id, transfer.amount)
    if not waiting.answer.done():
        waiting.answer.set_result(answer)


def _transfer_of(waiting: _Waiting) -> Transfer:
    order = waiting.order
    return Transfer(
        id=order.transfer_id,
        debit=order.debit,
        credit=order.credit,
        from_user_id=order.from_user_id,
        to_user_id=order.to_user_id,
        amount=order.amount,
        tags=list(order.tags),
        metadata=dict(order.metadata),
        created_at=waiting.now,
        cause=order.cause.document() or None,
        reference=order.reference,
        account=order.account if order.reference is not None else None,
    )


def _fee_of(waiting: _Waiting) -> Transfer:
    """Returns the transfer of an order's fee, made in the same transaction."""
    order = waiting.order
    return Transfer(
        id=f"fee-{order.transfer_id}",
        debit=order.debit,
        credit=FEES,
        amount=order.fee,
        tags=[*order.tags, "fee"],
        metadata={"transfer_id": order.transfer_id},
        created_at=waiting.now,
        cause=order.cause.document() or None,
    )


async def move_within(order: Order, now: datetime, session: DatabaseSession) -> Transfer:
    """Makes one transfer within a transaction that does more than that; see `Ledger.transaction`.

    Raises InsufficientFundsError, ConflictError, NotPromisedError: the transaction is then undone.
    """
    waiting = _Waiting(order, now, None, asyncio.get_running_loop().create_future())
    transfer = _transfer_of(waiting)
    await _move([waiting], [transfer], session)
    return transfer


async def _move(batch: Sequence[_Waiting], transfers: Sequence[Transfer], session: DatabaseSession) -> None:
    """Within a transaction: takes the tokens from the accounts that pay, and gives them where they go."""
    paying = {part[0].order.debit: part for part in _by_debit(batch)}
    fees = [_fee_of(waiting) for waiting in batch if waiting.order.fee]
    made = [*transfers, *fees]
    paid: dict[str, int] = {}
    received: dict[str, int] = {}
    for transfer in made:
        paid[transfer.debit] = paid.get(transfer.debit, 0) + transfer.amount
        received[transfer.credit] = received.get(transfer.credit, 0) + transfer.amount
    changes = [
        *(_debit(part, paid[debit]) for debit, part in sorted(paying.items())),
        *(
            UpdateOne({"_id": account}, {"$inc": {"balance": more}}, upsert=True)
            for account, more in sorted(received.items())
        ),
    ]
    written = await change_balances(changes, session)
    await verify_claims([waiting.order for waiting in batch], batch[0].now, session)
    if written < len(changes):
        # An account that receives is found or made; so it is one that pays. Of several, each is then tried by itself.
        debit = min(paid)
        raise await _refusal(paying[debit][0].order, paid[debit], session)
    await Transfer.insert_many(made, session=session)
    repayments = await repay_debts(transfers, batch[0].now, session)
    told = [
        *((waiting.order.event, transfer) for waiting, transfer in zip(batch, transfers, strict=True)),
        *(("fee.taken", fee) for fee in fees),
        *(("debt.repaid", repayment) for repayment in repayments),
    ]
    if events := [of_posted(type_, transfer) for type_, transfer in told if type_ is not None]:
        await insert_events(events, session)
    for waiting in batch:
        if waiting.also is not None:
            await waiting.also(session)


def _by_debit(batch: Sequence[_Waiting]) -> list[list[_Waiting]]:
    parts: dict[str, list[_Waiting]] = {}
    for waiting in batch:
        parts.setdefault(waiting.order.debit, []).append(waiting)
    return list(parts.values())


def _debit(part: Sequence[_Waiting], amount: int) -> UpdateOne:
    """The update that takes this amount for these orders, which one account pays."""
    order = part[0].order
    where: RawDocument = {"_id": order.debit}
    update: RawDocument = {"$inc": {"balance": -amount}}
    negative = order.debit == ISSUER or order.overdraft
    if not negative:
        where["balance"] = {"$gte": amount}
    if order.settlement is not None:
        where["settlement"] = {"$in": [None, order.settlement.value]}
        update["$set"] = {"settlement": order.settlement.value}
        to_users = sum(waiting.order.amount for waiting in part if waiting.order.to_user_id is not None)
        update["$inc"] |= {"shares_settled": len(part), "shares_amount": to_users}
    return UpdateOne(where, update, upsert=negative)


async def _refusal(order: Order, amount: int, session: DatabaseSession) -> GoalsvcError:
    """Why so much cannot be taken from that account."""
    account = await Account.find_one({"_id": order.debit}, session=session)
    if account and order.settlement and account.settlement not in (None, order.settlement):
        message = f"{order.debit} is being settled by {account.settlement.name.lower()}"
        return ConflictError("settled_otherwise", message)
    balance = account.balance if account else 0
    return InsufficientFundsError(f"{order.debit} holds {balance} tokens, {amount} are asked for")
