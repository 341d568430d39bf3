"""Clips: which seconds were wanted, which were cut, where the file is; and cutting one again."""

from datetime import datetime
from typing import Annotated

from bson import ObjectId
from fastapi import Query
from pydantic import BaseModel, Field

from goalsvc import actions
from goalsvc.actions.clips import known_clip
from goalsvc.api.dependencies import ContextOf, IdText, PagingOf, ResourcesOf, UserIdText
from goalsvc.api.errors import responses
from goalsvc.api.operation import CallOf, operations, requires
from goalsvc.api.views import Page
from goalsvc.domain.call import Scope
from goalsvc.errors import ExternalServiceError
from goalsvc.models.clip import Asset, AssetState
from goalsvc.models.paging import page_of

router = operations("/v1/clips", "Clips")

LINK_SECONDS = 3600


class SecondsView(BaseModel):
    """Seconds of a livestream."""

    begins_at: datetime
    duration: float = Field(description="In seconds.", examples=[30])


class ClipView(BaseModel):
    """A clip of a performance; its id is that of the asset and the key of the file in the quarantine bucket."""

    id: str = Field(examples=["68143584d6945d32e732cc21"])
    state: AssetState
    user_id: str | None = Field(default=None, description="The streamer.")
    session_id: str | None = None
    goal_id: str | None = None
    wanted: SecondsView | None = Field(default=None, description="The seconds that the clip was to hold.")
    begins_at: datetime | None = Field(
        default=None, description="When the first second that it really shows was recorded; absent until it is stored."
    )
    duration: float | None = Field(default=None, description="How long it really is; absent until it is stored.")
    dated_by: str | None = Field(
        default=None,
        description="What that date rests on: `program_date_time`, `last_modified` of the segments, or `lag` (the setting).",
    )
    size: int | None = Field(default=None, description="In bytes.")
    content_type: str = "video/mp4"
    reason: str | None = Field(default=None, description="Why there is none, if it failed.")
    created_at: datetime | None = None
    updated_at: datetime | None = None
    download_url: str | None = Field(
        default=None,
        description="A signed address of the file, valid for an hour; of a stored clip that is read by itself.",
    )

    @classmethod
    def of(cls, asset: Asset, download_url: str | None = None) -> "ClipView":
        """The view of that asset."""
        more = asset.model_extra or {}
        stored = asset.state is AssetState.QUARANTINED
        wanted = asset.wanted
        size, reason = more.get("size"), more.get("reason")
        times = [more.get("stored_at"), asset.failed_at, more.get("retried_at")]
        return cls(
            id=str(asset.id),
            state=asset.state,
            user_id=asset.user_id,
            session_id=str(asset.session_id) if asset.session_id else None,
            goal_id=str(asset.goal_id) if asset.goal_id else None,
            wanted=SecondsView(begins_at=wanted.begins_at, duration=wanted.duration) if wanted else None,
            begins_at=asset.begins_at if stored else None,
            duration=asset.duration if stored else None,
            dated_by=asset.dated_by if stored else None,
            size=size if stored and isinstance(size, int) else None,
            content_type=asset.content_type,
            reason=reason if isinstance(reason, str) and not stored else None,
            created_at=asset.created_at,
            updated_at=max((one for one in [*times, asset.created_at] if isinstance(one, datetime)), default=None),
            download_url=download_url,
        )


@router.get("", summary="List clips", responses=responses(401, 422, 503))
async def list_clips(
    paging: PagingOf,
    session_id: Annotated[IdText | None, Query(description="Only clips of this session.")] = None,
    user_id: Annotated[UserIdText | None, Query(description="Only clips of this streamer.")] = None,
    state: Annotated[AssetState | None, Query(description="Only clips in this state.")] = None,
) -> Page[ClipView]:
    """Clips in the order in which they were promised."""
    where: dict[str, object] = {}
    if session_id is not None:
        where["metadata.source.id"] = ObjectId(session_id)
    if user_id is not None:
        where["user_id"] = user_id
    if state is not None:
        where["state"] = state.value
    return Page.of(await page_of(Asset, where, paging, by="created_at"), ClipView.of)


@router.get("/{clip_id}", summary="Read a clip", responses=responses(401, 404, 422, 503))
async def read_clip(resources: ResourcesOf, clip_id: IdText) -> ClipView:
    """The clip: its state, which seconds it really shows, and where to download it."""
    asset = await known_clip(ObjectId(clip_id))
    link = None
    if asset.state is AssetState.QUARANTINED:
        try:
            link = await resources.store.link(str(asset.id), LINK_SECONDS)
        except ExternalServiceError:
            link = None  # without credentials there is no signature; the rest of the clip can be read all the same
    return ClipView.of(asset, link)


@router.post("/{clip_id}/retry", summary="Cut a failed clip again", responses=responses(401, 404, 409, 422, 503))
@requires(Scope.OPERATE)
async def retry_clip(context: ContextOf, call: CallOf, clip_id: IdText) -> ClipView:
    """Promises the clip again, for the same seconds; 409 unless it has failed."""
    return ClipView.of(await actions.retry_clip(context, call, ObjectId(clip_id)))
