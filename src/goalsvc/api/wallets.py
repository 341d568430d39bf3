"""The wallet: deposits, balances, transfers."""

from typing import Annotated, Any

from fastapi import Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from goalsvc.api.dependencies import ContextOf, Cursor, IdempotencyKey, Limit, UserIdText, UserPath
from goalsvc.api.errors import responses
from goalsvc.api.operation import operations, repeated_by_the_ledger, requires
from goalsvc.api.views import BalanceView, Page, TransferView
from goalsvc.domain.call import Scope
from goalsvc.domain.escrow import ISSUER, escrow_account, tag_of, user_account
from goalsvc.domain.ids import key_digest
from goalsvc.errors import InvalidError
from goalsvc.models.events import of_order
from goalsvc.models.ledger import Order
from goalsvc.models.wallet import Account, Transfer

router = operations("/v1", "Wallet")

EscrowId = Annotated[
    str,
    Path(
        pattern=r"^(show_funding|trigger|exclusive):[0-9a-f]{24}$", examples=["show_funding:68143584d6945d32e732cc21"]
    ),
]


class DepositBody(BaseModel):
    """Tokens that come from outside."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"amount": 1500}})

    amount: int = Field(gt=0, le=10**12, strict=True, description="Tokens.")


@router.post(
    "/wallets/{user_id}/deposits", status_code=201, summary="Deposit tokens", responses=responses(401, 409, 422, 503)
)
@repeated_by_the_ledger
@requires(Scope.MONEY)
async def deposit(
    context: ContextOf, user_id: UserPath, body: DepositBody, key: IdempotencyKey, response: Response
) -> TransferView:
    """Adds tokens to a user's wallet, once for each Idempotency-Key."""
    order = Order(
        transfer_id=f"deposit-{user_id}-{key_digest(key)}",
        debit=ISSUER,
        credit=user_account(user_id),
        amount=body.amount,
        tags=["deposit"],
        to_user_id=user_id,
        cause=context.origin.cause,
    )
    now = context.clock.now()

    async def tell(session: Any) -> None:
        await context.events.write([of_order("deposit.created", order, now)], session)

    transfer, new = await context.ledger.post(order, now, tell)
    if not new:
        response.headers["Idempotent-Replayed"] = "true"
    return TransferView.of(transfer)


@router.get("/wallets/{user_id}", summary="Read a wallet", responses=responses(401, 422, 503))
async def read_wallet(user_id: UserPath) -> BalanceView:
    """How many tokens a user has."""
    return BalanceView(id=user_id, balance=await Account.balance_of(user_account(user_id)))


@router.get("/escrows/{escrow_id}", summary="Read an escrow", responses=responses(401, 422, 503))
async def read_escrow(escrow_id: EscrowId) -> BalanceView:
    """How many tokens an escrow holds."""
    return BalanceView(id=escrow_id, balance=await Account.balance_of(escrow_account(escrow_id)))


@router.get("/transfers", summary="List transfers", responses=responses(401, 422, 503))
async def list_transfers(
    user_id: Annotated[UserIdText | None, Query(description="Only transfers from or to this user.")] = None,
    escrow_id: Annotated[
        str | None, Query(max_length=128, description="Only transfers that concern this escrow.")
    ] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[TransferView]:
    """Transfers in the order of their ids."""
    if cursor is not None and "\0" in cursor:
        raise InvalidError("cursor", "is not one that this list gave out")
    where: dict[str, Any] = {"_id": {"$gt": ""}}
    if user_id is not None:
        where["$or"] = [{"from_user_id": user_id}, {"to_user_id": user_id}]
    if escrow_id is not None:
        where["tags"] = tag_of(escrow_id)
    if cursor is not None:
        where["_id"] = {"$gt": cursor}
    transfers = await Transfer.listed(where, "_id", limit + 1)
    following = transfers[limit - 1].id if len(transfers) > limit else None
    return Page(items=[TransferView.of(transfer) for transfer in transfers[:limit]], next=following)
