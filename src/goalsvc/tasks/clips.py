"""The clip of a completed performance: asset, draft post, and the file itself."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from goalsvc.context import Context, WorkerContext
from goalsvc.domain.documents import RawDocument
from goalsvc.domain.ids import derived_id
from goalsvc.domain.lanes import Lane
from goalsvc.domain.outcome import Done, Outcome, Reason, Returned
from goalsvc.errors import ClipImpossibleError, NotYetError
from goalsvc.models.clip import Asset, AssetState, Post, WantedSeconds, insert_once
from goalsvc.models.events import of_clip
from goalsvc.models.session import Session
from goalsvc.models.user import User
from goalsvc.tasks.arguments import DocumentId, Seconds
from goalsvc.tasks.task import RetryPolicy, task

POST_TAGS = ("drafts", "beta", "no_exposure")
CLIP_TAGS = ("feed:shorts_livestream", "bypass:review")

#: How long after its last second was due a clip waits for a stream that lags behind.
WAIT_LIMIT = timedelta(seconds=120)


@task(lane=Lane.ANALYTICS)
async def create_post_from_livestream(
    context: WorkerContext,
    *,
    session_id: DocumentId,
    caption: str,
    duration: Seconds,
    rewind_seconds: Seconds,
    tags: Sequence[str],
    goal_id: DocumentId,
    completed_at: datetime,
) -> Outcome:
    """Makes the asset and the draft post of a goal's clip, and promises the clip itself. Their ids follow from the goal's.

    A streamer without an HLS source gets neither.
    """
    if context.settings.clips == "off":
        return Returned(Reason.SWITCHED_OFF)
    session = await Session.by_id(ObjectId(session_id))
    if session is None:
        return Returned(Reason.UNKNOWN_SESSION)
    user = await User.by_id(session.user_id)
    if user is None or not user.byteplus.hls_url:
        return Returned(Reason.NO_SOURCE)
    now, goal = context.clock.now(), ObjectId(goal_id)
    asset_id, post_id = derived_id(goal, "asset"), derived_id(goal, "post")
    cause = context.origin.cause.document() or None
    claim = {f"auto_claimed_by:{post_id}": f"message-{post_id}:0"}
    asset = Asset(
        id=asset_id,
        duration=duration,
        wanted=WantedSeconds(
            begins_at=completed_at - timedelta(seconds=rewind_seconds), duration=duration, completed_at=completed_at
        ),
        user_id=session.user_id,
        goal_id=goal,
        metadata={"source": {"cls": "Session", "id": session.id}, **claim},
        cause=cause,
        created_at=now,
    )
    post = Post(
        id=post_id,
        sender=session.user_id,
        caption=caption,
        tags=[*POST_TAGS, *user.tags, *tags],
        asset_id=asset_id,
        metadata={"goal_id": goal},
        cause=cause,
        created_at=now,
    )
    await insert_once(asset)
    await insert_once(post)
    clip = clip_livestream_as_asset.follow_up(
        session_id=session_id,
        rewind_seconds=rewind_seconds,
        duration=duration,
        asset_id=str(asset_id),
        metadata=claim,
        completed_at=completed_at,
    )
    # At once, also when its last second is still to come: a window that is shorter than the clip moves on meanwhile.
    return Done(f"asset {asset_id}, post {post_id}", follow_ups=(clip,))


async def _give_up(context: Context, arguments: Mapping[str, Any], reason: str) -> None:
    await _fail(context, ObjectId(arguments["asset_id"]), reason)


async def _fail(context: Context, asset_id: ObjectId, reason: str) -> None:
    """Marks the asset as failed, unless it is stored, and tells of it; a repeat tells of the same failure, once."""
    asset = await Asset.find_one({"_id": asset_id})
    if asset is not None and asset.failed_at is None:
        asset = await Asset.conclude(asset_id, AssetState.FAILED, {"failed_at": context.clock.now(), "reason": reason})
    if asset is not None and asset.state is AssetState.FAILED and asset.failed_at is not None:
        await context.events.write([of_clip("clip.failed", asset, asset.failed_at, asset.user_id)])


@task(lane=Lane.CLIPS, timeout=1200, retry=RetryPolicy(tries=12, patience_seconds=3600.0), after_death=_give_up)
async def clip_livestream_as_asset(
    context: WorkerContext,
    *,
    session_id: DocumentId,
    rewind_seconds: Seconds,
    duration: Seconds,
    asset_id: DocumentId,
    metadata: Mapping[str, str],
    completed_at: datetime,
) -> Outcome:
    """Cuts the clip out of the streamer's HLS source and stores it under the asset's id in the quarantine bucket.

    It begins `rewind_seconds` before the goal was completed and lasts `duration` seconds.
    """
    asset = await Asset.find_one({"_id": ObjectId(asset_id)})
    if asset is None:
        return Returned(Reason.UNKNOWN_ASSET)
    if asset.state is AssetState.QUARANTINED:
        # Once more: an earlier run may have come no further than to the asset.
        await context.events.write([of_clip("clip.stored", asset, context.clock.now())])
        return Returned(Reason.ALREADY_STORED)
    session = await Session.by_id(ObjectId(session_id))
    user = await User.by_id(session.user_id) if session else None
    hls_url = user.byteplus.hls_url if user else None
    if not hls_url or context.settings.clips == "off":
        # The source was taken away, or clips were switched off, after the clip was promised: not a failure.
        reason = Reason.NO_SOURCE if not hls_url else Reason.SWITCHED_OFF
        await _fail(context, ObjectId(asset_id), reason.value)
        return Returned(reason)
    begins_at = completed_at - timedelta(seconds=rewind_seconds)
    try:
        async with context.cutter.cut(hls_url, begins_at, duration, latest_begin=completed_at) as clip:
            size = clip.path.stat().st_size
            await context.store.upload(asset_id, clip.path, "video/mp4")
    except NotYetError as error:
        if context.clock.now() > begins_at + timedelta(seconds=duration) + WAIT_LIMIT:
            raise ClipImpossibleError(f"the stream has not gone on: {error.message}") from error
        raise
    seconds = clip.duration_seconds
    facts: RawDocument = {
        "size": size,
        "begins_at": clip.begins_at,
        "duration": int(seconds) if seconds == int(seconds) else seconds,
        "dated_by": clip.dated_by,
        "stored_at": context.clock.now(),
    }
    stored = await Asset.conclude(ObjectId(asset_id), AssetState.QUARANTINED, facts)
    if stored is None:
        return Returned(Reason.ALREADY_STORED)
    await context.events.write(
        [of_clip("clip.stored", stored, facts["stored_at"], session.user_id if session else None)]
    )
    return Done(f"{size} bytes, {seconds:g} s from {clip.begins_at.isoformat()}")
