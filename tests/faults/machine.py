"""The simulated network between goalsvc's processes and everything outside: it takes time, breaks, loses and repeats.

Here are the database connection (Motor's signatures over a database that answers at once), Redis with a worker on it, and
emulators for Pusher, S3, BytePlus and ffmpeg. How bad it all is says `Faults`; `heal` ends it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, Protocol, TypeVar

from arq.jobs import deserialize_job
from pymongo.errors import AutoReconnect, OperationFailure

from goalsvc.clock import to_epoch_milliseconds, whole_milliseconds
from goalsvc.context import Telling, WorkerContext
from goalsvc.domain.clips import Clip
from goalsvc.domain.lanes import Lane
from goalsvc.domain.promises import Job
from goalsvc.errors import ClipImpossibleError, ExternalServiceError, GoalsvcError, NotYetError, ServiceDownError
from goalsvc.integrations.breaker import Breaker
from goalsvc.tasks.arq_queue import body_of, deserialize, job_of
from goalsvc.tasks.runner import Runner
from tests.support.services import each_singly

from .loop import PROCESS, Process

T = TypeVar("T")
Document = dict[str, Any]

#: How far the clock of a process is off at most.
MOST_SKEW_SECONDS = 5.0
#: When every history begins.
START = datetime(2026, 3, 1, 20, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class VirtualClock:
    """Shows the time of the loop that runs, or that of a host whose clock is off by so many seconds."""

    off_seconds: float = 0.0

    def now(self) -> datetime:
        return whole_milliseconds(START + timedelta(seconds=asyncio.get_running_loop().time() + self.off_seconds))


@dataclass(slots=True)
class Faults:
    """How bad it is: probabilities from 0 to 1 for each call, unless said otherwise."""

    # webhooks
    duplicated: float = 0.0
    lost: float = 0.0
    late: float = 0.0
    batched: float = 0.0
    # processes: how many steps one makes before it dies, on average; 0: it lives
    api_steps: int = 0
    worker_steps: int = 0
    # jobs
    job_lost: float = 0.0
    job_doubled: float = 0.0
    job_delayed: float = 0.0
    emptied: int = 0
    # the database; a process that dies right after a commit; one that is restored from a backup
    killed_after_commit: float = 0.0
    restored: int = 0
    connection_breaks: float = 0.0
    transaction_conflicts: float = 0.0
    # Pusher, S3, BytePlus, ffmpeg: single calls fail; a service refuses everything; one hangs or fails as a whole for minutes
    refused: float = 0.0
    outages: int = 0
    down: int = 0
    # Redis takes nothing more; it is as it was some time ago
    full: int = 0
    stale: int = 0
    # by how many seconds the clocks of the processes are off at most
    skew: float = 0.0

    @classmethod
    def random(cls, random: Random) -> "Faults":
        """Each fault is there in half of the histories, and then more or less of it."""

        def some(most: float) -> float:
            return random.choice([0.0, random.uniform(0.0, most)])

        return cls(
            duplicated=some(0.5),
            lost=some(0.4),
            late=some(0.6),
            batched=some(1.0),
            api_steps=random.choice([0, random.randrange(20, 800)]),
            worker_steps=random.choice([0, random.randrange(50, 3000)]),
            job_lost=some(0.3),
            job_doubled=some(0.3),
            job_delayed=some(0.3),
            emptied=random.choice([0, random.randrange(1, 4)]),
            connection_breaks=some(0.03),
            transaction_conflicts=some(0.3),
            refused=some(0.5),
            outages=random.choice([0, random.randrange(1, 4)]),
            down=random.choice([0, random.randrange(1, 3)]),
            full=random.choice([0, random.randrange(1, 3)]),
            stale=random.choice([0, random.randrange(1, 3)]),
            skew=random.choice([0.0, MOST_SKEW_SECONDS]),
            killed_after_commit=some(0.05),
            restored=int(random.random() < 0.1),
        )

    def heal(self) -> None:
        """From now on nothing breaks."""
        for name in self.__slots__:
            setattr(self, name, type(getattr(self, name))(0))


class Network:
    """What everything that leaves a process goes through."""

    def __init__(self, random: Random, faults: Faults) -> None:
        self.random = random
        self.faults = faults

    async def travel(self) -> None:
        """Takes a moment, now and then a longer one."""
        await asyncio.sleep(self.random.uniform(0.0002, 0.004) if self.random.random() < 0.97 else 0.2)

    def strikes(self, probability: float) -> bool:
        """Whether a fault of that probability happens now."""
        return probability > 0 and self.random.random() < probability


# -- the database -------------------------------------------------------------------------------------------------------


class DatabaseInside(Protocol):
    """A database whose calls are answered at once: `memory.MemoryDatabase`, or a real mongod without asyncio."""

    def __getitem__(self, name: str) -> Any: ...
    def begin(self) -> Any: ...
    def commit(self, session: Any) -> None: ...
    def abort(self, session: Any) -> None: ...
    def clear(self) -> None: ...
    def saved(self) -> Mapping[str, Mapping[Any, Document]]: ...
    def restore(self, saved: Mapping[str, Mapping[Any, Document]]) -> None: ...
    def peek(self, name: str) -> Mapping[Any, Document]: ...
    def contents(self) -> dict[str, list[Document]]: ...


Watcher = Callable[[], None]
#: MongoDB's transactionLifetimeLimitSeconds.
_LONGEST_TRANSACTION_SECONDS = 60.0


class Connection:
    """The way to the database. Calls of a transaction are let through, others wait for its end."""

    def __init__(self, network: Network, inside: DatabaseInside) -> None:
        self._network = network
        self._inside = inside
        self._open: Session | None = None
        self._ended: asyncio.Event | None = None
        #: Called after every call that may have changed something.
        self.watchers: list[Watcher] = []
        #: Called after every transaction that was committed: transfers are made in transactions only.
        self.on_commit: list[Watcher] = []
        self.calls = 0
        self.wrong: list[str] = []
        """Transactions that were still open after a minute, which MongoDB aborts: they wait for themselves."""

    def __getitem__(self, name: str) -> "Collection":
        return Collection(self, self._inside[name])

    async def until_no_transaction(self) -> None:
        """Returns when none is open."""
        await self._until_free(None)

    @property
    def admin(self) -> SimpleNamespace:
        """The database of commands: of a client that has gone, the server has ended all transactions by itself."""

        async def nothing(_pipeline: Any) -> AsyncIterator[Document]:
            await self._network.travel()
            empty: tuple[Document, ...] = ()
            for document in empty:
                yield document

        return SimpleNamespace(aggregate=nothing)

    async def call(self, work: Callable[[Any], T], session: "Session | None" = None) -> T:
        """One round trip: there, `work(session)` at one instant, and back. It may break on either way."""
        self.calls += 1
        await self._network.travel()
        await self._until_free(session)
        faults = self._network.faults
        if session is None and self._network.strikes(faults.connection_breaks):
            raise AutoReconnect("simulated: the connection broke before the call")
        try:
            result = work(session.token if session is not None else None)
        finally:
            if session is None:
                self._tell()
        await self._network.travel()
        if session is None and self._network.strikes(faults.connection_breaks):
            raise AutoReconnect("simulated: the connection broke after the call")
        return result

    async def start_session(self, *, snapshot: bool = False) -> "Session":
        """As Motor's client does. (Nothing else goes on while the books are audited here, so a snapshot is what there is.)"""
        await self._network.travel()
        return Session(self, self._network)

    async def begin(self, session: "Session") -> Any:
        """Waits until no transaction is open, and opens one."""
        await self._until_free(session)
        self._open, self._ended = session, asyncio.Event()
        if (process := PROCESS.get()) is not None:
            # Of a client that has gone the server aborts what it left open.
            process.on_death.append(lambda: self.end(session, self._inside.abort))
        return self._inside.begin()

    def end(self, session: "Session", how: Callable[[Any], None]) -> None:
        """Commits or aborts the session's transaction, if it is still open."""
        if self._open is not session or self._ended is None:
            return
        how(session.token)
        self._open = None
        self._ended.set()
        self._tell()

    def commit(self, session: "Session") -> None:
        self.end(session, self._inside.commit)
        for watcher in self.on_commit:
            watcher()

    def abort(self, session: "Session") -> None:
        self.end(session, self._inside.abort)

    async def _until_free(self, session: "Session | None") -> None:
        while self._ended is not None and (held := self._open) is not None and held is not session:
            try:
                async with asyncio.timeout(_LONGEST_TRANSACTION_SECONDS):
                    await self._ended.wait()
            except TimeoutError:
                if self._open is held:
                    self.wrong.append("a transaction was open for a minute: something in it does not take its session")
                    self.abort(held)

    def _tell(self) -> None:
        for watcher in self.watchers:
            watcher()


