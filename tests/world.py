"""The world in which stories are played: the real app, signals, receivers, tasks, database and cache, and one fake clock.

Everything outside is a fake that keeps what it was told. A story reads as given / when / then:

```python
show = await world.given(a_funded_show(seconds=360, earnings=3))
await world.performer_joins(show)
await world.after(seconds=400)
await world.performer_leaves(show)
await world.settle()
assert world.balance(show.streamer) == show.escrow
```

Jobs are run in the test's own process, one after the other, by the real Runner (`InProcessQueue`), which can be told to
lose jobs or to run them twice; or by real workers on the real Valkey (`WorkersOnValkey`).
"""

import asyncio
import hmac
import json
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from time import monotonic
from typing import Any, Protocol, TypeVar

import httpx
from bson import CodecOptions, ObjectId
from bson.codec_options import DatetimeConversion
from fastapi import FastAPI
from pymongo import MongoClient
from pymongo.errors import ConnectionFailure
from redis.asyncio import Redis

from goalsvc.api.stopping import Stopping
from goalsvc.app import create_app
from goalsvc.clock import SystemClock, to_epoch_milliseconds
from goalsvc.context import ClipCutter, WorkerContext
from goalsvc.domain.books import legs_of
from goalsvc.domain.escrow import escrow_account, user_account
from goalsvc.domain.events import TELLING_OF_TRANSFERS
from goalsvc.domain.lanes import Lane
from goalsvc.domain.promises import Job
from goalsvc.integrations.breaker import Breakers
from goalsvc.models.database import WITH_PROMISES
from goalsvc.models.keyring import Keyring
from goalsvc.models.migration import prepare_indexes
from goalsvc.settings import Settings
from goalsvc.tasks import ALL as TASKS
from goalsvc.tasks.arq_queue import ArqQueue, deserialize, serialize
from goalsvc.tasks.arq_worker import LaneWorker
from goalsvc.tasks.runner import Runner, TryAgain
from goalsvc.tasks.signing import JobSigner
from goalsvc.wiring import open_worker_context
from goalsvc.worker import lane_workers
from tests.support.books import BOOKS, findings_of
from tests.support.queues import AlwaysSweptWhole
from tests.support.services import MemoryStore, RecordedCutter, RecordedNotifier, RecordedRtc

from .models.oracle import Happening, Kind, Who, seconds_counted

T = TypeVar("T")
Document = dict[str, Any]
Scene = Callable[["World"], Awaitable[T]]

#: When every story begins.
START = datetime(2026, 3, 1, 20, 0, tzinfo=UTC)
PUSHER_KEY, PUSHER_SECRET = "world-key", "world-secret"
API_KEY = "world-api-key"

#: More turns than this are no settling any more: something goes round in circles.
MOST_TURNS = 500
#: How long real workers may take to have nothing left to do.
REAL_SECONDS = 60.0

SENDERS: Mapping[str, Kind] = {
    "member_added": "join",
    "channel_occupied": "join",
    "member_removed": "leave",
    "channel_vacated": "leave",
}


class FakeClock:
    """Shows the time that the story has come to."""

    def __init__(self, at: datetime = START) -> None:
        self._at = at

    def now(self) -> datetime:
        return self._at

    def move_on(self, seconds: float) -> None:
        """Lets so many seconds pass, at least a millisecond."""
        self._at += timedelta(milliseconds=max(1, math.ceil(seconds * 1000)))

    def move_to(self, instant: datetime) -> None:
        """Lets time pass until that instant, unless it is past."""
        if instant > self._at:
            self.move_on((instant - self._at).total_seconds())


# -- who does the work ------------------------------------------------------------------------------------------------


class Workers(Protocol):
    """Whoever runs the jobs."""

    async def work(self, context: WorkerContext) -> None:
        """Runs what is due, and what follows from it at once, until nothing is left that is due now."""
        ...

    def next_retry_at(self) -> datetime | None:
        """When the first of those jobs is due that failed, or had to wait, and are to be run again."""
        ...

    def next_due_at(self) -> datetime | None:
        """When the first of all jobs is due."""
        ...

    def forget_all(self) -> None:
        """Loses all jobs, as when Redis is emptied."""
        ...


