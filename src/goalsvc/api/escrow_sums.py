"""An escrow in sums: what came in and went out, from whom and to whom, and what became of its contributions."""

from typing import Self

from pydantic import Field

from goalsvc.api.dependencies import Limit
from goalsvc.api.errors import responses
from goalsvc.api.operation import operations
from goalsvc.api.views import View
from goalsvc.api.wallets import EscrowId
from goalsvc.models.escrow_sums import EscrowSums, sums_of_escrow

router = operations("/v1/escrows", "Statements")


class PartyView(View):
    """An account that paid tokens into the escrow, or was paid by it."""

    account: str = Field(examples=["user:u-bob-2"])
    user_id: str | None = Field(description="Whose wallet it is; null for another account.", examples=["u-bob-2"])
    amount: int = Field(description="Tokens.", examples=[250])
    transfers: int = Field(examples=[1])


class SideView(View):
    """All that came in, or all that went out."""

    amount: int = Field(description="Tokens.", examples=[1000])
    transfers: int = Field(examples=[4])
    parties: int = Field(description="How many accounts paid, or were paid.", examples=[3])
    largest: list[PartyView] = Field(description="Those with the most tokens first; at most `limit`.")
    more: bool = Field(description="Whether there are more accounts than are listed.", examples=[False])


class SharesView(View):
    """What became of the contributions, in tokens."""

    held: int = Field(examples=[0])
    paid: int = Field(examples=[1000])
    refunded: int = Field(examples=[0])
    holds: bool = Field(description="Whether the escrow has what they say that it holds.", examples=[True])


class EscrowSumsView(View):
    """An escrow in sums. A sum that takes the database more than three seconds is null."""

    id: str = Field(examples=["show_funding:68143584d6945d32e732cc21"])
    balance: int = Field(description="Tokens that it holds now.", examples=[0])
    agrees: bool | None = Field(description="Whether what came in less what went out is the balance.", examples=[True])
    paid_in: SideView | None
    paid_out: SideView | None
    contributions: SharesView | None = Field(
        description="null also where there are none, or one says no state, as another service's does."
    )

    @classmethod
    def of(cls, escrow_id: str, sums: EscrowSums) -> Self:
        """The view of these sums."""
        return cls(
            id=escrow_id,
            balance=sums.balance,
            agrees=sums.agrees,
            paid_in=None if sums.paid_in is None else SideView.model_validate(sums.paid_in),
            paid_out=None if sums.paid_out is None else SideView.model_validate(sums.paid_out),
            contributions=None if sums.shares is None else SharesView.model_validate(sums.shares),
        )


@router.get("/{escrow_id}/sums", summary="Sum up an escrow", responses=responses(401, 422, 503))
async def read_escrow_sums(escrow_id: EscrowId, limit: Limit = 50) -> EscrowSumsView:
    """What came into an escrow and went out of it, summed by payer and payee, and its contributions by their state."""
    return EscrowSumsView.of(escrow_id, await sums_of_escrow(escrow_id, limit))
