"""A context in which nothing is real, and everything that was done can be looked at afterwards."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NoReturn, TypeVar

from beanie import init_beanie
from mongomock import aggregate, filtering
from mongomock.collection import BulkOperationBuilder
from mongomock_motor import AsyncMongoMockClient, AsyncMongoMockCollection
from pymongo.errors import OperationFailure

from goalsvc.context import WorkerContext
from goalsvc.domain.events import Event
from goalsvc.domain.promises import Job
from goalsvc.domain.reading import whole_part
from goalsvc.integrations.pace import NoticePace
from goalsvc.models.clocks import GoalClocks
from goalsvc.models.contributions import Contributions
from goalsvc.models.database import DOCUMENTS
from goalsvc.models.goal import Goal
from goalsvc.models.ledger import Ledger
from goalsvc.receivers import ALL as RECEIVERS
from goalsvc.settings import Settings
from goalsvc.signals.bus import SignalBus
from goalsvc.signals.receiver import Receiver
from tests.support.queues import AlwaysSweptWhole
from tests.support.services import MemoryStore, RecordedCutter, RecordedNotifier, RecordedRtc

T = TypeVar("T")

#: The instant at which every test begins.
NOW = datetime(2026, 1, 1, 12, 10, tzinfo=UTC)


@dataclass
class FakeClock:
    """Shows what it is set to."""

    at: datetime = NOW

    def now(self) -> datetime:
        return self.at

    def advance(self, seconds: float) -> datetime:
        self.at += timedelta(seconds=seconds)
        return self.at


@dataclass
class MemoryQueue(AlwaysSweptWhole):
    """Keeps the jobs that were enqueued; one of the same id is not taken twice, as in Redis."""

    jobs: list[Job] = field(default_factory=list)
    flushed: int = 0

    def enqueue(self, job: Job) -> None:
        if job.id not in {waiting.id for waiting in self.jobs}:
            self.jobs.append(job)

    async def flush(self) -> None:
        self.flushed += 1

    def tasks(self) -> list[str]:
        """Names of the tasks that wait, in order."""
        return [job.task for job in self.jobs]

    def take(self) -> list[Job]:
        """All that waits; nothing waits then."""
        taken, self.jobs = self.jobs, []
        return taken


@dataclass
class MemoryRecorder:
    """Keeps traces and tracking events; one of the same id once."""

    segments: list[Mapping[str, Any]] = field(default_factory=list)
    tracked: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def trace(self, segment: Mapping[str, Any]) -> None:
        self.segments.append(segment)

    def track(self, event: Mapping[str, Any]) -> None:
        self.tracked.setdefault(event["_id"], event)

    async def flush(self) -> None:
        pass


@dataclass
class MemoryEvents:
    """Keeps events; one of the same id once."""

    written: dict[str, Event] = field(default_factory=dict)

    async def write(self, events: Sequence[Event], session: Any = None) -> None:
        for event in events:
            self.written.setdefault(event.id, event)

    def types(self) -> list[str]:
        """The types of the events, in the order in which they were written."""
        return [event.type for event in self.written.values()]


@dataclass
class MemoryCache:
    """Keeps the names of the views that were dropped."""

    dropped: list[str] = field(default_factory=list)

    async def drop(self, names: Sequence[str]) -> None:
        self.dropped.extend(names)


@dataclass
class Snapshots:
    """Transactions for mongomock, which has none: what raises is undone by putting back all documents as they were.

    Good for one transaction at a time; races are for the real server.
    """

    database: Any

    async def transaction(self, work: Callable[[Any], Awaitable[T]]) -> T:
        names = await self.database.list_collection_names()
        before = {name: await self.database[name].find().to_list(None) for name in names}
        try:
            return await work(None)
        except BaseException:
            for name in await self.database.list_collection_names():
                await self.database[name].delete_many({})
                if before.get(name):
                    await self.database[name].insert_many(before[name])
            raise


@dataclass
class Stage:
    """The context with what it is made of, each under its own type."""

    database: Any
    clock: FakeClock
    settings: Settings
    bus: SignalBus
    queue: MemoryQueue
    recorder: MemoryRecorder
    notifier: RecordedNotifier
    store: MemoryStore
    rtc: RecordedRtc
    cutter: RecordedCutter
    cache: MemoryCache
    ledger: Ledger
    contributions: Contributions
    pace: NoticePace
    clocks: GoalClocks
    events: MemoryEvents

    @property
    def context(self) -> WorkerContext:
        return WorkerContext(
            settings=self.settings,
            clock=self.clock,
            bus=self.bus,
            queue=self.queue,
            recorder=self.recorder,
            notifier=self.notifier,
            store=self.store,
            rtc=self.rtc,
            cutter=self.cutter,
            cache=self.cache,
            ledger=self.ledger,
            contributions=self.contributions,
            pace=self.pace,
            clocks=self.clocks,
            events=self.events,
        )

    async def everything(self) -> dict[str, list[Any]]:
        """Every stored document, by collection: what "changes nothing" is compared with."""
        names = sorted(await self.database.list_collection_names())
        # The marks of the transaction that looked at a goal last say nothing of the goal.
        shown = {"batch_id": 0, "decided_at": 0}
        found = {name: await self.database[name].find({}, shown).sort("_id", 1).to_list(None) for name in names}
        return {name: documents for name, documents in found.items() if documents}


def settings_with(**values: Any) -> Settings:
    """Settings of which only `values` matter, whatever the environment says."""
    return Settings(
        mongodb_url="mongodb://127.0.0.1/unused", redis_url="redis://127.0.0.1", **{"recording": "on", **values}
    )


def _mend_mongomock() -> None:
    """Six things that it cannot do.

    PyMongo hands `sort` to a bulk update also where none is asked for: mongomock 4.3 does not know the word. And a collection
    with other options is not asynchronous any more: here no write waits for a disk anyway, so it is the same collection. And
    `$type` knows neither a list of types nor those that no test stores. And a change stream is refused, as by a server that
    is no replica set. `$convert` makes no whole numbers. And it has no indexes to be named: of what `promises_due` leads to,
    the sweep asks for the entries without a time.
    """
    builder: Any = BulkOperationBuilder
    collection: Any = AsyncMongoMockCollection
    known = builder.add_update

    def add_update(self: BulkOperationBuilder, *args: Any, sort: Any = None, **kwargs: Any) -> None:
        assert sort is None, "mongomock cannot sort"
        known(self, *args, **kwargs)

    def refuse_watch(self: object, *args: object, **options: object) -> NoReturn:
        raise OperationFailure("The $changeStream stage is only supported on replica sets", 40573)

    builder.add_update = add_update
    collection.with_options = lambda self, **options: self
    collection.watch = refuse_watch
    one_of: Any = filtering._type_op

    def type_of(value: Any, types: Any, in_array: bool = False) -> bool:
        names = types if isinstance(types, list) else [types]
        return any(one_of(value, name, in_array) for name in names if filtering.TYPE_MAP[name] is not None)

    parser: Any = aggregate._Parser
    find, converted = collection.find, parser._handle_type_convertion_operator

    def convert(self: Any, operator: str, given: Any) -> object:
        if operator != "$convert":
            return converted(self, operator, given)
        assert given["to"] == "long"
        value = self.parse(given["input"])
        part = whole_part(value)
        return given["onNull"] if value is None else given["onError"] if part is None else part

    def find_by_index(self: Any, *args: Any, hint: Any = None, **options: Any) -> Any:
        if hint is None:
            return find(self, *args, **options)
        where, *others = args
        bounds = options.pop("min"), options.pop("max")
        assert {each["promises.at"] for each in bounds} == {None}
        undated = {"promises": {"$elemMatch": {"at": None, "task": {"$exists": True}}}}
        return find(self, {"$and": [where, undated]}, *others, **options)

    parser._handle_type_convertion_operator = convert
    collection.find = find_by_index
    filtering._type_op = type_of
    filtering._filterer_inst._operator_map["$type"] = type_of


_mend_mongomock()


@cache
def _database() -> Any:
    return AsyncMongoMockClient(tz_aware=True)["goalsvc"]


async def _empty_database() -> Any:
    """The one database of all tests, without a document; binding the documents to it anew takes longer than most tests."""
    database = _database()
    if Goal._document_settings is None or Goal.get_settings().motor_db is not database:
        await init_beanie(database=database, document_models=list(DOCUMENTS))
    for name in await database.list_collection_names():
        await database[name].delete_many({})
    return database


@asynccontextmanager
async def open_stage(receivers: Sequence[Receiver] = RECEIVERS, **values: Any) -> AsyncIterator[Stage]:
    """An empty database in memory, bound to the documents, and a context of fakes around it."""
    database = await _empty_database()
    clock = FakeClock()
    yield Stage(
        database=database,
        clock=clock,
        settings=settings_with(**values),
        bus=SignalBus(receivers),
        queue=MemoryQueue(),
        recorder=MemoryRecorder(),
        notifier=RecordedNotifier(),
        store=MemoryStore(),
        rtc=RecordedRtc(),
        cutter=RecordedCutter(),
        cache=MemoryCache(),
        ledger=Ledger(Snapshots(database)),
        contributions=Contributions(Snapshots(database), clock.now, allow_self_payment=False),
        pace=NoticePace(),
        clocks=GoalClocks(clock),
        events=MemoryEvents(),
    )
