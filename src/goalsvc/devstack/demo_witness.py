"""What the parts of the stage saw and hold: the emulators' records, the bucket, the database."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
from pymongo import MongoClient

from goalsvc.devstack.demo_stage import Addresses

T = TypeVar("T")

Document = dict[str, Any]


class Witness:
    """Asks everything but the API."""

    def __init__(self, addresses: Addresses, client: httpx.AsyncClient, mongodb: MongoClient[Document]) -> None:
        self._addresses = addresses
        self._client = client
        self._database = mongodb.get_default_database()

    @classmethod
    @asynccontextmanager
    async def open(cls, addresses: Addresses) -> AsyncIterator["Witness"]:
        """A witness; its connections are closed on leaving."""
        mongodb = MongoClient[Document](addresses.mongodb_url, tz_aware=True)
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=15) as client:
                yield cls(addresses, client, mongodb)
        finally:
            await asyncio.to_thread(mongodb.close)

    async def notices(self, event: str, goal_id: str | None = None) -> list[Document]:
        """What Pusher was sent under that name (about that goal): `{at, channels, name, data}`, oldest first."""
        sent = await self._recorded(self._addresses.pusher_url, event=event)
        return [notice for notice in sent if goal_id is None or notice["data"].get("goal_id") == goal_id]

    async def rtc_calls(self, action: str) -> list[Document]:
        """The calls of that action that BytePlus took: `{at, action, body}`, oldest first."""
        return await self._recorded(self._addresses.byteplus_url, action=action)

    async def stored(self, key: str) -> bytes | None:
        """What the quarantine bucket holds under that key."""
        address = f"{self._addresses.s3_endpoint_url}/{self._addresses.bucket}/{key}"
        # The stage's S3 wants to see some credentials, and takes any.
        answer = await self._client.get(address, auth=("any", "any"))
        return answer.content if answer.is_success else None

    async def only(self, collection: str) -> Document:
        """The one document of a collection; an empty one when there is none, or more than one."""
        found = await self._asked(lambda: list(self._database[collection].find().limit(2)))
        return found[0] if len(found) == 1 else {}

    async def promises(self) -> int:
        """How many documents owe something."""
        owing = ("goals", "sessions", "users")
        owed = {"promises.0": {"$exists": True}}
        return await self._asked(lambda: sum(self._database[name].count_documents(owed) for name in owing))

    async def balances(self) -> Mapping[str, int]:
        """Every account with its balance."""
        return await self._asked(lambda: {each["_id"]: each["balance"] for each in self._database["accounts"].find()})

    async def _recorded(self, url: str, **wanted: str) -> list[Document]:
        answer = await self._client.get(f"{url}/recorded", params=wanted)
        answer.raise_for_status()
        recorded: list[Document] = answer.json()
        return recorded

    @staticmethod
    async def _asked(question: Callable[[], T]) -> T:
        return await asyncio.to_thread(question)
