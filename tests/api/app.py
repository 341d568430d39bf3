"""The real app on a stage: everything but the connections is what `goalsvc serve` runs."""

import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import httpx
from fastapi import FastAPI

from goalsvc.app import create_app
from goalsvc.models.keyring import Keyring
from tests.receivers.fakes import Stage, open_stage

KEY, SECRET = "app-key", "app-secret"
OLD_KEY, OLD_SECRET = "old-key", "old-secret"
API_KEY = "api-key"
JWT_KEY = "a-key-that-is-long-enough-for-HS256"

SETTINGS: dict[str, Any] = {
    "pusher_key": KEY,
    "pusher_secret": SECRET,
    "pusher_keys": {OLD_KEY: OLD_SECRET},
    "api_key": API_KEY,
    "jwt_key": JWT_KEY,
}


@dataclass
class Connection:
    """A database or Redis that is only asked whether it takes a write."""

    down: bool = False

    async def commits(self) -> None:
        if self.down:
            raise ConnectionError("down")

    async def set(self, *_: object, **__: object) -> None:
        await self.commits()


@dataclass
class Service:
    """The app, the stage it is on, and clients of it."""

    stage: Stage
    app: FastAPI
    client: httpx.AsyncClient
    """Knows the API key."""
    stranger: httpx.AsyncClient
    """Does not."""
    mongodb: Connection = field(default_factory=Connection)
    redis: Connection = field(default_factory=Connection)

    async def webhook(self, body: bytes, *, key: str = KEY, secret: str = SECRET, **headers: str) -> httpx.Response:
        """Posts this very body, signed."""
        return await self.post_webhook(body, {"X-Pusher-Key": key, "X-Pusher-Signature": sign(body, secret), **headers})

    async def post_webhook(self, body: bytes, headers: dict[str, str] | list[tuple[bytes, bytes]]) -> httpx.Response:
        """Posts this very body with these very headers."""
        return await self.stranger.post("/notify/pusher", content=body, headers=headers)


def sign(body: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, sha256).hexdigest()


def encoded(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


@cache
def _app() -> FastAPI:
    """The one app of all tests: it takes longer to make than most of them, and keeps nothing but its state."""
    return create_app()


@asynccontextmanager
async def open_service(**values: Any) -> AsyncIterator[Service]:
    """The app without its lifespan, which would open real connections."""
    async with open_stage(**{**SETTINGS, **values}) as stage:
        app = _app()
        mongodb, redis = Connection(), Connection()
        app.state.context = stage.context
        app.state.resources = SimpleNamespace(database=mongodb, redis=redis, store=stage.store)
        app.state.keyring = Keyring(stage.clock)
        app.state.webhook_secrets = stage.settings.webhook_secrets
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        known = {"Authorization": f"Bearer {API_KEY}"}
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://goalsvc.test", headers=known) as client,
            httpx.AsyncClient(transport=transport, base_url="http://goalsvc.test") as stranger,
        ):
            yield Service(stage, app, client, stranger, mongodb, redis)
