"""Sessions: a livestream begins, is read, ends."""

from bson import ObjectId
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from goalsvc.api.dependencies import ContextOf, IdText, UserIdText
from goalsvc.api.errors import responses
from goalsvc.api.views import SessionView
from goalsvc.domain.views import session_token_view, streamer_views
from goalsvc.errors import ConflictError, NotFoundError
from goalsvc.models.session import Rtc, Session, Statuses
from goalsvc.tasks.dispatch import enqueue_promises

router = APIRouter(prefix="/v1/sessions", tags=["Sessions"])


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


@router.post("", status_code=201, summary="Begin a session", responses=responses(401, 422, 503))
async def begin_session(context: ContextOf, body: SessionBody) -> SessionView:
    """Begins a livestream of that streamer, now."""
    session = Session(
        id=ObjectId(),
        user_id=body.user_id,
        statuses=Statuses(started=context.clock.now()),
        rtc=Rtc(**body.rtc.model_dump(exclude_none=True)) if body.rtc else Rtc(),
    )
    await session.insert()
    await context.cache.drop(streamer_views(session.user_id))
    return SessionView.of(session)


@router.get("/{session_id}", summary="Read a session", responses=responses(401, 404, 422, 503))
async def read_session(session_id: IdText) -> SessionView:
    """The session with its pairs, windows and karaoke score."""
    return SessionView.of(await known_session(session_id))


@router.post("/{session_id}/end", summary="End a session", responses=responses(401, 404, 409, 422, 503))
async def end_session(context: ContextOf, session_id: IdText) -> SessionView:
    """Ends the livestream now, and its open goals with it: what was performed is paid, the rest refunded."""
    session = await Session.end(ObjectId(session_id), context.clock.now(), context.origin)
    if session is None:
        await known_session(session_id)
        raise ConflictError("session_ended", "the session has ended before")
    enqueue_promises(context, session, ["end_session"])
    await context.cache.drop([session_token_view(session.id), *streamer_views(session.user_id)])
    return SessionView.of(session)


async def known_session(session_id: str) -> Session:
    """The session of that id; raises NotFoundError."""
    session = await Session.by_id(ObjectId(session_id))
    if session is None:
        raise NotFoundError(f"there is no session {session_id}")
    return session
