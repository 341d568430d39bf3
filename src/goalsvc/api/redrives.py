"""Redrives: groups of dead letters that are tried again, each an object with its progress."""

from datetime import datetime
from typing import Annotated, Self

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from goalsvc.actions.dead_letters import known_redrive, redrive_group
from goalsvc.api.dependencies import ContextOf, IdText, PagingOf
from goalsvc.api.errors import responses
from goalsvc.api.operation import CallOf, operations, requires
from goalsvc.api.views import Page
from goalsvc.domain.call import Scope
from goalsvc.models.paging import page_of
from goalsvc.models.redrive import MOST_COUNTED, Group, Redrive

router = operations("/v1/redrives", "Dead letters")

RedriveId = Annotated[
    str, Path(max_length=64, pattern=r"^rdr_[0-9a-f]{24}$", examples=["rdr_68143584d6945d32e732cc40"])
]
_LONGEST = 64
#: A word of a filter; it is compared, never run.
Word = Annotated[str, Field(min_length=1, max_length=_LONGEST, pattern=r"^[^\x00]+$")]


class RedriveBody(BaseModel):
    """Which dead letters are to be tried again; without a filter, all that are dead."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"task": "StopRecord", "code": "external_service", "reason": "BytePlus is back"}},
    )

    task: Word | None = Field(default=None, description="Only letters of this task.")
    code: Word | None = Field(
        default=None, description="Only letters whose reason begins with this code, up to its first colon."
    )
    goal_id: IdText | None = Field(default=None, description="Only letters about this goal.")
    limit: int | None = Field(
        default=None, ge=1, le=MOST_COUNTED, description="At most so many letters; absent: all that are dead now."
    )
    reason: str | None = Field(default=None, max_length=1000, description="Why, for the audit and for other operators.")


class FailureView(BaseModel):
    """A dead letter that could not be tried again."""

    letter_id: str = Field(examples=["goals/68143584d6945d32e732cc21/StopRecord"])
    reason: str = Field(description="Why not.")


class OthersView(BaseModel):
    """Letters of the group that others tried again meanwhile."""

    redrive_id: str | None = Field(default=None, description="The redrive that did; null: one by one.")
    key: str | None = Field(default=None, description="The name of the key.")
    letters: int


class RedriveView(BaseModel):
    """A group of dead letters that is tried again, and how far that has come."""

    id: str = Field(examples=["rdr_68143584d6945d32e732cc40"])
    task: str | None = None
    code: str | None = None
    goal_id: str | None = None
    limit: int | None = None
    state: str = Field(
        description="`running` until the last letter was looked at, then `finished`.",
        json_schema_extra={"enum": ["running", "finished"]},
    )
    found: int = Field(description="How many letters were dead when it was asked for; of very many, a lower bound.")
    redriven: int = Field(description="How many it has tried again so far.")
    failed: int = Field(description="How many could not be tried again so far; they stay dead.")
    failures: list[FailureView] = Field(description="The first of those, with the reason; at most 100.")
    by_others: list[OthersView] = Field(
        description="Letters that others tried again while it ran. A list has them as of the end of the redrive."
    )
    key: str = Field(description="The name of the key that asked for it.", examples=["env"])
    reason: str | None = Field(default=None, description="Why, as was said.")
    created_at: datetime = Field(description="When it was asked for. Letters that died later are not in it.")
    updated_at: datetime = Field(description="When it came further last.")
    finished_at: datetime | None = None

    @classmethod
    def of(cls, redrive: Redrive) -> Self:
        """The view of that redrive."""
        kept = {"id", "task", "code", "goal_id", "limit", "found", "redriven", "failed", "failures", "key", "reason"}
        times = {"created_at", "updated_at", "finished_at"}
        others = [
            {"redrive_id": one.get("by"), "key": one.get("key"), "letters": one.get("letters")}
            for one in redrive.by_others
        ]
        state = "running" if redrive.finished_at is None else "finished"
        return cls.model_validate({**redrive.model_dump(include=kept | times), "by_others": others, "state": state})


@router.post("", status_code=201, summary="Try a group of dead letters again", responses=responses(422, 503))
@requires(Scope.OPERATE)
async def redrive_dead_letters(context: ContextOf, call: CallOf, body: RedriveBody) -> RedriveView:
    """Begins to try all dead letters of a group again; a worker does it, and `GET /v1/redrives/{id}` says how far it is.

    Each letter is tried again once, also when two callers ask at the same time. One that cannot be tried again stays dead, is
    named, and holds up no other. Safe: what was done before is not done twice.
    """
    group = Group(body.task, body.code, body.goal_id)
    return RedriveView.of(await redrive_group(context, call, group, body.limit, body.reason))


@router.get("", summary="List redrives", responses=responses(422, 503))
async def list_redrives(paging: PagingOf) -> Page[RedriveView]:
    """Redrives in the order in which they were asked for. They are kept for 90 days."""
    return Page.of(await page_of(Redrive, {}, paging, by="created_at"), RedriveView.of)


@router.get("/{redrive_id}", summary="Read a redrive", responses=responses(404, 422, 503))
async def read_redrive(context: ContextOf, redrive_id: RedriveId) -> RedriveView:
    """How far the redrive has come, what could not be tried again, and what others did meanwhile."""
    redrive = await known_redrive(redrive_id)
    redrive.by_others = await redrive.others(context.clock.now())
    return RedriveView.of(redrive)