class Session:
    """A client session with its one transaction at a time, as `goalsvc.models.database.Database` uses it."""

    def __init__(self, connection: Connection, network: Network) -> None:
        self._connection = connection
        self._network = network
        self.token: Any = None
        self.in_transaction = False  # a cancelled one is aborted at once

    async def __aenter__(self) -> "Session":
        return self

    async def __aexit__(self, *_error: object) -> None:
        return None

    @asynccontextmanager
    async def start_transaction(self) -> AsyncIterator[None]:
        """A transaction. It may meet another that is not there, and be undone; or its commit's answer may be lost."""
        self.token = await self._connection.begin(self)
        try:
            yield
        except BaseException:
            self._connection.abort(self)
            raise
        await self._network.travel()
        if self._network.strikes(self._network.faults.transaction_conflicts):
            self._connection.abort(self)
            labels = {"errorLabels": ["TransientTransactionError"]}
            raise OperationFailure("simulated: another transaction was in the way", 112, labels)
        self._connection.commit(self)
        if (process := PROCESS.get()) is not None and self._network.strikes(self._network.faults.killed_after_commit):
            process.kill()
        await self._network.travel()
        if self._network.strikes(self._network.faults.connection_breaks):
            raise AutoReconnect("simulated: the commit's answer was lost")