@dataclass(slots=True)
class _Waiting:
    job: Job
    due_at: datetime
    tried: int = 0


class InProcessQueue(AlwaysSweptWhole):
    """Runs jobs one after another in this process, oldest first; as faithful as Redis: bodies travel as msgpack, and a
    job whose id waits or runs is not taken twice. It can be told to lose jobs, and to run each one twice at once.
    """

    def __init__(self, clock: FakeClock, runner: Runner) -> None:
        self._clock, self._runner = clock, runner
        self._waiting: dict[str, _Waiting] = {}
        self._running: set[str] = set()
        self._to_lose: Counter[str] = Counter()
        self.lost: list[Job] = []
        self.twice = False
        """Whether every job is run twice, side by side."""
        self.at_once = 1
        """How many jobs are run side by side."""
        self.done: list[Job] = []
        """All jobs that were run, in order."""

    def lose(self, task: str, times: int = 1) -> None:
        """Loses the next jobs of that task, as a crash between a write and its enqueue does."""
        self._to_lose[task] += times

    @property
    def waiting(self) -> list[Job]:
        """All jobs that wait."""
        return [waiting.job for waiting in self._waiting.values()]

    # -- Queue --

    def enqueue(self, job: Job) -> None:
        if self._to_lose[job.task] > 0:
            self._to_lose[job.task] -= 1
            self.lost.append(job)
            return
        if job.id not in self._waiting and job.id not in self._running:
            arguments, then = deserialize(serialize([dict(job.arguments), list(job.then)]))
            now = self._clock.now()
            self._waiting[job.id] = _Waiting(replace(job, arguments=arguments, then=then), max(now, job.due_at or now))

    async def flush(self) -> None:
        """All that was taken is there already."""

    # -- Workers --

    async def work(self, context: WorkerContext) -> None:
        while await self._work(context, self.at_once):
            pass

    async def work_one(self, context: WorkerContext) -> bool:
        """Runs the one job that has been due for longest; whether there was one."""
        return await self._work(context, 1)

    async def _work(self, context: WorkerContext, most: int) -> bool:
        due = [waiting for waiting in self._waiting.values() if waiting.due_at <= self._clock.now()]
        first = sorted(due, key=lambda waiting: waiting.due_at)[:most]
        for waiting in first:  # at once, so that who works beside this takes others
            del self._waiting[waiting.job.id]
            self._running.add(waiting.job.id)
        await asyncio.gather(*(self._run(context, waiting) for waiting in first))
        return bool(first)

    def next_retry_at(self) -> datetime | None:
        return min((waiting.due_at for waiting in self._waiting.values() if waiting.tried), default=None)

    def next_due_at(self) -> datetime | None:
        return min((waiting.due_at for waiting in self._waiting.values()), default=None)

    def forget_all(self) -> None:
        self.lost.extend(waiting.job for waiting in self._waiting.values())
        self._waiting.clear()

    async def _run(self, context: WorkerContext, waiting: _Waiting) -> None:
        job, tried = waiting.job, waiting.tried + 1
        runs = [self._run_once(context, job, tried) for _ in range(2 if self.twice else 1)]
        again = [answer for answer in await asyncio.gather(*runs) if answer is not None]
        self._running.discard(job.id)
        self.done.append(job)
        if again:
            rest = timedelta(seconds=max(answer.after_seconds for answer in again))
            self._waiting[job.id] = _Waiting(job, self._clock.now() + rest, tried)

    async def _run_once(self, context: WorkerContext, job: Job, tried: int) -> TryAgain | None:
        """Runs the job as a worker does: when the database fails the runner meanwhile, it is tried again."""
        try:
            return await self._runner.run(context, job, tried)
        except ConnectionFailure:
            return TryAgain(1.0)


