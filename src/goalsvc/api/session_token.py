"""Who may watch a livestream, and until when: the rule, and the cached view of it."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self

import msgspec
from bson import ObjectId
from fastapi import Query
from pydantic import BaseModel, Field

from goalsvc.actions.known import known_session
from goalsvc.api.dependencies import ContextOf, IdText, ResourcesOf, UserIdText
from goalsvc.api.errors import responses
from goalsvc.api.operation import operations
from goalsvc.domain.views import session_token_view
from goalsvc.models.session import Session

router = operations("/v1/sessions", "Sessions")


class Grounds(StrEnum):
    """Why a viewer may watch, or may not."""

    STREAMER = "streamer"
    PUBLIC = "public"
    EXCLUSIVE = "exclusive"
    NOT_YET = "not_yet"
    WINDOW_OVER = "window_over"
    EXCLUSIVE_TO_ANOTHER = "exclusive_to_another"
    SESSION_ENDED = "session_ended"

    @property
    def admit(self) -> bool:
        """Whether they let the viewer in."""
        return self in {Grounds.STREAMER, Grounds.PUBLIC, Grounds.EXCLUSIVE}


class Window(msgspec.Struct, frozen=True, omit_defaults=True):
    """From when until when; a side that is absent is not limited."""

    nbf: datetime | None = None
    exp: datetime | None = None


class Admission(msgspec.Struct, frozen=True, omit_defaults=True):
    """What decides who may watch a session, at whatever instant it is asked: this is cached, not an answer, which ages."""

    user_id: str
    open: bool
    exclusive_to: str | None = None
    windows: Mapping[str, Window] = msgspec.field(default_factory=dict)

    @classmethod
    def of(cls, session: Session) -> Self:
        """What the session says."""
        windows = {viewer: Window(window.nbf, window.exp) for viewer, window in session.viewers.items()}
        return cls(session.user_id, session.open, session.status.exclusive_to, windows)

    def grounds(self, viewer_id: str, now: datetime) -> Grounds:
        """Why this viewer may watch at `now`, or may not.

        The streamer always may. While the stream is for one viewer (`status.exclusive_to`) that viewer alone may,
        within the window where there is one; at other times every viewer may, until the livestream ends.
        """
        if viewer_id == self.user_id:
            return Grounds.STREAMER
        if not self.open:
            return Grounds.SESSION_ENDED
        if self.exclusive_to is None:
            return Grounds.PUBLIC
        if viewer_id != self.exclusive_to:
            return Grounds.EXCLUSIVE_TO_ANOTHER
        window = self.windows.get(viewer_id, _UNLIMITED)
        if window.nbf is not None and now < window.nbf:
            return Grounds.NOT_YET
        if window.exp is not None and now >= window.exp:
            return Grounds.WINDOW_OVER
        return Grounds.EXCLUSIVE


_UNLIMITED = Window()
_decode = msgspec.json.Decoder(Admission).decode


class TokenView(BaseModel):
    """Whether a viewer may watch at this moment, and until when."""

    session_id: str = Field(examples=["68143584d6945d32e732cc20"])
    viewer_id: str = Field(examples=["u-bob-2"])
    allowed: bool
    reason: Grounds = Field(
        description="May watch: `streamer`, `public` (the stream is for all), `exclusive` (for this viewer alone). May not: "
        "`exclusive_to_another`, `not_yet` or `window_over` (for this viewer, but not within the window), `session_ended`.",
        examples=["exclusive"],
    )
    nbf: datetime | None = Field(
        default=None,
        description="From when on, where the stream is for this viewer alone.",
        examples=["2026-01-01T20:00:00Z"],
    )
    exp: datetime | None = Field(
        default=None,
        description="Until when, where the stream is for this viewer alone; absent: until something changes.",
        examples=["2026-01-01T20:06:00Z"],
    )

    @classmethod
    def of(cls, admission: Admission, session_id: str, viewer_id: str, now: datetime) -> Self:
        """The answer for that viewer at `now`."""
        grounds = admission.grounds(viewer_id, now)
        alone = grounds in {Grounds.EXCLUSIVE, Grounds.NOT_YET, Grounds.WINDOW_OVER}
        window = admission.windows.get(viewer_id, _UNLIMITED) if alone else _UNLIMITED
        return cls(
            session_id=session_id,
            viewer_id=viewer_id,
            allowed=grounds.admit,
            reason=grounds,
            nbf=window.nbf,
            exp=window.exp,
        )


@router.get(
    "/{session_id}/token",
    summary="May this viewer watch?",
    response_model_exclude_none=True,
    responses=responses(401, 404, 422, 503),
)
async def read_session_token(
    context: ContextOf,
    resources: ResourcesOf,
    session_id: IdText,
    viewer_id: Annotated[UserIdText, Query(description="Who wants to watch.", examples=["u-bob-2"])],
) -> TokenView:
    """Whether a viewer may watch the livestream at this moment, and until when: what a platform asks before it hands out
    its own token for the stream.

    What decides it is cached, and dropped when an exclusive is agreed to, starts or ends and when the session ends; changes
    that another service writes into the session are seen within 35 seconds. The window itself is always compared with now.
    """

    async def compute() -> bytes:
        return msgspec.json.encode(Admission.of(await known_session(ObjectId(session_id))))

    kept = await resources.cache.view(session_token_view(ObjectId(session_id)), compute)
    return TokenView.of(_decode(kept), session_id, viewer_id, context.clock.now())