class Collection:
    """Motor's signatures over a collection that answers at once."""

    def __init__(self, connection: Connection, inside: Any) -> None:
        self._connection = connection
        self._inside = inside

    @property
    def database(self) -> SimpleNamespace:
        """As Motor's: it knows its client."""
        return SimpleNamespace(client=self._connection)

    def _call(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Awaitable[Any]:
        session = options.pop("session", None)
        method = getattr(self._inside, name)
        return self._connection.call(lambda token: method(*args, **options, session=token), session)

    def find_one(self, *args: Any, **options: Any) -> Awaitable[Any]:
        return self._call("find_one", args, options)

    def count_documents(self, *args: Any, **options: Any) -> Awaitable[Any]:
        return self._call("count_documents", args, options)

    def find_one_and_update(self, *args: Any, **options: Any) -> Awaitable[Any]:
        return self._call("find_one_and_update", args, options)

    def insert_one(self, *args: Any, **options: Any) -> Awaitable[Any]:
        return self._call("insert_one", args, options)

    def insert_many(self, *args: Any, **options: Any) -> Awaitable[Any]:
        return self._call("insert_many", args, options)

    def update_one(self, *args: Any, **options: Any) -> Awaitable[Any]:
        return self._call("update_one", args, options)

    def update_many(self, *args: Any, **options: Any) -> Awaitable[Any]:
        return self._call("update_many", args, options)

    def bulk_write(self, *args: Any, **options: Any) -> Awaitable[Any]:
        return self._call("bulk_write", args, options)

    def with_options(self, **_options: Any) -> "Collection":
        return self  # there is but one member: every write concern is met at once

    def find(self, filter: Any = None, projection: Any = None, **options: Any) -> "Cursor":
        return Cursor(self._connection, self._inside, filter, projection, options)

    def aggregate(self, pipeline: Any, **options: Any) -> "Cursor":
        return Cursor(self._connection, self._inside, pipeline, None, options, name="aggregate")


class Cursor:
    """What a find gives: all that it matched at the instant when it was first read."""

    def __init__(
        self, connection: Connection, inside: Any, what: Any, projection: Any, options: Any, name: str = "find"
    ) -> None:
        self._connection, self._inside, self._name = connection, inside, name
        self._what, self._projection, self._options = what, projection, dict(options)
        self._session = self._options.pop("session", None)
        self._found: list[Document] | None = None

    def sort(self, field: str | list[tuple[str, int]], direction: int = 1) -> "Cursor":
        self._options["sort"] = [(field, direction)] if isinstance(field, str) else field
        return self

    def limit(self, most: int) -> "Cursor":
        self._options["limit"] = most
        return self

    def max_time_ms(self, _: int) -> "Cursor":
        """A question here takes no time."""
        return self

    async def to_list(self, length: int | None = None) -> list[Document]:
        found = await self._read()
        taken, self._found = found[:length], found[len(found[:length]) :]
        return taken

    def __aiter__(self) -> "Cursor":
        return self

    async def __anext__(self) -> Document:
        found = await self._read()
        if not found:
            raise StopAsyncIteration
        return found.pop(0)

    async def _read(self) -> list[Document]:
        if self._found is None:
            if self._name == "find":
                options = {name: value for name, value in self._options.items() if value is not None}
                self._found = await self._connection.call(
                    lambda token: list(self._inside.find(self._what, self._projection, **options, session=token)),
                    self._session,
                )
            else:
                self._found = await self._connection.call(
                    lambda token: list(self._inside.aggregate(self._what, session=token)), self._session
                )
        return self._found  # type: ignore[return-value]


# -- Redis and the worker -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class QueuedJob:
    """A job in Redis, as arq keeps it: its body, when it is due, how often it was tried, and whose it is at the moment."""

    body: bytes
    due: float
    tried: int = 0
    leased_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Backup:
    """What Redis held at some moment."""

    jobs: Mapping[str, QueuedJob]
    swept: Mapping[Lane, tuple[datetime, float]]


class SimulatedRedis:
    """Redis, as far as the queue is concerned."""

    LEASE_SECONDS = 12.0

    def __init__(self, network: Network) -> None:
        self._network = network
        self.jobs: dict[str, QueuedJob] = {}
        #: By lane: until when its promises have been looked at, and when that is forgotten.
        self.swept: dict[Lane, tuple[datetime, float]] = {}
        #: Until when it is full (`noeviction`): it takes nothing new, and what it holds can be claimed and finished.
        self.full_until = 0.0
        #: Every job that was ever put in, as it was then.
        self.ever: dict[str, QueuedJob] = {}
        self.claimed = 0
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def is_full(self) -> bool:
        return asyncio.get_running_loop().time() < self.full_until

    def put(self, job: Job, now: datetime) -> None:
        """Takes the job unless one of its id waits or runs."""
        faults = self._network.faults
        if self.is_full or job.id in self.jobs or self._network.strikes(faults.job_lost):
            return
        time = asyncio.get_running_loop().time()
        # What is written is for how long it waits: only this server's clock counts.
        due = time if job.due_at is None else time + max(0.0, (job.due_at - now).total_seconds())
        if self._network.strikes(faults.job_delayed):
            due += self._network.random.uniform(0.0, 15.0)
        self.jobs[job.id] = QueuedJob(body_of(job, to_epoch_milliseconds(now)), due)
        self.ever[job.id] = replace(self.jobs[job.id])
        self._wake()

    def claim(self) -> list[tuple[Job, int]]:
        """The jobs that are due and that nobody runs, each with the number of this try; sometimes one of them twice."""
        time = asyncio.get_running_loop().time()
        claimed: list[tuple[Job, int]] = []
        for job_id, queued in list(self.jobs.items()):
            if queued.due <= time and queued.leased_until <= time:
                queued.leased_until, queued.tried = time + self.LEASE_SECONDS, queued.tried + 1
                read = deserialize_job(queued.body, deserializer=deserialize)
                job = job_of(job_id, read.function, read.kwargs)
                times = 2 if self._network.strikes(self._network.faults.job_doubled) else 1
                claimed += [(job, queued.tried)] * times
                self.claimed += times
        return claimed

    def renew(self, job_ids: Iterable[str]) -> None:
        """Keeps running jobs leased."""
        for job_id in job_ids:
            if job_id in self.jobs:
                self.jobs[job_id].leased_until = asyncio.get_running_loop().time() + self.LEASE_SECONDS

    def finish(self, job_id: str) -> None:
        """Forgets a job that is done."""
        self.jobs.pop(job_id, None)

    def retry(self, job_id: str, after_seconds: float, failed: bool) -> None:
        """Lets the job be run again later; a run that only waited is no try."""
        if (queued := self.jobs.get(job_id)) is not None:
            queued.tried -= not failed
            queued.due, queued.leased_until = asyncio.get_running_loop().time() + after_seconds, 0.0
            self._wake()

    def empty(self) -> None:
        """FLUSHALL."""
        self.jobs.clear()
        self.swept.clear()

    def backup(self) -> "Backup":
        """What it holds now, as its own file on the disk has it."""
        return Backup({name: replace(job) for name, job in self.jobs.items()}, dict(self.swept))

    def restore(self, backup: "Backup") -> None:
        """Holds what it held then, and nothing else."""
        self.jobs = {name: replace(job) for name, job in backup.jobs.items()}
        self.swept = dict(backup.swept)
        self._wake()

    def swept_until(self, lane: Lane) -> datetime | None:
        until, forgotten_at = self.swept.get(lane, (None, 0.0))
        return until if asyncio.get_running_loop().time() < forgotten_at else None

    def note_swept(self, lane: Lane, until: datetime, whole_again_seconds: float | None) -> None:
        _, forgotten_at = self.swept.get(lane, (None, 0.0))
        time = asyncio.get_running_loop().time()
        if whole_again_seconds is not None:
            self.swept[lane] = until, time + whole_again_seconds
        elif time < forgotten_at:
            self.swept[lane] = until, forgotten_at

    async def news(self) -> None:
        """Waits until there may be something to claim."""
        loop = asyncio.get_running_loop()
        waiting = loop.create_future()
        self._waiting.append(waiting)
        times = [max(queued.due, queued.leased_until) for queued in self.jobs.values()]
        if times:
            loop.call_at(max(min(times), loop.time()), lambda: waiting.done() or waiting.set_result(None))  # type: ignore[func-returns-value]
        await waiting

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)


