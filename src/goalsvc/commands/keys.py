"""`goalsvc keys`: API keys, created, listed, rolled, revoked."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from goalsvc.clock import SystemClock
from goalsvc.commands.api import Api, CommandError, Target


async def create_key(target: Target, name: str, scopes: Sequence[str], expires_days: float | None) -> dict[str, object]:
    """Creates a key; it is in the answer, and nowhere else. Raises CommandError."""
    body: dict[str, object] = {"name": name, "scopes": list(scopes)}
    if expires_days is not None:
        try:
            body["expires_at"] = (SystemClock().now() + timedelta(days=expires_days)).isoformat()
        except (ValueError, OverflowError):
            raise CommandError("--expires-days: must be a number of days that ends before the year 10000") from None
    async with Api.open(target) as api:
        created: dict[str, object] = await api.post("/v1/keys", body)
    return created


async def list_keys(target: Target) -> list[dict[str, object]]:
    """All keys but those of the environment, in the order in which they were created. Raises CommandError."""
    found: list[dict[str, object]] = []
    query: dict[str, str] = {"limit": "200"}
    async with Api.open(target) as api:
        while True:
            page = await api.get("/v1/keys", **query)
            found += page["items"]
            if page["next"] is None:
                return found
            query["cursor"] = page["next"]


async def roll_key(target: Target, key_id: str, grace_seconds: int) -> dict[str, object]:
    """Creates a key in place of that one, which remains valid for so many seconds. Raises CommandError."""
    async with Api.open(target) as api:
        rolled: dict[str, object] = await api.post(f"/v1/keys/{quote(key_id, safe='')}/roll", {"grace": grace_seconds})
    return rolled


async def revoke_key(target: Target, key_id: str) -> dict[str, object]:
    """Revokes that key, now. Raises CommandError."""
    async with Api.open(target) as api:
        revoked: dict[str, object] = await api.delete(f"/v1/keys/{quote(key_id, safe='')}")
    return revoked


def line_of(key: Mapping[str, Any]) -> str:
    """A key in one line: id, name, prefix, scopes, and whether it still opens anything."""
    state = "revoked" if key["revoked_at"] else f"expires {key['expires_at']}" if key["expires_at"] else "valid"
    return f"{key['id']}  {key['name']}  {key['prefix']}…  {' '.join(key['scopes'])}  {state}"
