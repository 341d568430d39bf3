"""Dead letters: tasks that were tried for the last time; listed, and tried again."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Path, Query
from pydantic import BaseModel, Field

from goalsvc import actions
from goalsvc.api.dependencies import ContextOf, IdText, PagingOf
from goalsvc.api.errors import responses
from goalsvc.api.operation import CallOf, operations, requires
from goalsvc.api.views import Page
from goalsvc.domain.call import Scope
from goalsvc.domain.shown import shown
from goalsvc.models.paging import page_of
from goalsvc.models.records import DeadLetter

router = operations("/v1/dead-letters", "Dead letters")


class DeadLetterView(BaseModel):
    """A task that was tried for the last time."""

    id: str
    task: str
    arguments: dict[str, Any]
    reason: str = Field(description="The last error.")
    at: datetime
    tries: int
    state: Literal["dead", "redriven"]
    goal_id: str | None = None
    history: list[dict[str, Any]] = Field(description="Every death: when, why, after how many tries.")
    redriven_at: datetime | None = Field(default=None, description="When it was tried again.")
    created_at: datetime | None = Field(default=None, description="When the task was given up first.")
    updated_at: datetime | None = Field(default=None, description="When it was given up or tried again last.")

    @classmethod
    def of(cls, letter: DeadLetter) -> "DeadLetterView":
        """The view of that letter."""
        fields: dict[str, Any] = {
            name: shown(value) for name, value in letter.model_dump(include=set(cls.model_fields)).items()
        }
        deaths = [death.get("at") for death in fields.get("history") or () if isinstance(death, dict)]
        created = next((at for at in deaths if at is not None), letter.at)
        return cls.model_validate({**fields, "created_at": created, "updated_at": letter.redriven_at or letter.at})


@router.get("", summary="List dead letters", responses=responses(401, 422, 503))
async def list_dead_letters(
    paging: PagingOf,
    state: Annotated[Literal["dead", "redriven"] | None, Query(description="Only letters in this state.")] = None,
    task: Annotated[str | None, Query(max_length=64, description="Only letters of this task.")] = None,
    goal_id: Annotated[IdText | None, Query(description="Only letters about this goal.")] = None,
) -> Page[DeadLetterView]:
    """Dead letters in the order in which they were given up last."""
    fields = {"state": state, "task": task, "goal_id": goal_id}
    where: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
    return Page.of(await page_of(DeadLetter, where, paging, by="at"), DeadLetterView.of)


@router.post("/{letter_id:path}/redrive", summary="Try a dead letter again", responses=responses(401, 404, 409, 503))
@requires(Scope.OPERATE)
async def redrive(
    context: ContextOf,
    call: CallOf,
    letter_id: Annotated[str, Path(max_length=512, examples=["goals/68143584d6945d32e732cc21/StopRecord"])],
) -> DeadLetterView:
    """Promises the task again, and enqueues it. Safe: what was done before is not done twice."""
    return DeadLetterView.of(await actions.redrive(context, call, letter_id))
