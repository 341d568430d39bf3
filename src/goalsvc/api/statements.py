"""Statements of wallets and escrows, and reports over all accounts and transfers."""

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from typing import Annotated, Literal, Self

from fastapi import Query, Response
from pydantic import BaseModel, Field

from goalsvc.api.csv import csv_answer
from goalsvc.api.dependencies import ContextOf, UserPath
from goalsvc.api.errors import responses
from goalsvc.api.instants import Instant
from goalsvc.api.operation import operations
from goalsvc.api.views import View
from goalsvc.api.wallets import EscrowId
from goalsvc.domain import books
from goalsvc.domain.escrow import debt_account, escrow_account, user_account
from goalsvc.domain.reading import instant, mapping, sequence, text, whole
from goalsvc.domain.shown import shown
from goalsvc.models import statement
from goalsvc.models.account_proof import proof_of
from goalsvc.models.book_audit import snapshot
from goalsvc.models.paging import check_period
from goalsvc.models.statement import Line
from goalsvc.models.wallet import Account

router = operations("/v1", "Statements")

From = Annotated[Instant | None, Query(alias="from", description="At or after this; absent: from the beginning.")]
To = Annotated[Instant | None, Query(alias="to", description="Before this; absent: until now.")]
Form = Annotated[Literal["json", "csv"], Query(alias="format", description="`csv`: all lines as one file, streamed.")]
Proved = Annotated[bool, Query(alias="proof", description="Whether to add the proof: the sum of all its transfers.")]
_CSV: dict[int | str, dict[str, object]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}


class LineView(BaseModel):
    """A transfer as the account sees it."""

    transfer_id: str = Field(examples=["deposit-u-bob-2-0f6b3c9d2a4e8f7061524334a1b2c3d4e5f60718"])
    at: datetime | None
    change: int = Field(description="What it added to the account; below 0: what it took.", examples=[-250])
    balance: int = Field(description="The balance after it.", examples=[1250])
    counterparty: str = Field(
        description="The other account.", examples=["escrow:show_funding:68143584d6945d32e732cc21"]
    )
    tags: list[str]
    reference: str | None = None
    cause: dict[str, object] | None = Field(default=None, description="What the transfer goes back to.")

    @classmethod
    def of(cls, line: Line) -> Self:
        """The view of that line."""
        transfer = line.transfer
        debit, credit = books.legs_of(transfer)
        return cls(
            transfer_id=str(transfer["_id"]),
            at=instant(transfer.get("created_at")),
            change=line.change,
            balance=line.balance,
            counterparty=debit if line.change > 0 else credit,
            tags=[str(tag) for tag in sequence(transfer.get("tags"))],
            reference=text(transfer.get("reference")),
            cause=shown(mapping(transfer.get("cause"))) or None,
        )


class ProofView(View):
    """The sum of all transfers of the account, of whatever time, against its balance."""

    transfers: int = Field(description="How many there are.", examples=[12])
    sum: int = Field(description="What they changed in all.", examples=[1500])
    balance: int = Field(description="What the account holds.", examples=[1500])
    holds: bool = Field(description="Whether the balance is the sum.", examples=[True])


class StatementView(BaseModel):
    """An account over a period: opening balance, lines, closing balance."""

    id: str = Field(description="The user or the escrow.", examples=["u-bob-2"])
    opening_balance: int
    lines: list[LineView]
    closing_balance: int
    debt: int = Field(default=0, description="What a user owes now, after a reversal: repaid first by the next income.")
    truncated: bool = Field(description="Whether there are more lines than are shown (5,000); CSV has all of them.")
    proof: ProofView | None = Field(
        default=None, description="With `proof=true`; null also when it takes the database more than three seconds."
    )


class KindView(BaseModel):
    """All accounts of one kind."""

    accounts: int
    balance: int = Field(description="Their sum.")


class BalancesView(BaseModel):
    """What all accounts hold, by kind; the sum is 0 when the books are right."""

    at: datetime
    kinds: dict[str, KindView] = Field(
        description="`user`, `escrow`, `payout` (pending withdrawals), `debt`, `fees`, `issuer`.",
        examples=[{"issuer": {"accounts": 1, "balance": -1500}, "user": {"accounts": 2, "balance": 1500}}],
    )
    sum: int


