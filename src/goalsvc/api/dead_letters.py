"""Dead letters: tasks that were tried for the last time; listed, and tried again."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Path, Query
from pydantic import BaseModel, Field

from goalsvc import actions
from goalsvc.api.dependencies import ContextOf, Cursor, Limit
from goalsvc.api.errors import responses
from goalsvc.api.operation import CallOf, operations, requires
from goalsvc.api.views import Page
from goalsvc.domain.call import Scope
from goalsvc.domain.shown import shown
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
    redriven_at: datetime | None = None

    @classmethod
    def of(cls, letter: DeadLetter) -> "DeadLetterView":
        """The view of that letter."""
        fields = letter.model_dump(include=set(cls.model_fields))
        return cls.model_validate({name: shown(value) for name, value in fields.items()})


@router.get("", summary="List dead letters", responses=responses(401, 422, 503))
async def list_dead_letters(
    state: Annotated[Literal["dead", "redriven"] | None, Query(description="Only letters in this state.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[DeadLetterView]:
    """Dead letters in the order of their ids."""
    where: dict[str, Any] = {"state": state} if state is not None else {}
    if cursor is not None:
        where["_id"] = {"$gt": cursor}
    letters = await DeadLetter.listed(where, "_id", limit + 1)
    following = letters[limit - 1].id if len(letters) > limit else None
    return Page(items=[DeadLetterView.of(letter) for letter in letters[:limit]], next=following)


@router.post("/{letter_id:path}/redrive", summary="Try a dead letter again", responses=responses(401, 404, 409, 503))
@requires(Scope.OPERATE)
async def redrive(
    context: ContextOf,
    call: CallOf,
    letter_id: Annotated[str, Path(max_length=512, examples=["goals/68143584d6945d32e732cc21/StopRecord"])],
) -> DeadLetterView:
    """Promises the task again, and enqueues it. Safe: what was done before is not done twice."""
    return DeadLetterView.of(await actions.redrive(context, call, letter_id))
