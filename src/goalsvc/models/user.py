"""Users: what goalsvc needs to know of a performer or viewer."""

from datetime import datetime
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field
from pymongo import ASCENDING, IndexModel, ReturnDocument
from pymongo.errors import DuplicateKeyError

from goalsvc.domain.reading import LAST_TIME, Flag, Instant, Text
from goalsvc.errors import ConflictError, UnusableDocumentError
from goalsvc.models.filters import UNSET
from goalsvc.models.promise import HasPromises, promises_due


class Byteplus(BaseModel):
    """Where the user's livestream can be fetched: the HLS playlist, with its rewind window."""

    model_config = ConfigDict(extra="allow")

    hls_url: Text | None = None


class User(HasPromises):
    """A performer or a viewer."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    _identity: ClassVar[type] = str

    id: str = Field(default="", alias="_id")  # type: ignore[assignment]
    username: Text = ""
    tags: list[Text] = []
    online: Flag = False
    last_seen: Instant | None = None
    byteplus: Byteplus = Byteplus()
    created_at: Instant | None = None
    updated_at: Instant | None = None
    erased_at: Instant | None = None

    class Settings:
        """Where and how Beanie keeps users."""

        name = "users"
        keep_nulls = False
        indexes: ClassVar[list[IndexModel]] = [
            promises_due(),
            IndexModel(
                [("online", ASCENDING), ("_id", ASCENDING)],
                name="listed_online",
                partialFilterExpression={"online": True},
            ),
        ]

    @classmethod
    async def by_id(cls, user_id: str) -> "User | None":
        """The user of that id."""
        return await cls.read(user_id)

    @classmethod
    async def put(cls, user_id: str, fields: dict[str, object], now: datetime) -> Self:
        """Sets these fields of the user, who is created where there is none.

        Raises ConflictError `user_erased`, UnusableDocumentError.
        """
        update = {"$set": {**fields, "updated_at": now}, "$setOnInsert": {"created_at": now}}
        for _ in range(2):
            try:
                document = await cls.get_motor_collection().find_one_and_update(
                    {"_id": user_id, "erased_at": UNSET}, update, upsert=True, return_document=ReturnDocument.AFTER
                )
            except DuplicateKeyError:
                user = await cls.by_id(user_id)
                if user is not None and user.erased_at is not None:
                    raise ConflictError("user_erased", "the user was erased; the id is not given out again") from None
                continue  # another call created the user at the same time
            made: Self = cls.model_validate(document)
            return made
        raise UnusableDocumentError(f"users/{user_id}", "erased_at", "is not a date")

    @classmethod
    async def seen(cls, user_id: str, at: datetime, online: bool) -> Self | None:
        """Notes that the user came or went at `at`; None when something later is known, or there is no such user."""
        where = {"_id": user_id, "erased_at": UNSET, "last_seen": {"$not": {"$gte": at, "$lte": LAST_TIME}}}
        return await cls.change(where, {"$set": {"online": online, "last_seen": at}})
