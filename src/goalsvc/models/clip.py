"""The clip of a performance: the asset (a file in the quarantine bucket) and the draft post that shows it."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Self

from beanie import Document, PydanticObjectId, UpdateResponse
from bson import ObjectId
from pydantic import BaseModel, ConfigDict, Field
from pymongo import ASCENDING, IndexModel
from pymongo.errors import DuplicateKeyError

from goalsvc.domain.documents import RawDocument
from goalsvc.domain.goals import Reference, UserId
from goalsvc.domain.reading import Instant, Number, Text
from goalsvc.models.filters import UNSET
from goalsvc.models.shared import Lenient


class AssetState(StrEnum):
    """How far the file has come."""

    PENDING = "pending"
    QUARANTINED = "quarantined"
    FAILED = "failed"


class WantedSeconds(BaseModel):
    """The seconds that a clip was to hold; a window that had moved on may have left others."""

    model_config = ConfigDict(extra="allow")

    begins_at: Instant
    duration: Number
    completed_at: Instant | None = None
    """When the performance was over."""


class Asset(Lenient):
    """A file: its key in the quarantine bucket is its id."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    id: PydanticObjectId | None = Field(default=None, alias="_id")
    content_type: Text = "video/mp4"
    duration: Number = 0
    """How long the clip is, in seconds: as wanted until it is stored, then as it is."""
    begins_at: Instant | None = None
    """When the first second that it shows was recorded; absent until it is stored."""
    dated_by: Text | None = None
    """What that date rests on (`Clip.dated_by`)."""
    wanted: WantedSeconds | None = None
    user_id: UserId = ""
    """The streamer."""
    goal_id: Reference = None
    state: AssetState = AssetState.PENDING
    metadata: RawDocument = {}
    cause: RawDocument | None = None
    """What it goes back to (`Cause.document`)."""
    created_at: Instant | None = None
    failed_at: Instant | None = None
    """When it was given up; absent unless its state is `failed`."""

    class Settings:
        """Where and how Beanie keeps assets."""

        name = "assets"
        keep_nulls = False
        indexes: ClassVar[list[IndexModel]] = [
            IndexModel([("created_at", ASCENDING), ("_id", ASCENDING)], name="created_at"),
            IndexModel(
                [("metadata.source.id", ASCENDING), ("created_at", ASCENDING), ("_id", ASCENDING)], name="session_id"
            ),
            IndexModel([("user_id", ASCENDING), ("created_at", ASCENDING), ("_id", ASCENDING)], name="user_id"),
            IndexModel([("state", ASCENDING), ("created_at", ASCENDING), ("_id", ASCENDING)], name="state"),
        ]

    @property
    def session_id(self) -> ObjectId | None:
        """The session that the clip is of."""
        source = self.metadata.get("source")
        found = source.get("id") if isinstance(source, dict) else None
        return found if isinstance(found, ObjectId) else None

    @property
    def claim(self) -> dict[str, str]:
        """The metadata by which the post claims the asset."""
        return {
            name: value
            for name, value in self.metadata.items()
            if name.startswith("auto_claimed_by:") and isinstance(value, str)
        }

    @classmethod
    async def conclude(cls, asset_id: ObjectId, state: AssetState, fields: dict[str, object]) -> Self | None:
        """Sets the final state of an asset that is not stored yet; None when it is, or there is no such asset."""
        where = {"_id": asset_id, "state": {"$ne": AssetState.QUARANTINED.value}}
        update = {"$set": {"state": state.value, **fields}}
        changed: Self | None = await cls.find_one(where).update(update, response_type=UpdateResponse.NEW_DOCUMENT)
        return changed

    @classmethod
    async def forget_failure(cls, asset_id: ObjectId, now: datetime) -> Self | None:
        """Removes when a failed asset was given up, so that its next failure is another one; None unless it has failed."""
        where = {"_id": asset_id, "state": AssetState.FAILED.value}
        update = {"$set": {"retried_at": now}, "$unset": {"failed_at": True}}
        changed: Self | None = await cls.find_one(where).update(update, response_type=UpdateResponse.NEW_DOCUMENT)
        return changed

    @classmethod
    async def await_again(cls, asset_id: ObjectId) -> Self | None:
        """Sets an asset whose failure was forgotten to be pending; None when it has been stored, or has failed, since then."""
        where = {"_id": asset_id, "state": AssetState.FAILED.value, "failed_at": UNSET}
        update = {"$set": {"state": AssetState.PENDING.value}, "$unset": {"failed_at": True, "reason": True}}
        changed: Self | None = await cls.find_one(where).update(update, response_type=UpdateResponse.NEW_DOCUMENT)
        return changed


class Post(Lenient):
    """A draft post that shows an asset, sent by the streamer."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    id: PydanticObjectId | None = Field(default=None, alias="_id")
    sender: UserId = ""
    caption: Text = ""
    tags: list[Text] = []
    asset_id: Reference = None
    metadata: RawDocument = {}
    cause: RawDocument | None = None
    """What it goes back to (`Cause.document`)."""
    created_at: Instant | None = None

    class Settings:
        """Where and how Beanie keeps posts."""

        name = "posts"
        keep_nulls = False


async def insert_once(document: Document) -> bool:
    """Inserts the document unless its id is there already; whether it was inserted."""
    try:
        await document.insert()
    except DuplicateKeyError:
        return False
    return True
