"""API keys: created, rolled, revoked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from goalsvc.context import Context
from goalsvc.domain.call import Call, Scope
from goalsvc.errors import ConflictError, InvalidError, NotFoundError
from goalsvc.models.api_key import MARK, ApiKey, key_digest, prefix_of


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was created, with the secret that is shown once."""

    key: ApiKey
    secret: str


async def create_key(
    context: Context, call: Call, name: str, scopes: Sequence[Scope], expires_at: datetime | None
) -> NewKey:
    """Creates a key; a repeat of the call finds it, with the same secret. Raises InvalidError."""
    if expires_at is not None and expires_at <= context.clock.now():
        raise InvalidError("expires_at", "must be in the future")
    return await _create(context, call, name, sorted({scope.value for scope in scopes}), expires_at)


async def roll_key(context: Context, call: Call, key_id: str, grace: timedelta) -> NewKey:
    """Creates a key of the same name and scopes, and ends the old one after `grace`.

    Raises NotFoundError, ConflictError `key_revoked`.
    """
    old = await known_key(key_id)
    now = context.clock.now()
    if not old.valid_at(now):
        raise ConflictError("key_revoked", "the key is revoked or expired")
    new = await _create(context, call, old.name, old.scopes, None)
    await ApiKey.expire(key_id, now + grace, now)
    return new


async def revoke_key(context: Context, key_id: str) -> ApiKey:
    """Revokes the key; one that is revoked already stays so. Raises NotFoundError."""
    revoked = await ApiKey.revoke(key_id, context.clock.now())
    if revoked is None:
        raise NotFoundError(f"there is no API key {key_id}")
    return revoked


async def known_key(key_id: str) -> ApiKey:
    """The key of that id; raises NotFoundError."""
    key = await ApiKey.by_id(key_id)
    if key is None:
        raise NotFoundError(f"there is no API key {key_id}")
    return key


async def _create(
    context: Context, call: Call, name: str, scopes: Sequence[str], expires_at: datetime | None
) -> NewKey:
    secret, now = MARK + call.secret("api key"), context.clock.now()
    key = ApiKey(
        id=f"key_{call.new_id}",
        name=name,
        prefix=prefix_of(secret),
        sha256=key_digest(secret),
        scopes=list(scopes),
        created_by=call.caller.name,
        created_at=now,
        updated_at=now,
        expires_at=expires_at,
    )
    return NewKey(await ApiKey.add(key), secret)
