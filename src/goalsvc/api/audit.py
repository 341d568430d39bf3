"""The audit: who changed what, by which key."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal, Self

from fastapi import Query, Response
from pydantic import BaseModel, Field, ValidationError

from goalsvc.api.csv import csv_answer
from goalsvc.api.dependencies import PagingOf
from goalsvc.api.errors import responses
from goalsvc.api.instants import Instant
from goalsvc.api.operation import operations, requires
from goalsvc.api.views import Page
from goalsvc.domain.call import Scope
from goalsvc.models.audit import AuditEvent
from goalsvc.models.paging import Order, between, page_of

router = operations("/v1/audit", "Audit")


class AuditEventView(BaseModel):
    """One call that changed something."""

    id: str = Field(examples=["68143584d6945d32e732cc31"])
    at: datetime = Field(description="When it was answered.")
    key: str = Field(description="The name of the key.", examples=["env"])
    key_id: str | None = Field(default=None, examples=["key_68143584d6945d32e732cc30"])
    via: Literal["api", "console", "cli"] = Field(description="The door by which it came in.")
    on_behalf_of: str | None = Field(default=None, description="The person for whom it was made, where one is named.")
    operation: str = Field(description="The operation's id.", examples=["create_goal"])
    targets: list[str] = Field(description="The ids that its path names, and the id of what it created.")
    reason: str | None = Field(default=None, description="The reason that was given.")
    request_id: str = Field(description="The call's `X-Request-ID`.")
    outcome: str = Field(
        description="`done`; `failed` (a 5xx; the change may or may not have been made); `refused: …` with the code of a 403.",
        examples=["done"],
    )

    @classmethod
    def of(cls, event: AuditEvent) -> Self:
        """The view of that event."""
        fields = event.model_dump(include=set(cls.model_fields) - {"id"})
        return cls.model_validate({**fields, "id": str(event.id)})


@router.get(
    "",
    summary="List the audit",
    response_model=Page[AuditEventView],
    responses={
        200: {"content": {"text/csv": {"schema": {"type": "string"}}}},
        **responses(422, 503),
    },
)
@requires(Scope.ADMIN)
async def list_audit(
    paging: PagingOf,
    key: Annotated[str | None, Query(max_length=64, description="Only calls with the key of this name.")] = None,
    operation: Annotated[str | None, Query(max_length=64, description="Only calls of this operation.")] = None,
    target: Annotated[str | None, Query(max_length=512, description="Only calls that concern this id.")] = None,
    request_id: Annotated[str | None, Query(max_length=128, description="Only the call of this id.")] = None,
    begin: Annotated[Instant | None, Query(alias="from", description="Only calls at or after this.")] = None,
    end: Annotated[Instant | None, Query(alias="to", description="Only calls before this.")] = None,
    form: Annotated[
        Literal["json", "csv"],
        Query(alias="format", description="`csv`: all of it as one file, without pages."),
    ] = "json",
) -> Response | Page[AuditEventView]:
    """Every call that changed something, in order of time."""
    fields = {"key": key, "operation": operation, "targets": target, "request_id": request_id}
    where: dict[str, object] = {name: value for name, value in fields.items() if value is not None}
    if window := between(begin, end):
        where["at"] = window
    if form == "csv":
        return csv_answer("audit.csv", _rows(where, paging.order))
    return Page.of(await page_of(AuditEvent, where, paging, by="at"), AuditEventView.of)


_COLUMNS = tuple(AuditEventView.model_fields)


async def _rows(where: Mapping[str, object], order: Order) -> AsyncIterator[Sequence[object]]:
    direction = 1 if order is Order.ASC else -1
    yield _COLUMNS
    found = AuditEvent.get_motor_collection().find(where).sort([("at", direction), ("_id", direction)])
    async for document in found:
        try:
            view = AuditEventView.of(AuditEvent.model_validate(document)).model_dump(mode="json")
        except ValidationError:  # it is in no list, either
            continue
        yield [" ".join(value) if isinstance(value, list) else value for value in map(view.get, _COLUMNS)]
