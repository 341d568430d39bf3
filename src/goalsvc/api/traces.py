"""The trace of a goal."""

from typing import Annotated

from bson import ObjectId
from fastapi import Query
from pydantic import BaseModel, Field

from goalsvc.actions.known import known_goal
from goalsvc.api.dependencies import Cursor, IdText
from goalsvc.api.errors import responses
from goalsvc.api.operation import CallOf, operations
from goalsvc.domain.call import Scope
from goalsvc.models.trace_reading import TraceCursor, read_page, summary_of

router = operations("/v1/goals", "Goals")


class TraceSummary(BaseModel):
    """What the whole trace holds, on this page and on all others."""

    nodes: int = Field(examples=[42])
    transfers: int = Field(description="How many of them made a transfer.", examples=[3])
    failures: int = Field(examples=[0])


class TraceView(BaseModel):
    """Everything that happened to a goal: webhooks, calls and other causes, signals, receivers, tasks, as trees."""

    events: list[dict[str, object]] = Field(
        description="Each node: `kind` (webhook, call, signal, receiver, task), `name`, `sender`?, `outcome` (done, returned, "
        "failed), `reason`?, `refs`?, `at`, `ms`, `children`. A root also has its `id`, and what is known of the webhook or "
        "call."
    )
    next: str | None = None
    truncated: bool = Field(default=False, description="Whether the last root goes on on the next page.")
    summary: TraceSummary


@router.get("/{goal_id}/trace", summary="What happened to a goal", responses=responses(401, 404, 422, 503))
async def trace(
    call: CallOf,
    goal_id: IdText,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=200, description="How many roots at most.")] = 100,
) -> TraceView:
    """Which signals went to which receivers, what each answered and why, and which tasks followed, to the last transfer.

    Paged by root. A root with more than 2,000 segments goes on on the next page, where it is repeated with the rest.
    """
    await known_goal(ObjectId(goal_id))
    own_id = str(ObjectId(goal_id))
    page = await read_page(own_id, TraceCursor.parse(cursor) if cursor is not None else None, limit)
    if Scope.READ_PAYLOAD not in call.caller.scopes:
        for node in page.events:
            node.pop("body", None)
    following = str(page.next) if page.next is not None else None
    summary = TraceSummary(**await summary_of(own_id))
    return TraceView(events=list(page.events), next=following, truncated=page.truncated, summary=summary)