class SimulatedQueue:
    """A process's side of the queue: jobs wait in its memory for the next write, and die with it."""

    def __init__(self, redis: SimulatedRedis, network: Network, clock: VirtualClock) -> None:
        self._redis, self._network, self._clock = redis, network, clock
        self._buffer: list[Job] = []
        self._writer: asyncio.Task[None] | None = None

    def enqueue(self, job: Job) -> None:
        self._buffer.append(job)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def flush(self) -> None:
        if self._writer is not None and not self._writer.done():
            await asyncio.shield(self._writer)

    async def offer(self, _lane: Lane, jobs: Sequence[Job]) -> bool:
        await self._network.travel()
        if self._redis.is_full:
            return False
        for job in jobs:
            self._redis.put(job, self._clock.now())
        return True

    async def swept_until(self, lane: Lane) -> datetime | None:
        await self._network.travel()
        return self._redis.swept_until(lane)

    async def note_swept(self, lane: Lane, until: datetime, whole_again_seconds: float | None) -> None:
        await self._network.travel()
        self._redis.note_swept(lane, until, whole_again_seconds)

    async def _write(self) -> None:
        while self._buffer:
            batch, self._buffer = self._buffer, []
            await self._network.travel()
            for job in batch:
                self._redis.put(job, self._clock.now())


