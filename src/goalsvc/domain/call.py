"""A call of an operation: who makes it, by which key, and what identifies it. One frozen value, handed to actions."""

import hmac
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self

from bson import ObjectId

from goalsvc.domain.ids import derived_id


class Scope(StrEnum):
    """What a key may do."""

    READ = "read"
    READ_PAYLOAD = "read:payload"
    WRITE = "write"
    MONEY = "money"
    OPERATE = "operate"
    ADMIN = "admin"


ALL_SCOPES = frozenset(Scope)


#: The header by which the command line says that a call is its own.
VIA_HEADER = "X-Goalsvc-Via"


class Via(StrEnum):
    """The door by which a call came in."""

    API = "api"
    CONSOLE = "console"
    CLI = "cli"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The key that a call was made with."""

    key_id: str
    name: str
    scopes: frozenset[Scope]
    via: Via = Via.API
    on_behalf_of: str | None = None


#: The caller of the keys that the environment holds.
ENVIRONMENT = Caller(key_id="env", name="env", scopes=ALL_SCOPES)


def _random() -> bytes:
    return secrets.token_bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of an operation.

    `idempotency` is the id of the record of its Idempotency-Key (a digest of path and key), None without one. Ids of what the
    call creates are derived from `seed`, which is the same for every repeat of the same key.
    """

    operation: str
    request_id: str
    caller: Caller = ENVIRONMENT
    idempotency: str | None = None
    seed: ObjectId = field(default_factory=ObjectId)
    entropy: bytes = field(default_factory=_random, repr=False)

    @property
    def new_id(self) -> ObjectId:
        """The id of the document that this call creates: the same for every repeat, and later than those of earlier calls."""
        return self.seed

    def object_id(self, purpose: str) -> ObjectId:
        """The id of what else this call creates for that purpose: the same for every repeat of its Idempotency-Key."""
        return derived_id(self.seed, purpose)

    def secret(self, purpose: str) -> str:
        """A secret that this call creates for that purpose, of 43 characters: the same for every repeat of its key."""
        digest = hmac.digest(self.entropy, purpose.encode(), "sha256")
        return urlsafe_b64encode(digest).decode().rstrip("=")

    def with_key(self, idempotency: str, seed: ObjectId, entropy: bytes) -> Self:
        """The same call, with the record of its Idempotency-Key."""
        return replace(self, idempotency=idempotency, seed=seed, entropy=entropy)

    def made(self, mark: str | None) -> bool:
        """Whether a document that carries this mark was changed by this call, or by an earlier try with the same key."""
        return self.idempotency is not None and mark == self.idempotency
