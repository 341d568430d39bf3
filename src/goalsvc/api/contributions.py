"""Contributions to FundingGoals: made, listed, and who contributed most."""

import base64
import json
from datetime import datetime
from typing import Annotated, Self

from bson import ObjectId
from fastapi import Query, Response
from pydantic import BaseModel, ConfigDict, Field

from goalsvc import actions
from goalsvc.actions.known import known_goal
from goalsvc.api.dependencies import FIRST_ID, ContextOf, Cursor, IdempotencyKey, IdText, Limit, PagingOf, UserIdText
from goalsvc.api.errors import responses
from goalsvc.api.instants import Instant
from goalsvc.api.operation import operations, repeated_by_the_ledger, requires
from goalsvc.api.views import Page
from goalsvc.domain.call import Scope
from goalsvc.domain.shown import shown
from goalsvc.errors import InvalidError
from goalsvc.models.paging import Order, between, page_of
from goalsvc.models.wallet import Earning

router = operations("/v1", "Goals")


class ContributionBody(BaseModel):
    """Tokens for a FundingGoal."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"user_id": "u-bob-2", "amount": 250}})

    user_id: UserIdText = Field(description="Who contributes.")
    amount: int = Field(gt=0, le=10**12, strict=True, description="Tokens.")
    cap: bool = Field(
        default=False,
        strict=True,
        description="Whether at most what is missing to the last level is taken; the rest stays in the wallet.",
    )


class ContributionView(BaseModel):
    """A contribution: the earning that it became, and the goal's progress."""

    id: str = Field(description="The earning's id.")
    goal_id: str = Field(description="The FundingGoal.")
    user_id: str = Field(description="The streamer.")
    from_user_id: str = Field(description="Who contributed.")
    amount: int = Field(description="Tokens that were taken.")
    surplus: int = Field(description="Tokens that were offered with `cap` and left in the wallet.")
    transfer_id: str = Field(description="The transfer from the viewer into the escrow.")
    created_at: datetime | None = Field(description="When it was made.")
    updated_at: datetime | None = Field(
        description="When it was made; `GET /v1/contributions` says when it was settled."
    )
    progress: int = Field(
        description="The goal's progress with this contribution; in a repeated answer, its progress now."
    )


class EarningView(BaseModel):
    """A contribution, as it is listed: what became of its tokens."""

    id: str = Field(description="Its id.", examples=["68143584d6945d32e732cc2a"])
    goal_id: str | None = Field(default=None, description="The FundingGoal.", examples=["68143584d6945d32e732cc21"])
    user_id: str = Field(description="The streamer.", examples=["u-alice-1"])
    from_user_id: str = Field(description="Who contributed.", examples=["u-bob-2"])
    amount: int = Field(description="Tokens.", examples=[250])
    transfer_id: str | None = Field(default=None, description="The transfer from the viewer into the escrow.")
    state: str | None = Field(
        default=None,
        description="`held`, `paid` or `refunded`; null where another service made it and it is not settled.",
    )
    settled_at: datetime | None = Field(default=None, description="When it was paid or refunded.")
    created_at: datetime | None = Field(default=None, description="When it was made.")
    updated_at: datetime | None = Field(default=None, description="When it was made, or settled.")

    @classmethod
    def of(cls, earning: Earning) -> Self:
        """The view of that earning."""
        fields: dict[str, object] = shown(earning)
        known = {name: fields.get(name) for name in cls.model_fields}
        updated = earning.settled_at or earning.created_at
        return cls.model_validate({**known, "id": str(earning.id), "updated_at": updated})


class Contributor(BaseModel):
    """A line of the leaderboard."""

    user_id: str = Field(description="Who contributed.", examples=["u-bob-2"])
    amount: int = Field(description="Tokens in all.", examples=[750])


