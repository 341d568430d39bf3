"""Cuts a failed clip again."""

from bson import ObjectId

from goalsvc.context import Context
from goalsvc.domain.call import Call
from goalsvc.domain.promises import PromiseRef
from goalsvc.domain.trace import TracedFollowUp
from goalsvc.errors import ConflictError, NotFoundError
from goalsvc.models.clip import Asset, AssetState
from goalsvc.models.database import WITH_PROMISES
from goalsvc.tasks.clips import clip_livestream_as_asset
from goalsvc.tasks.dispatch import enqueue_these
from goalsvc.tasks.redrive import redrive_letter


async def known_clip(asset_id: ObjectId) -> Asset:
    """The asset of that id; raises NotFoundError."""
    asset = await Asset.find_one({"_id": asset_id})
    if asset is None:
        raise NotFoundError(f"there is no clip {asset_id}")
    return asset


async def retry_clip(context: Context, call: Call, asset_id: ObjectId) -> Asset:
    """Promises the clip again, for the same seconds.

    Raises NotFoundError; ConflictError `clip_not_failed` for a clip that is stored or still to be cut, and
    `clip_not_repeatable` for one whose goal or seconds are not known.
    """
    asset = await known_clip(asset_id)
    if asset.state is not AssetState.FAILED:
        raise _not_failed(asset)
    wanted = asset.wanted
    if asset.goal_id is None or asset.session_id is None or wanted is None or wanted.completed_at is None:
        raise ConflictError("clip_not_repeatable", "the asset does not say which seconds of which goal it was to hold")
    # Before the promise, whose job may fail at once; the state changes after it: no asset is pending without a promise.
    if await Asset.forget_failure(asset_id, context.clock.now()) is None:
        raise _not_failed(await known_clip(asset_id))
    ref = PromiseRef("goals", asset.goal_id, clip_livestream_as_asset.name)
    if await redrive_letter(context, str(ref), call.idempotency) is None:
        follow_up = clip_livestream_as_asset.follow_up(
            session_id=str(asset.session_id),
            rewind_seconds=round((wanted.completed_at - wanted.begins_at).total_seconds()),
            duration=round(wanted.duration),
            asset_id=str(asset_id),
            metadata=asset.claim,
            completed_at=wanted.completed_at,
        )
        owner = WITH_PROMISES[ref.collection]
        traced = [TracedFollowUp(follow_up, context.origin)]
        owed = await owner.add_promises(ref.document_id, traced, context.clock.now())
        if not owed:
            raise ConflictError("clip_not_repeatable", f"the goal {asset.goal_id} of the clip is gone")
        enqueue_these(context, ref.collection, ref.document_id, owed)
    return await Asset.await_again(asset_id) or await known_clip(asset_id)


def _not_failed(asset: Asset) -> ConflictError:
    return ConflictError("clip_not_failed", f"the clip is {asset.state.value}; only a failed clip can be cut again")
