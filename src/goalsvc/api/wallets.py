"""The wallet: deposits, balances, transfers."""

import asyncio
from typing import Annotated

from fastapi import Path, Query, Response
from pydantic import ConfigDict

from goalsvc.actions import money
from goalsvc.api.dependencies import ContextOf, IdempotencyKey, PagingOf, UserIdText, UserPath
from goalsvc.api.errors import responses
from goalsvc.api.instants import Instant
from goalsvc.api.money import Amount, ParticularsBody
from goalsvc.api.operation import operations, repeated_by_the_ledger, requires, with_etag
from goalsvc.api.views import BalanceView, Page, TransferView
from goalsvc.domain.call import Scope
from goalsvc.domain.escrow import escrow_account, tag_of, user_account
from goalsvc.errors import NotFoundError
from goalsvc.models.paging import between, page_of
from goalsvc.models.wallet import Account, Transfer

router = operations("/v1", "Wallet")

EscrowId = Annotated[
    str,
    Path(
        pattern=r"^(show_funding|trigger|exclusive):[0-9a-f]{24}$", examples=["show_funding:68143584d6945d32e732cc21"]
    ),
]


class DepositBody(ParticularsBody):
    """Tokens that come from outside."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"amount": 1500, "reference": "pi_3MtwBwLkdIwHu7ix28a3tqPa"}}
    )

    amount: Amount


@router.post(
    "/wallets/{user_id}/deposits",
    status_code=201,
    summary="Deposit tokens",
    responses=responses(
        401, 409, 422, 503, causes={409: "The Idempotency-Key was used for another body (`transfer_conflict`)."}
    ),
)
@repeated_by_the_ledger
@requires(Scope.MONEY)
async def deposit(
    context: ContextOf, user_id: UserPath, body: DepositBody, key: IdempotencyKey, response: Response
) -> TransferView:
    """Adds tokens to a user's wallet, once for each Idempotency-Key. `reference` is the payment provider's id."""
    transfer, new = await money.deposit(context, user_id, body.amount, key, body.particulars)
    if not new:
        response.headers["Idempotent-Replayed"] = "true"
    return TransferView.of(transfer)


async def _balance(identity: str, account_id: str) -> BalanceView:
    balance, (created, updated) = await asyncio.gather(Account.balance_of(account_id), Transfer.times_of(account_id))
    return BalanceView(id=identity, balance=balance, created_at=created, updated_at=updated)


@router.get("/wallets/{user_id}", summary="Read a wallet", responses=responses(401, 422, 503))
@with_etag
async def read_wallet(user_id: UserPath) -> BalanceView:
    """How many tokens a user has."""
    return await _balance(user_id, user_account(user_id))


@router.get("/escrows/{escrow_id}", summary="Read an escrow", responses=responses(401, 422, 503))
@with_etag
async def read_escrow(escrow_id: EscrowId) -> BalanceView:
    """How many tokens an escrow holds."""
    return await _balance(escrow_id, escrow_account(escrow_id))


@router.get("/transfers", summary="List transfers", responses=responses(401, 422, 503))
async def list_transfers(
    paging: PagingOf,
    user_id: Annotated[UserIdText | None, Query(description="Only transfers from or to this user.")] = None,
    escrow_id: Annotated[
        str | None, Query(max_length=128, description="Only transfers that concern this escrow.")
    ] = None,
    account: Annotated[
        str | None,
        Query(
            max_length=256,
            description="Only transfers to or from this account: `user:{user_id}`, `escrow:{escrow_id}`, `issuer`, `fees`, …",
        ),
    ] = None,
    reference: Annotated[str | None, Query(max_length=256, description="Only transfers with this reference.")] = None,
    event_id: Annotated[
        str | None,
        Query(
            max_length=128,
            description="Only transfers that this webhook event caused: `event_id` of their `cause`, and of the trace's root.",
        ),
    ] = None,
    begin: Annotated[Instant | None, Query(alias="from", description="Only those made at or after this.")] = None,
    end: Annotated[Instant | None, Query(alias="to", description="Only those made before this.")] = None,
) -> Page[TransferView]:
    """Transfers in the order in which they were made."""
    conditions: list[dict[str, object]] = []
    if user_id is not None:
        conditions.append({"$or": [{"from_user_id": user_id}, {"to_user_id": user_id}]})
    if account is not None:
        conditions.append({"$or": [{"debit": account}, {"credit": account}]})
    if escrow_id is not None:
        conditions.append({"tags": tag_of(escrow_id)})
    if reference is not None:
        conditions.append({"reference": reference})
    if event_id is not None:
        conditions.append({"cause.event_id": event_id})
    if window := between(begin, end):
        conditions.append({"created_at": window})
    where = {"$and": conditions} if conditions else {}
    return Page.of(await page_of(Transfer, where, paging, by="created_at"), TransferView.of)


@router.get("/transfers/{transfer_id}", summary="Read a transfer", responses=responses(401, 404, 422, 503))
async def read_transfer(transfer_id: Annotated[str, Path(max_length=512)]) -> TransferView:
    """The transfer of that id."""
    transfer = None if "\0" in transfer_id else await Transfer.by_id(transfer_id)
    if transfer is None:
        raise NotFoundError(f"there is no transfer {transfer_id}")
    return TransferView.of(transfer)
