"""Users: what goalsvc needs to know of a performer or viewer."""

from datetime import datetime
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field
from pymongo import ASCENDING, IndexModel, ReturnDocument
from pymongo.errors import DuplicateKeyError

from goalsvc.domain.reading import LAST_TIME, Flag, Instant, Text
from goalsvc.errors import ConflictError
from goalsvc.models.promise import HasPromises


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
            IndexModel([("promises.at", ASCENDING), ("promises.task", ASCENDING)], name="promises_due", sparse=True),
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
        """Sets these fields of the user, who is created where there is none. Raises ConflictError `user_erased`."""
        try:
            document = await cls.get_motor_collection().find_one_and_update(
                {"_id": user_id, "erased_at": {"$exists": False}},
                {"$set": {**fields, "updated_at": now}, "$setOnInsert": {"created_at": now}},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        except DuplicateKeyError:
            if (await cls.get_motor_collection().find_one({"_id": user_id}, {"erased_at": 1}) or {}).get("erased_at"):
                raise ConflictError("user_erased", "the user was erased; the id is not given out again") from None
            return await cls.put(user_id, fields, now)  # another call created the user at the same time
        user: Self = cls.model_validate(document)
        return user

    @classmethod
    async def seen(cls, user_id: str, at: datetime, online: bool) -> Self | None:
        """Notes that the user came or went at `at`; None when something later is known, or there is no such user."""
        where = {"_id": user_id, "erased_at": None, "last_seen": {"$not": {"$gte": at, "$lte": LAST_TIME}}}
        return await cls.change(where, {"$set": {"online": online, "last_seen": at}})