@router.post(
    "/goals/{goal_id}/contributions",
    status_code=201,
    summary="Contribute to a FundingGoal",
    responses=responses(
        401,
        402,
        404,
        409,
        422,
        503,
        causes={
            402: "The viewer does not have that many tokens (`insufficient_funds`); nothing was moved.",
            409: "The goal is no FundingGoal (`wrong_goal_kind`), has ended or reached its target (`goal_inactive`), or the "
            "Idempotency-Key was used for another body (`transfer_conflict`).",
        },
    ),
)
@repeated_by_the_ledger
@requires(Scope.WRITE)
async def create_contribution(
    context: ContextOf, goal_id: IdText, body: ContributionBody, key: IdempotencyKey, response: Response
) -> ContributionView:
    """Debits the viewer's wallet, fills the escrow, writes the earning and raises progress: all of it, or nothing."""
    contributed = await actions.contribute(context, ObjectId(goal_id), body.user_id, body.amount, key, cap=body.cap)
    if not contributed.new:
        response.headers["Idempotent-Replayed"] = "true"
    made = contributed.made
    return ContributionView(
        id=made.earning_id,
        goal_id=goal_id,
        user_id=contributed.streamer,
        from_user_id=made.user_id,
        amount=made.amount,
        surplus=made.surplus,
        transfer_id=made.transfer_id,
        created_at=made.created_at,
        updated_at=made.created_at,
        progress=contributed.progress,
    )


@router.get("/contributions", summary="List contributions", responses=responses(401, 422, 503))
async def list_contributions(
    paging: PagingOf,
    goal_id: Annotated[IdText | None, Query(description="Only contributions to this goal.")] = None,
    user_id: Annotated[UserIdText | None, Query(description="Only contributions to this streamer.")] = None,
    from_user_id: Annotated[UserIdText | None, Query(description="Only contributions of this viewer.")] = None,
    begin: Annotated[Instant | None, Query(alias="from", description="Only those made at or after this.")] = None,
    end: Annotated[Instant | None, Query(alias="to", description="Only those made before this.")] = None,
) -> Page[EarningView]:
    """Contributions in the order of their ids, which is the order in which they were made; with `from` or `to`, in the order of
    `created_at`."""
    where: dict[str, object] = {"_id": {"$gt": FIRST_ID}}
    if goal_id is not None:
        where["goal_id"] = ObjectId(goal_id)
    where |= {name: user for name, user in (("user_id", user_id), ("from_user_id", from_user_id)) if user is not None}
    window = between(begin, end)
    if window:
        where["created_at"] = window
    return Page.of(await page_of(Earning, where, paging, by="created_at" if window else None), EarningView.of)


@router.get(
    "/goals/{goal_id}/contributions", summary="List a goal's contributions", responses=responses(401, 404, 422, 503)
)
async def list_goal_contributions(goal_id: IdText, paging: PagingOf) -> Page[EarningView]:
    """The contributions to that goal, in the order in which they were made."""
    await known_goal(ObjectId(goal_id))
    return Page.of(await page_of(Earning, {"goal_id": ObjectId(goal_id)}, paging), EarningView.of)


@router.get("/goals/{goal_id}/leaderboard", summary="Who contributed most", responses=responses(401, 404, 422, 503))
async def leaderboard(
    goal_id: IdText,
    limit: Limit = 50,
    cursor: Cursor = None,
    order: Annotated[Order, Query(description="`desc`: the highest first; `asc`: the lowest first.")] = Order.DESC,
) -> Page[Contributor]:
    """The contributors with what each gave in all, highest first; equals in order of user id, which `asc` reverses too."""
    await known_goal(ObjectId(goal_id))
    place = None if cursor is None else _place(cursor, order)
    best = await Earning.leaderboard(ObjectId(goal_id), limit + 1, place, highest_first=order is Order.DESC)
    lines = [Contributor(user_id=str(one["user_id"]), amount=one["amount"]) for one in best]
    following = _cursor(lines[limit - 1], order) if len(lines) > limit else None
    return Page(items=lines[:limit], next=following)


def _cursor(line: Contributor, order: Order) -> str:
    """The place of that line. The order is written only where it is not the usual one: cursors of before remain valid."""
    place: list[object] = [line.amount, line.user_id, *([order.value] if order is Order.ASC else [])]
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def _place(cursor: str, order: Order) -> tuple[int, str]:
    given = amount = user_id = None
    try:
        amount, user_id, *rest = json.loads(base64.urlsafe_b64decode(cursor))
        given = rest or [Order.DESC.value]
    except (ValueError, TypeError, RecursionError):
        pass
    if not isinstance(amount, int) or not isinstance(user_id, str) or abs(amount) >= 2**63 or "\0" in user_id:
        raise InvalidError("cursor", "is not one that this list gave out")
    if given != [order.value]:
        raise InvalidError("cursor", "is not one that this list gave out in this order")
    return amount, user_id
