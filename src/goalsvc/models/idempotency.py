"""Idempotency keys: what was asked with each, the seed of the ids that it creates, and the answer that it got."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from beanie import Document
from bson import ObjectId
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import ConfigDict, Field
from pymongo import ASCENDING, IndexModel, ReturnDocument
from pymongo.errors import DuplicateKeyError

from goalsvc.errors import ConflictError

#: How long a key is remembered after it was used last.
KEPT_SECONDS = 48 * 3600

_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The answer to the first call with a key."""

    status: int
    body: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class KeyUse:
    """One use of an Idempotency-Key: its record, the digest of what is asked, and the answer where it has one."""

    record_id: str
    digest: str
    secret: bytes
    seed: ObjectId
    answer: StoredAnswer | None


class IdempotencyRecord(Document):
    """What is remembered of an Idempotency-Key. Neither the key nor the answer can be read from it without the key.

    The record is written before the effect, and its seed never changes while it exists: whatever is created for the key,
    by whichever process and however often it is tried, has the same ids.
    """

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    id: str = Field(default="", alias="_id")  # type: ignore[assignment]
    digest: str | None = None
    seed: ObjectId
    used_at: datetime
    answer: dict[str, object] | None = None

    class Settings:
        """Where and how Beanie keeps the records; MongoDB removes each some time after its last use."""

        name = "idempotency_keys"
        keep_nulls = False
        indexes: ClassVar[list[IndexModel]] = [
            IndexModel([("used_at", ASCENDING)], name="end", expireAfterSeconds=KEPT_SECONDS)
        ]

    @classmethod
    async def begin(cls, path: str, key: str, asked: bytes) -> KeyUse:
        """Binds the key, under that path, to what is asked; the use of it, with the answer where there is one.

        Raises ConflictError `idempotency_conflict` when it is bound to something else.
        """
        text = f"{path}\n{key}".encode("utf-8", "surrogatepass")
        record_id, digest = hashlib.sha256(text).hexdigest(), hashlib.sha256(asked).hexdigest()
        secret = hashlib.sha256(b"answer\n" + text).digest()
        found = await cls._bind(record_id, digest)
        if found is None:
            raise ConflictError("idempotency_conflict", "the Idempotency-Key was used for another body before")
        return KeyUse(record_id, digest, secret, found["seed"], _opened(secret, record_id, found.get("answer")))

    @classmethod
    async def _bind(cls, record_id: str, digest: str) -> Mapping[str, Any] | None:
        collection = cls.get_motor_collection()
        where = {"_id": record_id, "digest": {"$in": [None, digest]}}
        update: dict[str, object] = {
            "$set": {"digest": digest},
            "$setOnInsert": {"seed": ObjectId()},
            "$currentDate": {"used_at": True},  # the server's time, because the server removes the record by it
        }
        for _ in range(3):
            try:
                found: Mapping[str, object] | None = await collection.find_one_and_update(
                    where, update, upsert=True, return_document=ReturnDocument.AFTER
                )
            except DuplicateKeyError:  # bound to something else, or inserted at the same time
                bound = await collection.find_one({"_id": record_id})
                if bound is not None and bound.get("digest") not in (None, digest):
                    return None
            else:
                return found
        return None

    @classmethod
    async def finish(cls, use: KeyUse, answer: StoredAnswer) -> StoredAnswer:
        """Stores the answer unless the key has one; the answer that holds for every use of the key.

        Raises ConflictError `idempotency_conflict` when another body took the key meanwhile.
        """
        collection = cls.get_motor_collection()
        # Another use of the same body may have been refused meanwhile, and have freed the key.
        where = {"_id": use.record_id, "digest": {"$in": [None, use.digest]}, "answer": None}
        stored = {"answer": _sealed(use.secret, use.record_id, answer), "digest": use.digest}
        if (await collection.update_one(where, {"$set": stored})).matched_count:
            return answer
        found = await collection.find_one({"_id": use.record_id})
        if found is None or found.get("digest") is None:
            return answer
        if found["digest"] != use.digest:
            raise ConflictError("idempotency_conflict", "the Idempotency-Key was used for another body before")
        return _opened(use.secret, use.record_id, found.get("answer")) or answer

    @classmethod
    async def release(cls, use: KeyUse) -> None:
        """Frees the key for a corrected body, after a refusal that changed nothing; its seed stays."""
        where = {"_id": use.record_id, "digest": use.digest, "answer": None}
        await cls.get_motor_collection().update_one(where, {"$unset": {"digest": True}})


def _sealed(secret: bytes, record_id: str, answer: StoredAnswer) -> dict[str, object]:
    """The answer as it is stored: an answer may show a secret once, so that only the key opens it again."""
    nonce = os.urandom(_NONCE_BYTES)
    body = nonce + AESGCM(secret).encrypt(nonce, answer.body, record_id.encode())
    return {"status": answer.status, "media_type": answer.media_type, "body": body}


def _opened(secret: bytes, record_id: str, stored: Mapping[str, Any] | None) -> StoredAnswer | None:
    if stored is None:
        return None
    sealed = bytes(stored["body"])
    try:
        body = AESGCM(secret).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], record_id.encode())
    except InvalidTag:
        raise ConflictError("idempotency_conflict", "the stored answer to this Idempotency-Key is damaged") from None
    return StoredAnswer(int(stored["status"]), body, str(stored["media_type"]))
