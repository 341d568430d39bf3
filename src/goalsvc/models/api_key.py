"""API keys: who may call which operations. Of the key itself only a prefix and its SHA-256 are kept."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import ClassVar, Self

from pydantic import ConfigDict, Field
from pymongo import ASCENDING, IndexModel, ReturnDocument
from pymongo.errors import DuplicateKeyError

from goalsvc.domain.call import Caller, Scope
from goalsvc.domain.reading import Instant, Text
from goalsvc.errors import UnusableDocumentError
from goalsvc.models.shared import Lenient

#: What every key begins with, so that scanners of repositories know one.
MARK = "gsk_"
_PREFIX_LENGTH = len(MARK) + 8


def key_digest(key: str) -> str:
    """The SHA-256 by which a key is known."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def prefix_of(key: str) -> str:
    """The part of a key that is shown in lists."""
    return key[:_PREFIX_LENGTH]


class ApiKey(Lenient):
    """An API key. One of which a field cannot be read gives no access: it may be the field that ends it."""

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    _identity: ClassVar[type] = str

    id: str = Field(default="", alias="_id")  # type: ignore[assignment]
    name: Text
    prefix: Text
    sha256: Text
    scopes: list[Text]
    created_by: Text
    created_at: Instant
    updated_at: Instant
    expires_at: Instant | None = None
    last_used_at: Instant | None = None
    revoked_at: Instant | None = None

    class Settings:
        """Where and how Beanie keeps keys."""

        name = "api_keys"
        keep_nulls = False
        indexes: ClassVar[list[IndexModel]] = [IndexModel([("sha256", ASCENDING)], name="sha256", unique=True)]

    @property
    def caller(self) -> Caller:
        """Who calls with this key; scopes that this version does not know are left out."""
        known = {scope.value: scope for scope in Scope}
        return Caller(
            key_id=self.id, name=self.name, scopes=frozenset(known[name] for name in self.scopes if name in known)
        )

    def valid_at(self, now: datetime) -> bool:
        """Whether the key is neither revoked nor expired, as far as all of it can be read."""
        if any(not fault.startswith("last_used_at:") for fault in self.faults):
            return False
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)

    @classmethod
    async def by_id(cls, key_id: str) -> Self | None:
        """The key of that id."""
        return await cls.find_one({"_id": key_id})

    @classmethod
    async def by_digest(cls, digest: str) -> Self | None:
        """The key of that SHA-256; None also where it cannot be used."""
        try:
            return await cls.find_one({"sha256": digest})
        except UnusableDocumentError:
            return None

    @classmethod
    async def all_valid(cls, logged: set[str]) -> Sequence[Self]:
        """Every key that is not revoked; one that cannot be used at all is passed over, and `logged` once."""
        return await cls.listed({"revoked_at": None}, "_id", most=0, logged=logged)

    @classmethod
    async def add(cls, key: Self) -> Self:
        """Inserts the key; one of the same id, of an earlier try of the same call, is found instead."""
        try:
            await key.insert()
        except DuplicateKeyError:
            found = await cls.by_id(key.id)
            if found is None:
                raise
            return found
        return key

    @classmethod
    async def revoke(cls, key_id: str, now: datetime) -> Self | None:
        """Revokes the key; one that was revoked before keeps that time. None when there is no such key."""
        await cls._change({"_id": key_id, "revoked_at": None}, {"$set": {"revoked_at": now, "updated_at": now}})
        return await cls.by_id(key_id)

    @classmethod
    async def expire(cls, key_id: str, at: datetime, now: datetime) -> Self | None:
        """Ends the key at that instant at the latest; None when there is no such key, or it is revoked."""
        update = {"$min": {"expires_at": at}, "$set": {"updated_at": now}}
        return await cls._change({"_id": key_id, "revoked_at": None}, update)

    @classmethod
    async def used(cls, key_id: str, at: datetime) -> None:
        """Notes that the key was used."""
        await cls.get_motor_collection().update_one({"_id": key_id}, {"$max": {"last_used_at": at}})

    @classmethod
    async def _change(cls, where: Mapping[str, object], update: Mapping[str, object]) -> Self | None:
        changed = await cls.get_motor_collection().find_one_and_update(
            where, update, return_document=ReturnDocument.AFTER
        )
        return None if changed is None else cls.model_validate(changed)
