"""Goals of all kinds: created, listed, read, changed, ended; requests agreed to or declined; the trace."""

import json
import re
from collections.abc import Mapping
from typing import Annotated

from bson import ObjectId
from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from goalsvc import actions
from goalsvc.actions import GoalPlan
from goalsvc.actions.change_goal import GoalChange
from goalsvc.actions.change_goal import change_goal as change
from goalsvc.actions.known import known_goal
from goalsvc.api.dependencies import FIRST_ID, ContextOf, IdText, PagingOf, UserIdText
from goalsvc.api.errors import responses
from goalsvc.api.goal_bodies import GoalPatch, NewGoal
from goalsvc.api.goal_views import AnyGoal, GoalView
from goalsvc.api.instants import Instant
from goalsvc.api.operation import (
    CallOf,
    KnownTags,
    ParameterFamily,
    operations,
    requires,
    tag_of,
    takes_parameters,
    with_etag,
)
from goalsvc.api.views import Page
from goalsvc.domain.call import Scope
from goalsvc.domain.goals import CLASSES, GoalKind
from goalsvc.errors import InvalidError
from goalsvc.models.filters import ACTIVE
from goalsvc.models.goal import Goal
from goalsvc.models.paging import between, page_of

router = operations("/v1/goals", "Goals")

#: How a goal is answered, byte by byte: its ETag is the digest of that.
_ANSWER: TypeAdapter[AnyGoal] = TypeAdapter(AnyGoal)

#: A filter by a field of the metadata, as in `metadata.campaign=winter`.
_METADATA = ParameterFamily(
    "metadata.",
    re.compile(r"metadata(\.[A-Za-z0-9_-]{1,64}){1,6}"),
    "must be `metadata` and 1 to 6 names, each after a dot and of 1 to 64 characters of A-Z a-z 0-9 _ -",
)


class AgreeBody(BaseModel):
    """Who agrees; the streamer if absent."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"user_id": "u-alice-1"}})

    user_id: UserIdText | None = Field(default=None, description="Who agrees; the streamer if absent.")


_CREATION = {
    402: "The viewer does not have the request's price (`insufficient_funds`); nothing was made.",
    404: "There is no such session (`not_found`).",
    409: "The session has ended (`session_ended`); an ExclusiveGoal: one goes on in the session (`exclusive_running`), "
    "or elsewhere for this viewer (`viewer_in_exclusive`) or this performer (`performer_in_exclusive`), or the "
    "viewer is the streamer (`self_payment`, also of a request with a price).",
}
_AGREED_NO_MORE = "The request was agreed to, declined or ended before (`goal_inactive`), or"
_AGREEMENT = {
    409: f"{_AGREED_NO_MORE} has expired (`goal_expired`); it is no TriggerGoal (`wrong_goal_kind`); the session has "
    "ended (`session_ended`); an exclusive goes on in the session (`exclusive_running`), or elsewhere for this viewer "
    "(`viewer_in_exclusive`) or this performer (`performer_in_exclusive`).",
}
_REFUSAL = {409: f"{_AGREED_NO_MORE} it is no TriggerGoal (`wrong_goal_kind`)."}


@router.post(
    "",
    status_code=201,
    summary="Create a goal",
    responses=responses(401, 402, 404, 409, 422, 503, causes=_CREATION),
)
@requires(Scope.WRITE)
async def create_goal(context: ContextOf, call: CallOf, body: NewGoal) -> AnyGoal:
    """Creates a goal of any kind in an open session. A TriggerGoal's price goes from the viewer into escrow at once."""
    plan = GoalPlan(
        kind=body.kind,
        session_id=ObjectId(body.session_id),
        levels=[level.model_dump() for level in body.levels],
        exp=body.exp,
        metadata=body.metadata.model_dump(exclude_unset=True),
        exclusive_to=body.conditions.exclusive_to,
        fee_bps=body.fee_bps,
    )
    return _shown(await actions.create_goal(context, call, plan))


def _shown(goal: Goal) -> AnyGoal:
    view: AnyGoal = GoalView.of(goal)
    return view