class WorkersOnValkey(AlwaysSweptWhole):
    """Real workers on the real Valkey. Jobs that are due later by the story's clock are held back until it gets there."""

    def __init__(self, clock: FakeClock, redis: Redis) -> None:
        self._clock, self._redis = clock, redis
        self._signer = JobSigner([API_KEY])
        self._inner = ArqQueue(redis, TASKS, SystemClock(), self._signer)
        self._held_back: dict[str, Job] = {}
        self._workers: list[LaneWorker] = []

    @asynccontextmanager
    async def working(self, context: WorkerContext, runner: Runner, breakers: Breakers) -> AsyncIterator[None]:
        """Runs a worker for each lane. What is run by the clock is run by the story, whose clock it is."""
        self._workers = lane_workers(context, self._redis, runner, self._signer, tuple(Lane), breakers)
        running = [asyncio.create_task(worker.run(), name=worker.lane.value) for worker in self._workers]
        try:
            yield
        finally:
            await asyncio.gather(*(worker.stop(5.0) for worker in self._workers))
            await asyncio.gather(*running, return_exceptions=True)

    # -- Queue --

    def enqueue(self, job: Job) -> None:
        if job.due_at is not None and job.due_at > self._clock.now():
            self._held_back.setdefault(job.id, job)
        else:
            self._inner.enqueue(replace(job, due_at=None))

    async def flush(self) -> None:
        await self._inner.flush()

    # -- Workers --

    async def work(self, context: WorkerContext) -> None:
        deadline = monotonic() + REAL_SECONDS
        while True:
            for job in [job for job in self._held_back.values() if job.due_at and job.due_at <= self._clock.now()]:
                del self._held_back[job.id]
                self.enqueue(job)
            await self.flush()
            queued = [await self._redis.zcard(lane.queue) for lane in Lane]
            if not any(queued) and not any(worker.running for worker in self._workers):
                return
            assert monotonic() < deadline, f"workers are still busy after {REAL_SECONDS:g} s: {queued}"
            await asyncio.sleep(0.005)

    def next_retry_at(self) -> datetime | None:
        return None  # arq defers these by the machine's clock; `work` waits for them

    def next_due_at(self) -> datetime | None:
        return min((job.due_at for job in self._held_back.values() if job.due_at), default=None)

    def forget_all(self) -> None:
        self._held_back.clear()


# -- what a webhook tells ---------------------------------------------------------------------------------------------


class Performed(Protocol):
    """What can be joined and left: a goal that is performed."""

    @property
    def id(self) -> str: ...
    @property
    def streamer(self) -> str: ...


Wire = Mapping[str, Any]


def channel_of(goal: Performed) -> str:
    return f"presence-enc-goal@{goal.id}"


def joined(goal: Performed, user: str | None = None) -> Wire:
    """That user, or the performer, has joined the goal's channel."""
    return {"name": "member_added", "channel": channel_of(goal), "user_id": user or goal.streamer}


def left(goal: Performed, user: str | None = None) -> Wire:
    """That user, or the performer, has left the goal's channel."""
    return {"name": "member_removed", "channel": channel_of(goal), "user_id": user or goal.streamer}


def occupied(goal: Performed) -> Wire:
    """The twin of the first join: the channel is not empty any more."""
    return {"name": "channel_occupied", "channel": channel_of(goal)}


def vacated(goal: Performed) -> Wire:
    """The twin of the last leave: the channel is empty."""
    return {"name": "channel_vacated", "channel": channel_of(goal)}


# -- the world --------------------------------------------------------------------------------------------------------