@router.get(
    "/wallets/{user_id}/statement",
    summary="Read the statement of a wallet",
    response_model=StatementView,
    responses={**_CSV, **responses(422, 503)},
)
async def wallet_statement(
    user_id: UserPath, begin: From = None, end: To = None, form: Form = "json", proved: Proved = False
) -> Response | StatementView:
    """The opening balance, each transfer with the balance after it and its cause, and the closing balance."""
    check_period(begin, end)
    account = user_account(user_id)
    if form == "csv":
        return csv_answer(f"statement-{user_id}.csv", _statement_rows(account, begin, end))
    debt = -await Account.balance_of(debt_account(user_id))
    return await _statement(user_id, account, begin, end, debt, proved=proved)


@router.get(
    "/escrows/{escrow_id}/statement",
    summary="Read the statement of an escrow",
    response_model=StatementView,
    responses={**_CSV, **responses(422, 503)},
)
async def escrow_statement(
    escrow_id: EscrowId, begin: From = None, end: To = None, form: Form = "json", proved: Proved = False
) -> Response | StatementView:
    """What came into an escrow and what left it, each with the balance after it and its cause."""
    check_period(begin, end)
    account = escrow_account(escrow_id)
    if form == "csv":
        return csv_answer(f"statement-{escrow_id.replace(':', '-')}.csv", _statement_rows(account, begin, end))
    return await _statement(escrow_id, account, begin, end, 0, proved=proved)


@router.get("/reports/balances", summary="Sum up all accounts", responses=responses(503))
async def report_balances(context: ContextOf) -> BalancesView:
    """How many accounts of each kind there are and what they hold together."""
    kinds = await statement.balances_by_kind()
    total = sum(kind["balance"] for kind in kinds.values())
    return BalancesView(
        at=context.clock.now(), kinds={name: KindView(**kind) for name, kind in kinds.items()}, sum=total
    )


@router.get(
    "/reports/transfers",
    summary="Export all transfers",
    response_class=Response,
    responses={**_CSV, **responses(422, 503)},
)
async def report_transfers(begin: From = None, end: To = None) -> Response:
    """Every transfer of a period as CSV, in order of time; streamed, of any length."""
    check_period(begin, end)
    return csv_answer("transfers.csv", _transfer_rows(begin, end))


async def _statement(
    name: str, account: str, begin: datetime | None, end: datetime | None, debt: int, *, proved: bool
) -> StatementView:
    found = await statement.statement_of(account, begin, end)
    proof = await proof_of(account) if proved else None
    return StatementView(
        id=name,
        opening_balance=found.opening,
        lines=[LineView.of(line) for line in found.lines],
        closing_balance=found.closing,
        debt=debt,
        truncated=found.truncated,
        proof=None if proof is None else ProofView.model_validate(proof),
    )


_CAUSE = ("goal_id", "event_id", "call", "key", "task", "happened_at")
_LINE = ("transfer_id", "at", "change", "balance", "counterparty", "tags", "reference")
_TRANSFER = ("transfer_id", "at", "debit", "credit", "amount", "tags", "reference")


async def _statement_rows(
    account: str, begin: datetime | None, end: datetime | None
) -> AsyncIterator[Iterable[object]]:
    yield (*_LINE, *_CAUSE)
    async with snapshot() as session:
        balance = await statement.opening_of(account, begin, session)
        yield ("opening balance", _text(begin), "", balance)
        async for line in statement.lines_of(account, begin, end, balance, session):
            balance = line.balance
            view = LineView.of(line)
            cells = (view.transfer_id, _text(view.at), view.change, view.balance, view.counterparty)
            yield (*cells, " ".join(view.tags), view.reference, *_cause_cells(view.cause))
        yield ("closing balance", _text(end), "", balance)


async def _transfer_rows(begin: datetime | None, end: datetime | None) -> AsyncIterator[Iterable[object]]:
    yield (*_TRANSFER, *_CAUSE)
    async for transfer in statement.transfers_between(begin, end):
        debit, credit = books.legs_of(transfer)
        tags = " ".join(str(tag) for tag in sequence(transfer.get("tags")))
        at = _text(instant(transfer.get("created_at")))
        cells = (transfer["_id"], at, debit, credit, whole(transfer.get("amount")), tags)
        yield (*cells, text(transfer.get("reference")), *_cause_cells(mapping(transfer.get("cause"))))


def _cause_cells(cause: Mapping[str, object] | None) -> list[object]:
    values = [(cause or {}).get(name) for name in _CAUSE]
    return [_text(value) if isinstance(value, datetime) else value for value in values]


def _text(at: datetime | None) -> str:
    return at.isoformat() if at is not None else ""
