"""The real app on the real database, asked by users with tokens of their own."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
import pytest
import pytest_asyncio
from bson import ObjectId
from pymongo import MongoClient

from goalsvc.api import user_token
from goalsvc.app import create_app
from goalsvc.domain.user_tokens import VerifyingKey
from goalsvc.models.keyring import Keyring
from goalsvc.models.migration import prepare_indexes
from goalsvc.settings import Settings
from goalsvc.wiring import open_context
from tests.world import START, FakeClock

JWT_KEY = "a-key-of-the-platform-that-signs-its-users-tokens"
PUSHER_KEY, PUSHER_SECRET = "app-key", "app-secret"
SOCKET = "1234.5678"

Document = dict[str, Any]


def settings_with(
    mongodb_url: str = "mongodb://127.0.0.1/unused", redis_url: str = "redis://127.0.0.1", **values: Any
) -> Settings:
    given = {"jwt_key": JWT_KEY, "jwt_algorithm": "HS256", "api_key": "api-key"}
    pusher = {"pusher_app_id": "1", "pusher_key": PUSHER_KEY, "pusher_secret": PUSHER_SECRET}
    return Settings(mongodb_url=mongodb_url, redis_url=redis_url, **{**given, **pusher, **values})


def token_of(user: str | int, key: str = JWT_KEY, algorithm: str = "HS256", **claims: Any) -> str:
    """The user's own token, as the platform issues it."""
    return jwt.encode({"sub": user, **claims}, key, algorithm)


def user_of(token: str, settings: Settings, published: Sequence[VerifyingKey] = ()) -> str:
    """Whose token it is at START."""
    return user_token.user_of(token, settings, START, published)


@dataclass
class Gate:
    """`POST /pusher/auth`, with documents that are put straight into the database."""

    client: httpx.AsyncClient
    documents: MongoClient[Document]
    clock: FakeClock

    async def ask(self, user: str | int, channel: str, **fields: str) -> httpx.Response:
        """That user asks for that channel, as pusher-js does."""
        form = {"socket_id": SOCKET, "channel_name": channel, **fields}
        return await self.post(data=form, headers={"Authorization": f"Bearer {token_of(user)}"})

    async def post(self, **request: Any) -> httpx.Response:
        return await self.client.post("/pusher/auth", **request)

    async def may_join(self, user: str | int, channel: str) -> bool:
        """Whether that user is let into that channel."""
        response = await self.ask(user, channel)
        if response.status_code == 403:
            assert response.json()["code"] in ("forbidden", "goal_inactive")
            return False
        assert response.status_code == 200, response.text
        return True

    def goal(self, kind: str = "ShowGoal", *, active: bool = True, streamer: str = "alice", **fields: Any) -> str:
        """A goal of alice's, as any service may have written it."""
        document = {"_id": ObjectId(), "_cls": f"Goal.{kind}", "active": active, "metadata": {"user_id": streamer}}
        self.database.goals.insert_one({**document, **fields})
        return str(document["_id"])

    def session(self, **fields: Any) -> str:
        """A livestream of alice's that goes on."""
        document = {"_id": ObjectId(), "user_id": "alice", "statuses": {"started": START}}
        self.database.sessions.insert_one({**document, **fields})
        return str(document["_id"])

    @property
    def database(self) -> Any:
        return self.documents.get_default_database()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def open_gate(all_documents: MongoClient[Document], mongodb_url: str, redis_url: str) -> AsyncIterator[Gate]:
    """One app for a whole module: opening it takes longer than asking it."""
    settings = settings_with(mongodb_url, redis_url, cors_origins=["https://live.example.com"])
    clock = FakeClock()
    await prepare_indexes(settings, print)
    async with open_context(settings, clock=clock) as (context, resources):
        app = create_app(settings)
        app.state.context, app.state.resources = context, resources
        app.state.keyring = Keyring(context.clock)
        app.state.webhook_secrets = settings.webhook_secrets
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://goalsvc") as client:
            yield Gate(client, all_documents, clock)


@pytest.fixture
def gate(open_gate: Gate, documents: MongoClient[Document]) -> Gate:
    """The app, and no documents."""
    assert documents is open_gate.documents
    return open_gate


def channel_data(response: httpx.Response) -> Any:
    return json.loads(response.json()["channel_data"])
