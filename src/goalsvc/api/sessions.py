"""Sessions: a livestream begins, is read, ends."""

from typing import Annotated

from bson import ObjectId
from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from goalsvc import actions
from goalsvc.actions.known import known_session
from goalsvc.api.dependencies import FIRST_ID, ContextOf, IdText, PagingOf, UserIdText
from goalsvc.api.errors import responses
from goalsvc.api.instants import Instant
from goalsvc.api.operation import CallOf, operations, requires, with_etag
from goalsvc.api.session_views import SessionView
from goalsvc.api.views import Page, View
from goalsvc.domain.call import Scope
from goalsvc.domain.goals import GoalKind
from goalsvc.domain.reading import LAST_TIME
from goalsvc.models.filters import UNSET, at_most
from goalsvc.models.paging import between, page_of
from goalsvc.models.session import Rtc, Session
from goalsvc.models.takings import goals_in, takings_of

router = operations("/v1/sessions", "Sessions")

#: Of how many goals of a session the takings are summed up.
_MOST_GOALS = 1_000


class RtcBody(BaseModel):
    """The room of the livestream."""

    model_config = ConfigDict(extra="forbid")

    room_id: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_@\-.]+$", examples=["room-1"])
    record_task_id: str | None = Field(default=None, max_length=128, pattern=r"^[A-Za-z0-9_@\-.]+$")


class SessionBody(BaseModel):
    """A livestream that begins."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"user_id": "u-alice-1", "rtc": {"room_id": "room-1"}}}
    )

    user_id: UserIdText = Field(description="The streamer.")
    rtc: RtcBody | None = None


class TakingView(View):
    """What one goal took in."""

    goal_id: str = Field(examples=["68143584d6945d32e732cc21"])
    kind: GoalKind
    amount: int = Field(description="Tokens that the streamer was paid for it.", examples=[1000])


class TakingsView(View):
    """What the goals of a session took in."""

    items: list[TakingView] = Field(description="Each goal, also with 0, in the order in which they were created.")
    total: int = Field(description="Of these goals.", examples=[1000])
    truncated: bool = Field(
        description=f"Whether the session has more than {_MOST_GOALS:,} goals; only the first are here."
    )


@router.post("", status_code=201, summary="Begin a session", responses=responses(401, 409, 422, 503))
@requires(Scope.WRITE)
async def begin_session(context: ContextOf, call: CallOf, body: SessionBody) -> SessionView:
    """Begins a livestream of that streamer, now."""
    rtc = Rtc(**body.rtc.model_dump(exclude_none=True)) if body.rtc else Rtc()
    return SessionView.of(await actions.begin_session(context, call, body.user_id, rtc))


@router.get("", summary="List sessions", responses=responses(401, 422, 503))
async def list_sessions(
    paging: PagingOf,
    user_id: Annotated[UserIdText | None, Query(description="Only sessions of this streamer.")] = None,
    open_: Annotated[bool | None, Query(alias="open", description="Only sessions that go on, or have ended.")] = None,
    begin: Annotated[Instant | None, Query(alias="from", description="Only those begun at or after this.")] = None,
    end: Annotated[Instant | None, Query(alias="to", description="Only those begun before this.")] = None,
) -> Page[SessionView]:
    """Sessions in the order in which they began."""
    where: dict[str, object] = {"_id": {"$gt": FIRST_ID}}
    if user_id is not None:
        where["user_id"] = user_id
    if open_ is not None:
        where["statuses.ended"] = UNSET if open_ else at_most(LAST_TIME)
    if window := between(begin, end):
        where["statuses.started"] = window
    return Page.of(await page_of(Session, where, paging, by="statuses.started"), SessionView.of)


@router.get("/{session_id}", summary="Read a session", responses=responses(401, 404, 422, 503))
@with_etag
async def read_session(session_id: IdText) -> SessionView:
    """The session with its pairs, windows and karaoke score."""
    return SessionView.of(await known_session(ObjectId(session_id)))


@router.get("/{session_id}/takings", summary="Sum up a session's takings", responses=responses(401, 404, 422, 503))
async def read_takings(session_id: IdText) -> TakingsView:
    """How many tokens the streamer was paid by the escrow of each goal. What was returned later is not taken off."""
    session = await known_session(ObjectId(session_id))
    found = await goals_in(session, _MOST_GOALS)
    goals = [goal for goal, _ in found.goals]
    amounts = await takings_of(session, goals)
    items = [TakingView(goal_id=str(one.id), kind=one.kind, amount=amounts.get(str(one.id), 0)) for one in goals]
    return TakingsView(items=items, total=sum(amounts.values()), truncated=found.truncated)


@router.post(
    "/{session_id}/end",
    summary="End a session",
    responses=responses(401, 404, 409, 422, 503, causes={409: "The session has ended before (`session_ended`)."}),
)
@requires(Scope.OPERATE)
async def end_session(context: ContextOf, call: CallOf, session_id: IdText) -> SessionView:
    """Ends the livestream now, and its open goals with it: what was performed is paid, the rest refunded."""
    return SessionView.of(await actions.end_session(context, call, ObjectId(session_id)))