class SimulatedWorker:
    """What `goalsvc.worker` does around the runner."""

    def __init__(
        self, process: Process, context: WorkerContext, redis: SimulatedRedis, runner: Runner, network: Network
    ):
        self._process, self._context, self._redis, self._runner = process, context, redis, runner
        self._network = network
        self.running: list[str] = []

    async def work(self) -> None:
        """Runs jobs for as long as the process lives."""
        self._process.start(self._keep_leases())
        while True:
            for job, tried in self._redis.claim():
                self.running.append(job.id)
                self._process.start(self._run(job, tried))
            await self._redis.news()

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(SimulatedRedis.LEASE_SECONDS / 3)
            self._redis.renew(self.running)

    async def _run(self, job: Job, tried: int) -> None:
        again = None
        try:
            again = await self._runner.run(self._context, job, tried)
        except Exception:  # as arq: the job failed for good; its promise is still there
            again = None
        await self._network.travel()
        self.running.remove(job.id)
        if again is not None:
            self._redis.retry(job.id, max(again.after_seconds, 0.001), again.failed)
        else:
            self._redis.finish(job.id)


# -- services -------------------------------------------------------------------------------------------------------------


class Service:
    """A service that we call: it takes a moment, refuses, or does it and loses the answer.

    At times it refuses everything; at times it does not work as a whole, that is, it hangs or fails.
    """

    def __init__(self, name: str, network: Network, patience_seconds: float = 5.0) -> None:
        self._name, self._network = name, network
        #: How long a client waits for an answer.
        self._patience_seconds = patience_seconds
        self.away_until = 0.0
        self.down_until = 0.0
        #: While it does not work: whether it takes calls and never answers, rather than fail at once.
        self.hangs = False
        self._breakers: dict[Process | None, Breaker] = {}

    async def call(self, effect: Callable[[], None]) -> None:
        """Does it, or fails with ExternalServiceError, or both. Each process has a breaker for the service."""
        loop, process = asyncio.get_running_loop(), PROCESS.get()
        if process not in self._breakers:
            self._breakers[process] = Breaker(self._name, loop.time)
        breaker, begun = self._breakers[process], loop.time()
        breaker.begin()
        error: BaseException | None = None
        try:
            await self._call(effect)
        except BaseException as raised:
            error = raised
            raise
        finally:
            breaker.end(loop.time() - begun, error)

    async def _call(self, effect: Callable[[], None]) -> None:
        await self._network.travel()
        if asyncio.get_running_loop().time() < self.down_until:
            if self.hangs:
                await asyncio.sleep(self._patience_seconds)
            raise ServiceDownError(self._name, "simulated: does not work")
        if asyncio.get_running_loop().time() < self.away_until or self._network.strikes(self._network.faults.refused):
            raise ExternalServiceError(self._name, "simulated: refused")
        effect()
        await self._network.travel()
        if self._network.strikes(self._network.faults.refused / 2):
            raise ExternalServiceError(self._name, "simulated: the answer was lost")


