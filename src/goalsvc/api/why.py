"""Explanations: why a transfer was made, and why a goal is not completed or not paid."""

from datetime import datetime
from typing import Annotated, Self

from bson import ObjectId
from fastapi import Path
from pydantic import BaseModel, Field

from goalsvc.api.dependencies import ContextOf, IdText
from goalsvc.api.errors import responses
from goalsvc.api.operation import operations
from goalsvc.domain.why import Why
from goalsvc.errors import NotFoundError
from goalsvc.models.why import explain_goal, explain_transfer

router = operations("/v1", "Explanations")


class LinkView(BaseModel):
    """One step of the chain."""

    kind: str = Field(
        description="`transfer`, `earning`, `goal`, `webhook`, `call`, `task`, `trace`; of a goal also `mark`, `promise`, "
        "`dead_letter`, `escrow`.",
        examples=["webhook"],
    )
    id: str = Field(examples=["5f0c1d9c8e7b6a5948372615"])
    text: str = Field(examples=["reported by a webhook about 2026-01-01 20:06:00 UTC"])
    at: datetime | None = Field(default=None, examples=["2026-01-01T20:06:00Z"])


class WhyView(BaseModel):
    """One sentence, and the chain from the effect to its cause."""

    sentence: str = Field(
        examples=["u-alice-1 received 250 tokens at 2026-01-01 20:07:00 UTC because the ShowGoal “Ukulele medley” …"]
    )
    chain: list[LinkView]

    @classmethod
    def of(cls, why: Why) -> Self:
        """The view of that answer."""
        chain = [LinkView(kind=link.kind, id=link.id, text=link.text, at=link.at) for link in why.chain]
        return cls(sentence=why.sentence, chain=chain)


@router.get("/transfers/{transfer_id:path}/why", summary="Why a transfer was made", responses=responses(404, 422, 503))
async def why_transfer(
    transfer_id: Annotated[
        str,
        Path(
            max_length=512, examples=["escrow-show_funding:68143584d6945d32e732cc21-68143584d6945d32e732cc2a-u-alice-1"]
        ),
    ],
) -> WhyView:
    """Answers from the documents themselves: also when the trace has expired."""
    why = await explain_transfer(transfer_id)
    if why is None:
        raise NotFoundError(f"there is no transfer {transfer_id}")
    return WhyView.of(why)


@router.get("/goals/{goal_id}/why-not", summary="Why a goal is not paid", responses=responses(404, 422, 503))
async def why_not(context: ContextOf, goal_id: IdText) -> WhyView:
    """What keeps the goal from being completed or settled: missing seconds or tokens, marks that did not count, open tasks."""
    why = await explain_goal(ObjectId(goal_id), context.clock.now())
    if why is None:
        raise NotFoundError(f"there is no goal {goal_id}")
    return WhyView.of(why)
