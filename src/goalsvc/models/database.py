"""The database: with `goalsvc.database_session` all that knows Motor (a move to PyMongo's async client changes these two)."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from beanie import Document, init_beanie
from bson.codec_options import DatetimeConversion
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from goalsvc.database_session import DatabaseSession
from goalsvc.errors import LedgerBusyError
from goalsvc.models.abandoned import APP_NAME, Abandoned, end_abandoned
from goalsvc.models.api_key import ApiKey
from goalsvc.models.audit import AuditEvent
from goalsvc.models.audit_figures import LastAudit
from goalsvc.models.clip import Asset, Post
from goalsvc.models.event_log import Counter, EventDocument
from goalsvc.models.exclusivity import ExclusiveSlot
from goalsvc.models.goal import ExclusiveGoal, FundingGoal, Goal, KaraokeGoal, ShowGoal, TriggerGoal
from goalsvc.models.idempotency import IdempotencyRecord
from goalsvc.models.promise import HasPromises
from goalsvc.models.records import BiEscrow, DeadLetter, TraceSegment, TrackingEvent
from goalsvc.models.redrive import Redrive
from goalsvc.models.seal import Seal
from goalsvc.models.session import Session
from goalsvc.models.stream_notices import PresenceNotice
from goalsvc.models.user import User
from goalsvc.models.wallet import Account, Earning, Transfer
from goalsvc.models.webhooks import Delivery, WebhookEndpoint
from goalsvc.models.withdrawal import Withdrawal

T = TypeVar("T")

#: Every document; the goal kinds after their root.
DOCUMENTS: Sequence[type[Document]] = (
    Goal, FundingGoal, TriggerGoal, ShowGoal, KaraokeGoal, ExclusiveGoal,
    Session, User, Account, Transfer, Earning, PresenceNotice, Asset, Post, TrackingEvent, BiEscrow, TraceSegment, DeadLetter,
    IdempotencyRecord, ExclusiveSlot, ApiKey, AuditEvent, EventDocument, Counter, Withdrawal, Seal, LastAudit,
    WebhookEndpoint, Delivery, Redrive,
)  # fmt: skip

#: The document classes that can hold promises, by collection.
WITH_PROMISES: dict[str, type[HasPromises]] = {
    "goals": Goal,
    "sessions": Session,
    "users": User,
    "presence_notices": PresenceNotice,
    "redrives": Redrive,
}

#: How long a transaction that meets others is tried again, and how long it waits at first and at most in between.
TRANSACTION_SECONDS = 8.0
FIRST_PAUSE_SECONDS = 0.004
LONGEST_PAUSE_SECONDS = 0.05
#: A transaction that is held up for longer looks whether a process that is gone holds it up.
_PATIENCE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Database:
    """An open database. Documents are read and changed through their classes; this is for what needs the connection."""

    client: Any
    name: str
    _abandoned: Abandoned = field(init=False)
    _ending: set["asyncio.Future[None]"] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_abandoned", Abandoned(self.client))

    async def end_abandoned(self) -> int:
        """Ends the transactions that killed processes left open; how many. Raises PyMongoError."""
        return await end_abandoned(self.client)

    async def commits(self) -> None:
        """Writes in a transaction and commits it; raises PyMongoError or LedgerBusyError when that cannot be done."""
        collection = self.client[self.name]["readiness"]

        async def write(session: DatabaseSession) -> None:
            update = {"$inc": {"asked": 1}}
            await collection.update_one({"_id": "readiness"}, update, upsert=True, session=session)

        await self.transaction(write)

    async def transaction(self, work: Callable[[DatabaseSession], Awaitable[T]]) -> T:
        """Runs `work(session)` in a transaction and returns what it returned: all of it happens, or nothing.

        When other transactions touch the same documents it is run again from the start: processes take turns. Raises
        LedgerBusyError after `TRANSACTION_SECONDS`; an error that `work` raises undoes the transaction and is raised.
        """
        loop = asyncio.get_running_loop()
        began, pause = loop.time(), FIRST_PAUSE_SECONDS
        async with self._session() as session:
            while True:
                try:
                    async with session.start_transaction():
                        return await work(session)
                except PyMongoError as error:
                    if not error.has_error_label("TransientTransactionError"):
                        raise
                waited = loop.time() - began
                if waited > _PATIENCE_SECONDS:
                    await self._abandoned.end(loop.time())
                if waited > TRANSACTION_SECONDS:
                    raise LedgerBusyError(f"other transactions were in the way for {TRANSACTION_SECONDS:g} s")
                await asyncio.sleep(pause * random.uniform(0.25, 1.0))  # noqa: S311 - jitter, not a secret
                pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[DatabaseSession]:
        """Yields a session and ends it.

        One that was cancelled while it commits or aborts is ended in a thread: Motor would end it in the event loop, where all
        else stands still until MongoDB answers.
        """
        session = await self.client.start_session()
        try:
            yield session
        finally:
            if session.in_transaction:
                ending = asyncio.ensure_future(session.end_session())
                self._ending.add(ending)
                ending.add_done_callback(self._ended)
            else:
                await session.__aexit__(None, None, None)

    def _ended(self, ending: "asyncio.Future[None]") -> None:
        self._ending.discard(ending)
        if not ending.cancelled():
            ending.exception()  # MongoDB ends by itself what could not be ended


#: What decides reads from the primary and writes to a majority, whatever the URL says: these override its options.
CLIENT_OPTIONS: dict[str, Any] = {
    "w": "majority",
    "readPreference": "primary",
    "readConcernLevel": "local",
    "maxStalenessSeconds": -1,
    # What Python cannot represent must not stop the reading of a batch: far dates, text that is not UTF-8.
    "datetime_conversion": DatetimeConversion.DATETIME_AUTO,
    "unicode_decode_error_handler": "replace",
    # The webhook must have answered within 4 s, also when there is no primary.
    "serverSelectionTimeoutMS": 2500,
    "connectTimeoutMS": 2500,
}

TRANSACTIONS_MISSING = "is a single server, not a replica set or sharded cluster: it has no transactions"


def database_of(url: str) -> str:
    """Returns the name of the database that the URL names, or the default."""
    return parse_uri(url)["database"] or "goalsvc"


@asynccontextmanager
async def open_database(url: str, *, pool_size: int = 100) -> AsyncIterator[Database]:
    """Connects to MongoDB and binds the documents to the database that the URL names. Makes no index (`models.migration`)."""
    name = database_of(url)
    client: Any = AsyncIOMotorClient(url, tz_aware=True, maxPoolSize=pool_size, appname=APP_NAME, **CLIENT_OPTIONS)
    try:
        await client[name].command("ping")
        await init_beanie(database=client[name], document_models=list(DOCUMENTS), skip_indexes=True)
        yield Database(client, name)
    finally:
        client.close()