@dataclass(frozen=True, slots=True)
class Told:
    """A notice that Pusher took."""

    channels: tuple[str, ...]
    event: str
    data: Mapping[str, Any]


class SimulatedPusher(Service):
    """Takes notices."""

    def __init__(self, network: Network, clock: "VirtualClock") -> None:
        super().__init__("pusher", network, patience_seconds=2.0)
        self._clock = clock
        #: By channel: when it was asked about last, and the answer.
        self.asked: dict[str, tuple[int, set[str]]] = {}
        self.told: list[Told] = []
        #: Who is in which channel, whatever was told of it.
        self.present: dict[str, set[str]] = {}

    async def trigger(self, channels: Sequence[str], event: str, data: Mapping[str, Any]) -> None:
        await self.call(lambda: self.told.append(Told(tuple(channels), event, data)))

    async def trigger_each(self, tellings: Sequence[Telling]) -> Mapping[int, GoalsvcError]:
        """Hands over each by `trigger`, one after another."""
        return await each_singly(self.trigger, tellings)

    async def users_in(self, channel: str) -> list[str]:
        users = set[str]()
        await self.call(lambda: users.update(self.present.get(channel, ())))
        self.asked[channel] = to_epoch_milliseconds(self._clock.now()), users
        return sorted(users)

    async def occupied(self, prefix: str) -> dict[str, int] | None:
        await self.call(lambda: None)
        return {name: len(users) for name, users in self.present.items() if users and name.startswith(prefix)}