class World:
    """See the module. What is read for assertions is read straight from the database."""

    def __init__(
        self,
        *,
        context: WorkerContext,
        clock: FakeClock,
        workers: Workers,
        runner: Runner,
        client: httpx.AsyncClient,
        documents: MongoClient[Document],
        redis: Redis,
        notifier: RecordedNotifier,
        rtc: RecordedRtc,
        store: MemoryStore,
        breakers: Breakers,
        app: FastAPI,
    ) -> None:
        self.app = app
        self.context, self.clock, self.redis, self.breakers = context, clock, redis, breakers
        self.notifier, self.rtc, self.store = notifier, rtc, store
        self._workers, self._runner, self._client = workers, runner, client
        self.client = client
        options: CodecOptions[Document] = CodecOptions(
            tz_aware=True, tzinfo=UTC, datetime_conversion=DatetimeConversion.DATETIME_AUTO
        )
        self.database = documents.get_default_database().with_options(options)
        self.arrivals: dict[str, list[Happening]] = {}
        """Joins and leaves by goal, as its clock heard them."""
        self.has_dead_letters = False
        """Whether the story ends with tasks that were given up: what they owed is then not to be asked for."""
        self.expected_findings: set[str] = set()
        """What may be wrong in the books at the end, where a story has escrows without goals."""
        self.turn: Callable[[], AbstractContextManager[None]] = nullcontext
        """What is put around each of goalsvc's turns (`tests.support.drivers`)."""
        self._keys = 0
        self._swept_at = clock.now()

    @property
    def jobs(self) -> InProcessQueue:
        """The queue, where it is the one that can be told to lose and to repeat."""
        assert isinstance(self._workers, InProcessQueue), "this story is played with real workers"
        return self._workers

    # -- given --

    async def given(self, scene: Scene[T]) -> T:
        """Sets the scene."""
        return await scene(self)

    # -- when --

    async def after(self, *, seconds: float) -> None:
        """Lets time pass; nobody works meanwhile."""
        self.clock.move_on(seconds)

    async def performer_joins(self, goal: Performed) -> None:
        await self.hears(joined(goal))

    async def performer_leaves(self, goal: Performed) -> None:
        await self.hears(left(goal))

    async def performs(self, goal: Performed, *, seconds: float) -> None:
        """The performer joins, and leaves after so many seconds."""
        await self.performer_joins(goal)
        await self.after(seconds=seconds)
        await self.performer_leaves(goal)

    async def hears(self, *events: Wire, at: datetime | None = None) -> None:
        """Pusher sends these events in one webhook, dated `at` or now; it is answered by 200."""
        instant = min(at or self.clock.now(), self.clock.now())
        heard = [(event, self._clock_of(event, instant)) for event in events]
        response = await self.webhook({"time_ms": to_epoch_milliseconds(at or self.clock.now()), "events": events})
        assert response.status_code == 200, response.text
        for event, clock in heard:
            self._someone_moved(event)
            if clock is not None:
                goal_id, who = clock
                self.arrivals.setdefault(goal_id, []).append(Happening.at(SENDERS[event["name"]], instant, who))

    def _someone_moved(self, event: Wire) -> None:
        """Lets Pusher answer as its webhooks say, until a test says otherwise."""
        channel, user = str(event["channel"]), event.get("user_id")
        if event["name"] == "channel_vacated":
            self.notifier.users[channel] = []
        elif user is not None and event["name"] in SENDERS:
            others = [each for each in self.notifier.users.get(channel, ()) if each != str(user)]
            self.notifier.users[channel] = [*others, str(user)] if SENDERS[event["name"]] == "join" else others

    async def webhook(self, body: Mapping[str, Any], **more: str) -> httpx.Response:
        """A signed webhook with that body, and more headers; whatever its answer."""
        content = json.dumps(body).encode()
        signature = hmac.new(PUSHER_SECRET.encode(), content, sha256).hexdigest()
        headers = {
            "X-Pusher-Key": PUSHER_KEY,
            "X-Pusher-Signature": signature,
            "Content-Type": "application/json",
        } | more
        with self.turn():
            return await self._client.post("/notify/pusher", content=content, headers=headers)

    async def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, key: str | None = None, **more: str
    ) -> httpx.Response:
        """A call of the API, with more headers; whatever its answer."""
        self._keys += 1
        headers = {"Authorization": f"Bearer {API_KEY}", **more}
        if method == "POST":  # other operations refuse the header
            headers["Idempotency-Key"] = key or f"key-{self._keys}"
        with self.turn():
            return await self._client.request(method, path, json=body, headers=headers)

    async def post(self, path: str, body: Mapping[str, Any] | None = None, *, key: str | None = None) -> Any:
        """A call of the API that succeeds; its answer's body."""
        response = await self.call("POST", path, body, key=key)
        assert response.is_success, f"POST {path}: {response.status_code} {response.text}"
        return response.json()

    async def get(self, path: str) -> Any:
        """What the API shows at that path."""
        response = await self.call("GET", path)
        assert response.is_success, f"GET {path}: {response.status_code} {response.text}"
        return response.json()

    async def deposits(self, user: str, amount: int) -> None:
        await self.post(f"/v1/wallets/{user}/deposits", {"amount": amount})

    async def ends(self, goal: Performed) -> None:
        """Somebody ends the goal by the API."""
        await self.post(f"/v1/goals/{goal.id}/end")

    async def empties_redis(self) -> None:
        """Redis loses everything that it holds."""
        await self.redis.flushall()
        self._workers.forget_all()

    # -- the workers' turn --

    async def work(self) -> None:
        """Lets the workers run what is due now. No time passes, nothing is swept, nothing is tried again."""
        with self.turn():
            await self._workers.work(self.context)
            await self.context.recorder.flush()

    async def work_off(self, jobs: int) -> None:
        """Lets the workers run so many jobs and no more."""
        for _ in range(jobs):
            assert await self.jobs.work_one(self.context), "there are not so many jobs"

    async def settle(self, *, patience: float = 0.0) -> None:
        """Lets the workers work, with all they do by the clock, until the queue is quiet and no promise is due.

        Time passes until what failed is tried again, and until the sweep comes round; `patience` says for how many seconds
        more it may pass until what is due later is due.
        """
        until = self.clock.now() + timedelta(seconds=patience)
        for _ in range(MOST_TURNS):
            await self.work()
            if (retry := self._workers.next_retry_at()) is not None:
                await self._come_to(retry)
                continue
            await self.tick("expire_goals")
            if self._busy():
                continue
            if self.promises_due():
                await self._come_to(self._swept_at + self._sweep_every)
                continue
            following = self._next_at()
            if following is None or following > until:
                self.clock.move_to(until)
                return
            await self._come_to(following)
        raise AssertionError(f"not quiet after {MOST_TURNS} turns; still due: {self.promises_due()}")

    async def _come_to(self, instant: datetime) -> None:
        """Lets time pass until then; the sweep comes round as often as it does."""
        self.clock.move_to(instant)
        if self.clock.now() >= self._swept_at + self._sweep_every:
            self._swept_at = self.clock.now()
            await self.tick("sweep_promises")

    @property
    def _sweep_every(self) -> timedelta:
        return timedelta(seconds=self.context.settings.promise_sweep_seconds)

    async def tick(self, task: str) -> None:
        """Runs a task as the worker's cron does."""
        with self.turn():
            await self._runner.run(self.context, Job(f"cron:{task}", task, {}), 1)
            await self.context.queue.flush()

    def _busy(self) -> bool:
        due = self._workers.next_due_at()
        return due is not None and due <= self.clock.now()

    def _next_at(self) -> datetime | None:
        """When something is to happen next: a job, a promise, the end of a goal's time."""
        owed = [p["at"] for document in self._owing() for p in document["promises"]]
        expiring = [goal["exp"] for goal in self.database.goals.find({"active": True, "exp": {"$exists": True}})]
        return min([*owed, *expiring, *filter(None, [self._workers.next_due_at()])], default=None)

    # -- then --

    def balance(self, user: str) -> int:
        """How many tokens that user has."""
        return self._balance(user_account(user))

    def escrow(self, escrow_id: str) -> int:
        """How many tokens that escrow holds."""
        return self._balance(escrow_account(escrow_id))

    def account(self, account_id: str) -> int:
        """How many tokens that account holds."""
        return self._balance(account_id)

    def goal(self, goal: "Performed | str") -> Document:
        """The goal's document."""
        return self._one("goals", ObjectId(goal if isinstance(goal, str) else goal.id))

    def session(self, session_id: str) -> Document:
        """The session's document."""
        return self._one("sessions", ObjectId(session_id))

    def progress(self, goal: Performed) -> int:
        """The goal's progress."""
        return int(self.goal(goal).get("progress", 0))

    def all(self, collection: str, where: Mapping[str, Any] | None = None) -> list[Document]:
        """Every document of a collection that matches."""
        return list(self.database[collection].find(where or {}).sort("_id"))

    def told(self, event: str) -> list[Mapping[str, Any]]:
        """The data of every notice of that name that clients received."""
        return [notice.data for notice in self.notifier.named(event)]

    def promises_due(self) -> list[str]:
        """What is owed and due, as `task of document`."""
        now = self.clock.now()
        return [
            f"{p['task']} of {owner['_id']}" for owner in self._owing() for p in owner["promises"] if p["at"] <= now
        ]

    async def trace(self, goal: "Performed | str") -> list[Document]:
        """The goal's trace, as the API gives it; it must fit on one page."""
        await self.context.recorder.flush()
        path = f"/v1/goals/{goal if isinstance(goal, str) else goal.id}/trace"
        page = await self.get(path)
        assert page["next"] is None, "the trace has more pages"
        events: list[Document] = page["events"]
        return events

    # -- what always holds --

    async def check_invariants(self) -> None:
        """Asserts what docs/specification.md#promises says is true once the queue is quiet."""
        await self.settle()
        self._check_money()
        self._check_events_of_transfers()
        report = await self.get("/v1/reports/audit")
        assert [each for each in report["findings"] if each["code"] not in self.expected_findings] == []
        assert self.promises_due() == []
        letters = self.all("dead_letters", {"state": "dead"})
        assert self.has_dead_letters or letters == []
        buried = {letter.get("goal_id") for letter in letters}
        for goal in self.all("goals"):
            self._check_progress(goal)
            if str(goal["_id"]) not in buried:
                self._check_milestones(goal)
        if not buried:
            self._check_shares()
        self._check_deaths()

    def _check_deaths(self) -> None:
        """The platform's backend was told of each death of a job (letters that a test writes have no history)."""
        told = Counter(
            each["data"]["dead_letter"]["id"] for each in self.all("events", {"type": "dead_letter.created"})
        )
        for letter in self.all("dead_letters"):
            assert told[letter["_id"]] >= len(letter.get("history", ())), letter["_id"]

    def _check_money(self) -> None:
        """The books are right, and no escrow holds tokens that nothing will free."""
        contents = {name: self.all(name) for name in BOOKS}
        findings = [finding for finding in findings_of(contents) if finding.code not in self.expected_findings]
        assert [finding.message for finding in findings] == []

    def _check_events_of_transfers(self) -> None:
        """A backend that hears events alone knows each transfer, once."""
        log = self.database.events
        position = (self.database.counters.find_one({"_id": "events"}) or {}).get("position", 0)
        if log.count_documents({"sequence": {"$exists": True}}) < position:
            return  # some of them have expired
        shown = [event["data"] for event in log.find({"type": {"$in": list(TELLING_OF_TRANSFERS)}})]
        transfers = [data["transfer"] for data in shown if "transfer" in data]
        told = Counter((each["id"], each["debit"], each["credit"], each["amount"]) for each in transfers)
        # A transfer without a cause is another service's.
        ours = [each for each in self.all("transfers") if "cause" in each or each["_id"] in {one[0] for one in told}]
        assert told == Counter((each["_id"], *legs_of(each), each["amount"]) for each in ours)

    def _check_progress(self, goal: Document) -> None:
        """Progress is the seconds performed, by the law of the clock."""
        arrivals = self.arrivals.get(str(goal["_id"]))
        if arrivals is None:
            return
        clock = goal.get("clock", {})
        end, closed = None, False
        if not goal["active"]:
            end = to_epoch_milliseconds(goal.get("exp", clock.get("ended_at")))
            closed = clock.get("sealed", False) or "ended_at" not in clock
        assert goal.get("progress", 0) == seconds_counted(arrivals, clock.get("rule", "alone"), end, closed=closed), (
            arrivals
        )

    def _check_milestones(self, goal: Document) -> None:
        """A goal ends once, and a level up is completed once."""
        tracked = self.all("tracking_events", {"goal_id": str(goal["_id"])})
        ended = [event for event in tracked if event["name"] == "goal.ended"]
        assert len(ended) == (0 if goal["active"] else 1), goal
        levels = [event["level"] for event in tracked if event["name"] == "goal.completed"]
        reached = sum(0 < level["target"] <= goal.get("progress", 0) for level in goal.get("levels", []))
        assert len(levels) == len(set(levels)), goal
        assert max(levels, default=0) == reached, goal

    def _check_shares(self) -> None:
        """Each Earning of a completed show is paid once, of an uncompleted one refunded once; else it is still held."""
        shares = self.all("transfers", {"_id": {"$regex": "^(escrow|refund)-"}, "metadata.doc_id": {"$exists": True}})
        settled = [transfer["metadata"]["doc_id"] for transfer in shares]
        assert [doc for doc, count in Counter(settled).items() if count > 1 and not self._is_goal(doc)] == []
        for earning in self.all("earnings"):
            (mark,) = (name for name in earning if name.startswith("_show_funding:"))
            kind, payee = self._due_to(ObjectId(mark.partition(":")[2]), earning)
            if "reversal" in earning:
                kind, payee = "refund", earning["from_user_id"]
            expected = [] if payee is None else [f"{kind}-{mark[1:]}-{earning['_id']}-{payee}"]
            made = [t["_id"] for t in self.all("transfers", {"metadata.doc_id": str(earning["_id"])})]
            assert [transfer for transfer in made if not transfer.startswith("contribution-")] == expected

    def _due_to(self, funding_id: ObjectId, earning: Document) -> tuple[str, str | None]:
        """To whom what was contributed to that funding is due by now, and by which transfer."""
        either = {"$in": [funding_id, str(funding_id)]}
        session = self.database.sessions.find_one({"show_goal_pairs.funding_goal": either})
        deciding = self.database.goals.find_one({"_id": funding_id})
        show = self.database.goals.find_one({"metadata.funding_goal_id": either})
        if show is not None:
            deciding = show
        elif session is not None:
            (pair,) = (p for p in session["show_goal_pairs"] if p["funding_goal"] in (funding_id, str(funding_id)))
            deciding = self._one("goals", ObjectId(pair["show_goal"]))
        assert deciding is not None
        if deciding["active"]:
            return "", None
        # A funding that can begin no show decides itself, and pays nobody.
        targets = [level["target"] for level in deciding["levels"] if level["target"] > 0]
        is_show = deciding["_cls"] == "Goal.ShowGoal"
        completed = is_show and bool(targets) and deciding["progress"] >= targets[-1]
        return ("escrow", earning["user_id"]) if completed else ("refund", earning["from_user_id"])

    def _is_goal(self, doc_id: str) -> bool:
        """An exclusive's share, which is settled in two: what was performed, and what was not."""
        return self.database.goals.find_one({"_id": ObjectId(doc_id)}) is not None

    # -- reading --

    def _clock_of(self, event: Wire, instant: datetime) -> tuple[str, Who] | None:
        """The goal whose clock will hear this event, and whose mark it is: a participant's, while it still counts."""
        prefix, _, goal_id = str(event["channel"]).partition("@")
        if prefix != "presence-enc-goal" or event["name"] not in SENDERS or not ObjectId.is_valid(goal_id):
            return None
        goal = self.database.goals.find_one({"_id": ObjectId(goal_id)})
        if goal is None:
            return None
        clock = goal.get("clock", {})
        if not goal["active"] and (clock.get("sealed", "ended_at" not in clock) or instant > clock["ended_at"]):
            return None
        user = event.get("user_id")
        if user is None:
            return goal_id, "nobody"
        if str(user) == goal["metadata"]["user_id"]:
            return goal_id, "performer"
        return (goal_id, "viewer") if str(user) == goal["conditions"].get("exclusive_to") else None

    def _balance(self, account_id: str) -> int:
        account = self.database.accounts.find_one({"_id": account_id})
        return account["balance"] if account else 0

    def _one(self, collection: str, identity: Any) -> Document:
        document = self.database[collection].find_one({"_id": identity})
        assert document is not None, f"there is no {identity} in {collection}"
        return document

    def _owing(self) -> Sequence[Document]:
        where = {"promises.0": {"$exists": True}}
        return [document for name in WITH_PROMISES for document in self.database[name].find(where)]


