"""Dead letters: tasks that were tried for the last time; listed, and tried again."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Path, Query
from pydantic import BaseModel, Field

from goalsvc import actions
from goalsvc.api.dependencies import ContextOf, IdText, PagingOf
from goalsvc.api.errors import responses
from goalsvc.api.operation import CallOf, operations, requires
from goalsvc.api.views import Page, View
from goalsvc.domain.call import Scope
from goalsvc.domain.shown import shown
from goalsvc.models.dead_letter_groups import MOST_GROUPS, MOST_LETTERS, dead_letter_groups
from goalsvc.models.paging import page_of
from goalsvc.models.present_arguments import present_arguments
from goalsvc.models.records import DeadLetter

router = operations("/v1/dead-letters", "Dead letters")

LetterId = Annotated[str, Path(max_length=512, examples=["goals/68143584d6945d32e732cc21/StopRecord"])]


class DeadLetterView(BaseModel):
    """A task that was tried for the last time."""

    id: str
    task: str
    arguments: dict[str, object]
    reason: str = Field(description="The last error.")
    at: datetime
    tries: int
    state: Literal["dead", "redriven"]
    goal_id: str | None = None
    history: list[dict[str, object]] = Field(
        description="Every death: when, why, after how many tries, and with which `arguments` where those were others."
    )
    present_arguments: dict[str, object] | None = Field(
        default=None,
        description="The arguments with which its document promises the task now, where they are others than `arguments`: "
        "with these it is tried again.",
    )
    redriven_at: datetime | None = Field(default=None, description="When it was tried again.")
    redriven_key: str | None = Field(default=None, description="The name of the key of who tried it again.")
    created_at: datetime | None = Field(default=None, description="When the task was given up first.")
    updated_at: datetime | None = Field(default=None, description="When it was given up or tried again last.")

    @classmethod
    def of(cls, letter: DeadLetter, present: Mapping[str, Any] | None = None) -> "DeadLetterView":
        """The view of that letter; `present` are the arguments with which its task is promised now, where they differ."""
        fields: dict[str, Any] = {
            name: shown(value) for name, value in letter.model_dump(include=set(cls.model_fields)).items()
        }
        deaths = [death.get("at") for death in fields.get("history") or () if isinstance(death, dict)]
        created = next((at for at in deaths if at is not None), letter.at)
        times = {"created_at": created, "updated_at": letter.redriven_at or letter.at}
        return cls.model_validate({**fields, **times, "present_arguments": shown(present)})


@router.get("", summary="List dead letters", responses=responses(401, 422, 503))
async def list_dead_letters(
    paging: PagingOf,
    state: Annotated[Literal["dead", "redriven"] | None, Query(description="Only letters in this state.")] = None,
    task: Annotated[str | None, Query(max_length=64, description="Only letters of this task.")] = None,
    goal_id: Annotated[IdText | None, Query(description="Only letters about this goal.")] = None,
    identity: Annotated[
        str | None, Query(alias="id", max_length=512, description="Only the letter of this id.")
    ] = None,
) -> Page[DeadLetterView]:
    """Dead letters in the order in which they were given up last."""
    fields = {"state": state, "task": task, "goal_id": goal_id, "_id": identity}
    where: dict[str, object] = {name: value for name, value in fields.items() if value is not None}
    rows = await page_of(DeadLetter, where, paging, by="at")
    present = await present_arguments(rows.items)
    return Page.of(rows, lambda letter: DeadLetterView.of(letter, present.get(letter.id)))


class LetterGroupView(View):
    """Dead letters of one task with one code of the reason, as `POST /v1/redrives` tries them again."""

    task: str = Field(examples=["StopRecord"])
    code: str = Field(
        description="What their reason begins with, up to its first colon.", examples=["external_service"]
    )
    count: int = Field(examples=[240])


class LetterGroupsView(View):
    """The dead letters in groups."""

    items: list[LetterGroupView] = Field(description=f"The largest first; at most {MOST_GROUPS}.")
    truncated: bool = Field(
        description=f"Whether there are more groups, or more dead letters than are counted ({MOST_LETTERS:,})."
    )


@router.get("/groups", summary="Count dead letters in groups", responses=responses(401, 503))
async def group_dead_letters() -> LetterGroupsView:
    """How many letters are dead now, by task and by the code with which their reason begins."""
    return LetterGroupsView.model_validate(await dead_letter_groups())


@router.post(
    "/{letter_id:path}/redrive",
    summary="Try a dead letter again",
    responses=responses(401, 404, 409, 503, causes={409: "It has been tried again before (`already_redriven`)."}),
)
@requires(Scope.OPERATE)
async def redrive(
    context: ContextOf,
    call: CallOf,
    letter_id: LetterId,
) -> DeadLetterView:
    """Promises the task again, and enqueues it. Safe: what was done before is not done twice."""
    letter = await actions.redrive(context, call, letter_id)
    return DeadLetterView.of(letter, (await present_arguments([letter])).get(letter.id))