@router.get("", summary="List goals", responses=responses(401, 422, 503))
@takes_parameters(_METADATA)
async def list_goals(
    request: Request,
    paging: PagingOf,
    session_id: Annotated[IdText | None, Query(description="Only goals of this session.")] = None,
    user_id: Annotated[UserIdText | None, Query(description="Only goals of this streamer.")] = None,
    kind: Annotated[GoalKind | None, Query(description="Only goals of this kind.")] = None,
    active: Annotated[bool | None, Query(description="Only goals that are, or are not, active.")] = None,
    begin: Annotated[Instant | None, Query(alias="from", description="Only goals created at or after this.")] = None,
    end: Annotated[Instant | None, Query(alias="to", description="Only goals created before this.")] = None,
) -> Page[AnyGoal]:
    """Goals in the order of their ids, which is the order in which they were created.

    A field of the metadata is a filter too: `metadata.campaign=winter` finds goals whose `metadata.campaign` is that text, or
    that number or truth value where it is one.
    """
    where: dict[str, object] = {"_cls": {"$in": CLASSES} if kind is None else kind.cls, "_id": {"$gt": FIRST_ID}}
    if session_id is not None:
        where["conditions.session_id"] = {"$in": [ObjectId(session_id), session_id]}
    if user_id is not None:
        where["metadata.user_id"] = user_id
    if active is not None:
        where["active"] = ACTIVE if active else False
    if window := between(begin, end):
        where["created_at"] = window
    conditions = [where, *({name: values} for name, values in _by_metadata(request).items())]
    return Page.of(await page_of(Goal, {"$and": conditions} if len(conditions) > 1 else where, paging), _shown)


def _by_metadata(request: Request) -> Mapping[str, Mapping[str, object]]:
    """The filters by fields of the metadata."""
    filters = {}
    for name, text in request.query_params.multi_items():
        if name.startswith("metadata."):
            if name in filters:
                raise InvalidError(f"query.{name}", "given more than once")
            if "\0" in text:
                raise InvalidError(f"query.{name}", "holds a character that no field can hold")
            filters[name] = {"$in": _readings(text)}
    return filters


def _readings(text: str) -> list[object]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return [text]
    storable = isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 2**63)
    return [text, value] if storable and value == value and abs(value) != float("inf") else [text]


@router.get("/{goal_id}", summary="Read a goal", responses=responses(401, 404, 422, 503))
@with_etag
async def read_goal(goal_id: IdText) -> AnyGoal:
    """The goal as it is now."""
    return _shown(await known_goal(ObjectId(goal_id)))


@router.patch("/{goal_id}", summary="Change a goal", responses=responses(401, 404, 409, 412, 422, 503))
@requires(Scope.WRITE)
async def change_goal(context: ContextOf, goal_id: IdText, known: KnownTags, body: GoalPatch) -> AnyGoal:
    """Changes the end, the platform's own metadata, or levels that are not reached yet, of a goal that goes on.

    Once the last level is reached, levels are final: 409 `goal_inactive`, also in the moment before the goal ends. With
    `If-Match` only while the goal is as the caller knows it: 412 `precondition_failed` when it was changed since.
    """

    def is_as_known(goal: Goal) -> bool:
        return known is None or "*" in known or tag_of(_ANSWER.dump_json(_shown(goal))) in known

    changed = GoalChange(
        fields=frozenset(body.model_fields_set),
        exp=body.exp,
        metadata=body.metadata,
        levels=[level.model_dump() for level in body.levels or ()],
    )
    return _shown(await change(context, ObjectId(goal_id), changed, is_as_known))


@router.post(
    "/{goal_id}/end",
    summary="End a goal",
    responses=responses(401, 404, 409, 422, 503, causes={409: "The goal has ended before (`goal_inactive`)."}),
)
@requires(Scope.OPERATE)
async def end_goal(context: ContextOf, call: CallOf, goal_id: IdText) -> AnyGoal:
    """Ends the goal now. A clock that runs is paused first, so that its seconds count; then the escrow is settled."""
    return _shown(await actions.end_goal(context, call, ObjectId(goal_id)))


@router.post(
    "/{goal_id}/agree", summary="Agree to a request", responses=responses(401, 404, 409, 422, 503, causes=_AGREEMENT)
)
@requires(Scope.OPERATE)
async def agree(context: ContextOf, call: CallOf, goal_id: IdText, body: AgreeBody | None = None) -> AnyGoal:
    """Agrees to a TriggerGoal: its ExclusiveGoal begins, and the hold becomes that one's escrow.

    One exclusive at a time: 409 `exclusive_running` while another goes on in the session, `viewer_in_exclusive` while one
    goes on for the viewer elsewhere, `performer_in_exclusive` while the performer gives one elsewhere; `goal_expired` and
    `goal_inactive` when it is too late.
    """
    return _shown(await actions.agree(context, call, ObjectId(goal_id), body.user_id if body else None))


@router.post(
    "/{goal_id}/decline", summary="Decline a request", responses=responses(401, 404, 409, 422, 503, causes=_REFUSAL)
)
@requires(Scope.OPERATE)
async def decline(context: ContextOf, call: CallOf, goal_id: IdText) -> AnyGoal:
    """Declines a TriggerGoal: the viewer gets the tokens back."""
    return _shown(await actions.decline(context, call, ObjectId(goal_id)))