# -- opening one ------------------------------------------------------------------------------------------------------


def settings_of(mongodb_url: str, redis_url: str, **values: Any) -> Settings:
    """The settings of a world."""
    own: dict[str, Any] = {
        "mongodb_url": mongodb_url,
        "redis_url": redis_url,
        "pusher_app_id": "1",
        "pusher_key": PUSHER_KEY,
        "pusher_secret": PUSHER_SECRET,
        "api_key": API_KEY,
        "recording": "on",
        # The story's clock stands in the past; MongoDB drops old traces by its own.
        "trace_days": 20_000,
        "tracking_days": 20_000,
        "event_days": 20_000,
    }
    return Settings(**(own | values))


@asynccontextmanager
async def open_world(
    documents: MongoClient[Document],
    mongodb_url: str,
    redis_url: str,
    *,
    real_workers: bool = False,
    cutter: Callable[[FakeClock], ClipCutter] | None = None,
    **values: Any,
) -> AsyncIterator[World]:
    """A world on that database and that Redis, in which nothing has happened yet."""
    settings = settings_of(mongodb_url, redis_url, **values)
    clock, runner = FakeClock(), Runner(TASKS, WITH_PROMISES)
    notifier, rtc, store = RecordedNotifier(), RecordedRtc(), MemoryStore()
    await prepare_indexes(settings, print)
    async with AsyncExitStack() as stack:
        real, resources = await stack.enter_async_context(open_worker_context(settings, clock=clock))
        await resources.redis.flushall()
        on_valkey = WorkersOnValkey(clock, resources.redis) if real_workers else None
        workers = on_valkey or InProcessQueue(clock, runner)
        stack.push_async_callback(workers.flush)
        context = replace(
            real,
            queue=workers,
            notifier=notifier,
            store=store,
            rtc=rtc,
            cutter=cutter(clock) if cutter is not None else RecordedCutter(),
        )
        app = create_app(settings)
        app.state.context, app.state.resources = context, replace(resources, store=store)
        app.state.keyring = Keyring(context.clock)
        app.state.webhook_secrets = settings.webhook_secrets
        app.state.stopping = Stopping()
        transport = httpx.ASGITransport(app)
        client = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://goalsvc"))
        if on_valkey is not None:
            await stack.enter_async_context(on_valkey.working(context, runner, resources.breakers))
        yield World(
            context=context,
            clock=clock,
            workers=workers,
            runner=runner,
            client=client,
            documents=documents,
            redis=resources.redis,
            notifier=notifier,
            rtc=rtc,
            store=store,
            breakers=resources.breakers,
            app=app,
        )


def empty(documents: MongoClient[Document]) -> None:
    """Deletes every document; collections and their indexes stay, for making them takes longer than a story."""
    database = documents.get_default_database()
    for name in database.list_collection_names():
        database[name].delete_many({})