class SimulatedRtc(Service):
    """Records rooms. As BytePlus: what runs already is not started again, what does not run cannot be stopped; no errors."""

    def __init__(self, network: Network) -> None:
        super().__init__("byteplus", network)
        self.recording: set[str] = set()
        self.started: list[str] = []
        self.stopped: list[str] = []
        self.snapshots: list[str] = []

    async def start_record(self, room_id: str, task_id: str) -> None:
        def effect() -> None:
            if task_id not in self.recording:
                self.started.append(task_id)
            self.recording.add(task_id)

        await self.call(effect)

    async def stop_record(self, room_id: str, task_id: str) -> None:
        def effect() -> None:
            if task_id in self.recording:
                self.stopped.append(task_id)
            self.recording.discard(task_id)

        await self.call(effect)

    async def start_snapshot(self, room_id: str, task_id: str) -> None:
        await self.call(lambda: self.snapshots.append(task_id) if task_id not in self.snapshots else None)


class SimulatedStore(Service):
    """Keeps the keys of what was stored, with how often."""

    def __init__(self, network: Network) -> None:
        super().__init__("s3", network)
        self.stored: dict[str, int] = {}

    async def upload(self, key: str, path: Path, content_type: str) -> None:
        await self.call(lambda: self.stored.__setitem__(key, self.stored.get(key, 0) + 1))

    async def link(self, key: str, seconds: int) -> str:
        return f"https://s3.invalid/{key}?expires={seconds}"


@dataclass(slots=True)
class SimulatedCutter:
    """Cuts clips that are this very file; the stream lags behind now and then."""

    service: Service
    cuts: list[tuple[datetime, float]] = field(default_factory=list)

    @asynccontextmanager
    async def cut(
        self, hls_url: str, begins_at: datetime, duration_seconds: float, *, latest_begin: datetime | None = None
    ) -> AsyncIterator[Clip]:
        if not hls_url:
            raise ClipImpossibleError("no address")
        if VirtualClock().now() < begins_at + timedelta(seconds=duration_seconds):
            raise NotYetError("simulated: not streamed yet", 2.0)
        await self.service.call(lambda: self.cuts.append((begins_at, duration_seconds)))
        yield Clip(Path(__file__), begins_at, duration_seconds, "program_date_time")


@dataclass(slots=True)
class SimulatedCache:
    """Forgets views, which takes a moment."""

    network: Network

    async def drop(self, names: Sequence[str]) -> None:
        await self.network.travel()


class Records:
    """Keeps tracking events by id; traces are let go."""

    def __init__(self) -> None:
        self.tracked: dict[str, Mapping[str, Any]] = {}

    def trace(self, segment: Mapping[str, Any]) -> None:
        return

    def track(self, event: Mapping[str, Any]) -> None:
        self.tracked.setdefault(event["_id"], dict(event))

    async def flush(self) -> None:
        return
