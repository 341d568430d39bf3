"""Reports: the audit of the books and their seals."""

from datetime import datetime
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field

from goalsvc.actions import books
from goalsvc.api.dependencies import ContextOf, PagingOf
from goalsvc.api.errors import responses
from goalsvc.api.operation import operations, requires
from goalsvc.api.views import Page
from goalsvc.domain.call import Scope
from goalsvc.models.paging import page_of
from goalsvc.models.seal import Seal

router = operations("/v1/reports", "Reports")


class FindingView(BaseModel):
    """Something that is wrong in the books."""

    code: str = Field(examples=["escrow_stuck"])
    id: str = Field(description="The document.", examples=["escrow:show_funding:68143584d6945d32e732cc21"])
    message: str = Field(
        examples=["escrow:show_funding:68143584d6945d32e732cc21 holds 5 tokens; goal … has ended, and nothing names it"]
    )


class AuditView(BaseModel):
    """What an audit of the books found."""

    ok: bool = Field(description="Whether nothing is wrong.")
    at: datetime
    accounts: int
    transfers: int
    escrows_held: int = Field(description="Escrows that hold tokens.")
    earnings: int
    days_sealed: int
    imbalance: int = Field(description="By how many tokens all accounts together differ from 0.")
    stuck: int = Field(description="Escrows that hold tokens which nothing will free.")
    wrong: int = Field(description="How many findings there are.")
    findings: list[FindingView] = Field(description="The first 1,000 of them.")


class SealView(BaseModel):
    """The seal of one closed day."""

    id: str = Field(description="The day (UTC).", examples=["2026-03-01"])
    previous: str = Field(description="The hash of the day before.")
    hash: str = Field(description="SHA-256 over the hash of the day before and the day's transfers.")
    transfers: int
    key_id: str = Field(description="With which key it was signed.", examples=["9f86d081884c7d65"])
    signature: str
    sealed_at: datetime

    @classmethod
    def of(cls, seal: Seal) -> "SealView":
        """The view of that seal."""
        return cls.model_validate(seal.model_dump(include=set(cls.model_fields)))


@router.get("/audit", summary="Audit the books", responses=responses(401, 403, 503))
async def audit_the_books(context: ContextOf) -> AuditView:
    """Reads all accounts, transfers, escrows, earnings and seals from one snapshot, and lists what is wrong.

    All accounts sum to 0; each balance is the sum of its transfers; each escrow above 0 has an active goal, a promise or a
    dead letter; only the issuer and debts are negative; the states of earnings agree with their transfers. The figures are kept
    as those of the last audit, which the metrics show.
    """
    return AuditView.model_validate((await books.audit_now(context)).document())


@router.post("/seals", status_code=201, summary="Seal the closed days", responses=responses(401, 403, 409, 422, 503))
@requires(Scope.ADMIN)
async def seal_the_days(context: ContextOf) -> list[SealView]:
    """Seals each day (UTC) that ended more than an hour ago and is not sealed yet; the seals that were made."""
    return [SealView.of(seal) for seal in await books.seal_closed_days(context)]


@router.get("/seals", summary="List seals", responses=responses(401, 403, 422, 503))
async def list_seals(
    paging: PagingOf, since: Annotated[str, Query(max_length=10, description="The first day.")] = ""
) -> Page[SealView]:
    """The seals in the order of their days."""
    rows = await page_of(Seal, {"_id": {"$gte": since}}, paging)
    return Page(items=[SealView.of(seal) for seal in rows.items], next=rows.next)
