"""One history: a livestream with its goals, played on a simulated machine on which anything may break; all of it by a seed.

The real bus, receivers, models, tasks, runner, ledger, clocks and endpoints, on a simulated event loop (`loop`), network
(`machine`) and database (`memory`). `play(seed)` gives what came of it; `verdict` says whether it is what had to come.
"""

import asyncio
import hmac
import json
import os
import random as global_random
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache, partial
from hashlib import sha256
from random import Random
from types import SimpleNamespace
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import fastapi.dependencies.utils
from beanie import init_beanie
from bson import ObjectId, objectid
from fastapi import FastAPI
from mongomock_motor import AsyncMongoMockClient
from pydantic import SecretStr
from pymongo.errors import PyMongoError

from goalsvc import request_id
from goalsvc.api.webhook import MOST_UNDER_WAY, Refusals, WebhooksUnderWay
from goalsvc.app import create_app
from goalsvc.clock import to_epoch_milliseconds
from goalsvc.context import WorkerContext
from goalsvc.domain.goals import GoalKind
from goalsvc.domain.moves import Move
from goalsvc.domain.orders import Order
from goalsvc.domain.outcome import Reason
from goalsvc.domain.presence import join_mark, leave_mark
from goalsvc.domain.promises import PromiseRef
from goalsvc.errors import GoalsvcError, InsufficientFundsError
from goalsvc.integrations.pace import NoticePace
from goalsvc.models import idempotency
from goalsvc.models.audit import AuditEvent
from goalsvc.models.book_audit import audit as audit_books
from goalsvc.models.clocks import GoalClocks
from goalsvc.models.contributions import Contributions
from goalsvc.models.database import DOCUMENTS, WITH_PROMISES, Database
from goalsvc.models.event_log import EventLog
from goalsvc.models.ledger import Ledger
from goalsvc.models.seal import seal_days, seal_key
from goalsvc.models.shared import SharedCollection, Sharing
from goalsvc.receivers import ALL as RECEIVERS
from goalsvc.settings import Settings
from goalsvc.signals.bus import SignalBus
from goalsvc.tasks import ALL as TASKS
from goalsvc.tasks import sweep_promises
from goalsvc.tasks.ending import expire_goals
from goalsvc.tasks.reconcile import reconcile_clocks
from goalsvc.tasks.redrive import redrive_these
from goalsvc.tasks.runner import Runner
from goalsvc.tasks.withdrawals import return_withdrawals

from .intents import Answer, Intent
from .loop import PROCESS, Process, ProcessDiedError, SimulatedLoop
from .machine import (
    MOST_SKEW_SECONDS,
    START,
    Connection,
    DatabaseInside,
    Document,
    Faults,
    Network,
    Records,
    Service,
    SimulatedCache,
    SimulatedCutter,
    SimulatedPusher,
    SimulatedQueue,
    SimulatedRedis,
    SimulatedRtc,
    SimulatedStore,
    SimulatedWorker,
    VirtualClock,
)
from .memory import MemoryDatabase
from .oracle import ClockOracle, Mark
from .restore import WORLD
from .watched_books import WatchedBooks

T = TypeVar("T")

KEY, SECRET, API_KEY = "simulated-key", "simulated-secret", "simulated-api-key"
STREAMER = "u-streamer"
SWEEP_SECONDS = 5.0
WITHDRAWAL_LIMIT_SECONDS = 120.0
#: A history that has not come to rest after so long never will.
MOST_SECONDS = 1200.0
#: A dead letter that is dead again after so many redrives, while nothing breaks any more, will stay so.
MOST_REDRIVES = 3
#: A contribution is decided within 10 s; on the way there and back calls may be lost.
MOST_ANSWER_SECONDS = 15.0
#: Pusher gives up after five minutes.
PUSHER_PATIENCE_SECONDS = 300.0


class ViolationError(AssertionError):
    """Something was lost, or done twice, or is wrong otherwise."""


@dataclass(slots=True)
class Figures:
    """What happened in a history, for the report."""

    webhooks: int = 0
    deliveries: int = 0
    duplicates: int = 0
    lost: int = 0
    reordered: int = 0
    kills: int = 0
    jobs: int = 0
    transfers: int = 0
    calls: int = 0
    goals: int = 0
    dead_letters: int = 0
    crowd: int = 0
    restores: int = 0
    virtual_seconds: float = 0.0

    def add(self, other: "Figures") -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class Contribution:
    """What a client knows of a contribution: that it was taken, once and for all, or that it was not."""

    goal_id: str
    user: str
    amount: int
    taken: bool | None = None
    key: str = ""


@dataclass(slots=True)
class Known:
    """What clients were told: the ground on which the money is reckoned."""

    intents: list[Intent] = field(default_factory=list)
    """Deposits, withdrawals, tips, …: all that was asked for under a key."""
    conclusions: dict[str, list[tuple[str, Answer]]] = field(default_factory=dict)
    """By withdrawal: the ends that were asked for (`confirm`, `return`), with the answers."""
    fees: dict[str, int] = field(default_factory=dict)
    """By goal: its `fee_bps`."""
    contributions: list[Contribution] = field(default_factory=list)
    agreed: set[str] = field(default_factory=set)
    owed_notices: set[str] = field(default_factory=set)
    """Ids of the notices that an earlier version promised in a goal."""
    untimed: dict[str, int] = field(default_factory=dict)
    """Exclusives without a target that another service made, with what it put into their escrow."""

    def taken(self, verb: str) -> Iterator[Intent]:
        """Yields the intents of that kind that were taken."""
        return (intent for intent in self.intents if intent.verb == verb and intent.taken is not None)

    def deposit_ids(self) -> dict[str, tuple[str, int]]:
        """Whose each deposit is, and how much, by the id of its transfer."""
        found = [intent.taken for intent in self.taken("deposit") if intent.taken is not None]
        return {deposit["id"]: (deposit["to_user_id"], deposit["amount"]) for deposit in found}


@dataclass(slots=True)
class _Pending:
    mark: Mark
    number: int


class WatchedClocks:
    """A process's clocks, overheard: which joins and leaves were handed in, and which of them were taken."""

    def __init__(self, inner: GoalClocks, clock: VirtualClock, simulation: "Simulation") -> None:
        self._inner, self._clock, self._simulation = inner, clock, simulation

    async def move(self, move: Move) -> Any:
        number = join_mark(move.at) if move.joined else leave_mark(move.at)
        who = self._simulation.owner_of(move.goal_id, move.user_id)
        pending = _Pending(Mark(to_epoch_milliseconds(move.at), move.joined, who), number)
        waiting = self._simulation.pending.setdefault(move.goal_id, [])
        waiting.append(pending)
        moved = await self._inner.move(move)
        if moved is Reason.GOAL_INACTIVE and self._still_counts(move):
            self._simulation.violations.append(f"{move} came in time after the end of its goal, and does not count")
        known = self._simulation.clocks.get(move.goal_id)
        if not isinstance(moved, Reason) and (known is None or pending.mark not in known.marks):
            self._simulation.violations.append(f"{move} was answered with success and is not in the goal's clock")
        return moved

    def _still_counts(self, move: Move) -> bool:
        """Whether a mark of that instant counts in a goal that has ended, as it is at this moment."""
        clock = self._simulation.inside.peek("goals").get(move.goal_id, {}).get("clock") or {}
        ended_at, late = clock.get("ended_at"), timedelta(milliseconds=_LATE_MS)
        if ended_at is None or clock.get("sealed"):
            return False
        return bool(move.at <= ended_at and self._clock.now() <= ended_at + late)


#: The fields of a clock that hold marks, and whose they are.
_LINES = {"marks": "p", "viewer_marks": "v", "unowned_marks": "u"}
#: How long after its end webhooks count, and how far the clocks of this machine's processes may be behind what they write.
_LATE_MS = 360_000
_WRITING_MS = 30_000
#: How far the clocks of two processes are apart at most.
_APART_MS = int(2 * MOST_SKEW_SECONDS * 1000)


def _marks_in(goal: Document | None) -> set[tuple[int, str]]:
    clock = (goal or {}).get("clock") or {}
    return {(mark, who) for name, who in _LINES.items() for mark in clock.get(name, ())}


class Simulation:
    """A simulated machine with goalsvc on it, and the world around."""

    def __init__(
        self, seed: int, faults: Faults | None = None, inside: DatabaseInside | None = None, receivers: Any = RECEIVERS
    ) -> None:
        self.random = Random(seed)
        self.seed = seed
        self.faults = Faults.random(self.random) if faults is None else faults
        self.network = Network(self.random, self.faults)
        self.clock = VirtualClock()
        self.inside = MemoryDatabase(self.clock.now) if inside is None else inside
        self.connection = Connection(self.network, self.inside)
        self.connection.watchers.append(self._watch_goals)
        self.books = WatchedBooks(self.inside)
        self.connection.on_commit.append(self.books.look)
        self.redis = SimulatedRedis(self.network)
        self.pusher, self.rtc = SimulatedPusher(self.network, self.clock), SimulatedRtc(self.network)
        self.store = SimulatedStore(self.network)
        self.cutter = SimulatedCutter(Service("hls", self.network))
        self.records = Records()
        self.settings = settings()
        self.receivers = receivers
        self.runner = Runner(TASKS, WITH_PROMISES)
        self.figures = Figures()
        self.known = Known()
        self.violations: list[str] = []
        self.clocks: dict[ObjectId, ClockOracle] = {}
        self.pending: dict[ObjectId, list[_Pending]] = {}
        self._seen: dict[ObjectId, Document] = {}
        self._graveyard: list[Process] = []
        #: Those that run now, by name: `api`, `api-2`, … and `worker`, `worker-2`, …
        self.running: dict[str, Process] = {}
        self.session_id = ""
        #: What the audit of the books has found.
        self.audited: list[str] = []
        self.ended_at: datetime | None = None
        #: The world in which clients are heard: another one after each restore of the database.
        self.world = 0
        self.restored = False
        #: How many exclusives another service is selling at this moment, by several writes.
        self.selling = 0

    @property
    def services(self) -> Sequence[Service]:
        """The services outside."""
        return self.pusher, self.rtc, self.store, self.cutter.service

    # -- processes ---------------------------------------------------------------------------------------------------

    def open_context(self) -> WorkerContext:
        """The context that a process opens when it begins. Its host's clock may be off."""
        clock = VirtualClock(self.faults.skew * self.random.choice([-1.0, 1.0, self.random.uniform(-1.0, 1.0)]))
        return WorkerContext(
            settings=self.settings,
            clock=clock,
            bus=SignalBus(self.receivers),
            queue=SimulatedQueue(self.redis, self.network, clock),
            recorder=self.records,
            notifier=self.pusher,
            store=self.store,
            rtc=self.rtc,
            cutter=self.cutter,
            cache=SimulatedCache(self.network),
            ledger=Ledger(Database(self.connection, "simulated")),
            contributions=Contributions(Database(self.connection, "simulated"), clock.now, allow_self_payment=False),
            pace=NoticePace(),
            clocks=WatchedClocks(GoalClocks(clock), clock, self),
            events=EventLog(Database(self.connection, "simulated")),
        )

    def begin_process(self, name: str, steps: int) -> Process:
        """A new process, which will die after about so many steps; 0: it lives."""
        dies_before = 1 + int(self.random.expovariate(1 / steps)) if steps else None
        process = Process(name, dies_before)
        process.opened = self.open_context()
        self._graveyard.append(process)
        self.running[name] = process
        if kind_of(name) == "worker":
            worker = SimulatedWorker(process, process.opened, self.redis, self.runner, self.network)
            process.start(worker.work())
        return process

    async def keep(self, name: str) -> None:
        """Starts the process, and again whenever it has died."""
        while True:
            process = self.begin_process(name, self.steps_of(name))
            died = asyncio.get_running_loop().create_future()
            process.on_death.append(lambda died=died: died.done() or died.set_result(None))  # type: ignore[misc]
            await died
            self.figures.kills += 1
            await asyncio.sleep(self.random.uniform(0.1, 2.0))

    def steps_of(self, name: str) -> int:
        """After about how many steps such a process dies; 0: it lives."""
        return self.faults.api_steps if kind_of(name) == "api" else self.faults.worker_steps

    def any_of(self, kind: str) -> Process | None:
        """One of the processes of that kind that live, as a balancer picks it; None when all are dead."""
        living = [process for name, process in self.running.items() if kind_of(name) == kind and process.alive]
        return self.random.choice(living) if living else None

    async def cron(self) -> None:
        """What the worker runs by the clock. (Where it would find nothing it is not run, to save time.)"""
        ticks = 0
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            ticks += 1
            worker = self.any_of("worker")
            if worker is None:
                continue
            context: WorkerContext = worker.opened
            now = self.clock.now()
            owing = [d for name in WITH_PROMISES for d in self.inside.peek(name).values() if d.get("promises")]
            if any(p["at"] <= now - timedelta(seconds=SWEEP_SECONDS) for d in owing for p in d["promises"]):
                worker.start(_quietly(sweep_promises, context))
            if any(d.get("active") and d.get("exp", now) < now for d in self.inside.peek("goals").values()):
                worker.start(_quietly(expire_goals, context))
            if any(
                w["state"] == "pending" and w["returns_at"] <= now for w in self.inside.peek("withdrawals").values()
            ):
                worker.start(_quietly(return_withdrawals, context))
            clocks = [goal.get("clock", {}) for goal in self.inside.peek("goals").values() if goal.get("active")]
            unknown_since = now - timedelta(seconds=self.settings.reconcile_seconds)
            occupied = any(self.pusher.present.values())
            if any(clock.get("running") and clock["known_at"] <= unknown_since for clock in clocks) or (
                occupied and ticks % 12 == 0
            ):
                worker.start(_quietly(reconcile_clocks, context))

    # -- clients -----------------------------------------------------------------------------------------------------

    async def _in_this_world(self) -> None:
        """Never returns to a client of the world before a restore."""
        if WORLD.get() != self.world:
            await asyncio.get_running_loop().create_future()

    def instant_in(self, seconds: float) -> str:
        """The instant that many seconds from now, in JSON."""
        return (self.clock.now() + timedelta(seconds=seconds)).isoformat()

    def latest_now(self) -> datetime:
        """The time by the clock of a process that is ahead as far as any."""
        return self.clock.now() + timedelta(seconds=MOST_SKEW_SECONDS)

    async def ask(self, method: str, path: str, body: Any = None, key: str | None = None) -> Answer:
        """Sends a request to the API, once. Raises ProcessDiedError when the answer does not come."""
        await self._in_this_world()
        api = self.any_of("api")
        if api is None:
            raise ProcessDiedError("api")
        headers = {"authorization": f"Bearer {API_KEY}", "content-type": "application/json"}
        if key is not None:
            headers["idempotency-key"] = key
        content = b"" if body is None else json.dumps(body).encode()
        began = asyncio.get_running_loop().time()
        answer = await api.ask(request(method, path, headers, content))
        await self._in_this_world()
        took = asyncio.get_running_loop().time() - began
        if path.endswith("/contributions") and took > MOST_ANSWER_SECONDS:
            self.violations.append(f"{method} {path} was answered with {answer.status} after {took:.1f} s")
        if answer.status >= 500 and answer.status != 503:
            self.violations.append(f"{method} {path} was answered with {answer.status}: {answer.body}")
        return answer

    async def insist(self, method: str, path: str, body: Any = None, key: str | None = None) -> Answer:
        """Repeats a request until there is a final answer."""
        rest = 0.3
        until = asyncio.get_running_loop().time() + MOST_SECONDS
        while True:
            with suppress(ProcessDiedError):
                answer = await self.ask(method, path, body, key)
                if answer.status < 500:
                    return answer
            if asyncio.get_running_loop().time() > until:
                raise ViolationError(f"{method} {path} never gets an answer: {self.violations[-3:]}")
            await asyncio.sleep(rest * self.random.uniform(0.5, 1.5))
            rest = min(rest * 2, 10.0)

    async def deposit(self, user: str, amount: int) -> None:
        """Fills a wallet."""
        intent = Intent("deposit", f"/v1/wallets/{user}/deposits", [{"amount": amount}], f"deposit-{user}")
        await self.intend(intent)
        assert intent.taken is not None, intent

    async def intend(self, intent: Intent) -> Intent:
        """Asks for it, whatever that takes; now and then twice at once, with another body under its key, or again later."""
        self.known.intents.append(intent)
        numbers = [*range(len(intent.bodies)), *([0] if self.network.strikes(self.faults.duplicated) else [])]
        self.random.shuffle(numbers)

        async def send(number: int) -> Answer:
            answer = await self.insist("POST", intent.path, intent.bodies[number], intent.key)
            intent.answers.append((number, answer))
            return answer

        await asyncio.gather(*map(send, numbers))
        if intent.taken is not None and self.network.strikes(self.faults.duplicated):
            number = self.random.choice(numbers)
            await asyncio.sleep(self.random.uniform(0.0, 20.0))
            self.violations += intent.wrong_repeat(number, await send(number))
        self.violations += intent.wrong()
        return intent

    async def contribute(self, goal_id: str, user: str, amount: int, key: str) -> bool:
        """Contributes, whatever it takes; whether it was taken. Now and then the request is sent twice at once."""
        contribution = Contribution(goal_id, user, amount)
        self.known.contributions.append(contribution)
        body = {"user_id": user, "amount": amount}
        times = 2 if self.network.strikes(self.faults.duplicated) else 1
        requests = [self.insist("POST", f"/v1/goals/{goal_id}/contributions", body, key) for _ in range(times)]
        answers = await asyncio.gather(*requests)
        statuses = {answer.status for answer in answers}
        # (Of two at once the first may find too few tokens, and the second enough.)
        if not statuses <= {201, 402, 409} or {201, 409} <= statuses:
            self.violations.append(f"{contribution} was answered with {answers}")
        contribution.taken = 201 in statuses
        return contribution.taken

    async def make_goal(self, kind: GoalKind, *, fee_bps: int | None = None, **body: Any) -> str | None:
        """Makes a goal; None when the livestream is over, or the viewer has too few tokens for it.

        A client that got no answer looks whether the goal is there before it asks again.
        """
        mark = str(self.random.getrandbits(64))
        metadata = {**body.pop("metadata", {}), "client_mark": mark}
        plan = {"kind": kind, "session_id": self.session_id, "metadata": metadata, **body}
        if fee_bps is not None:
            plan["fee_bps"] = fee_bps
        identity = await self._make_goal(plan, mark)
        if identity is not None and fee_bps is not None:
            self.known.fees[identity] = fee_bps
        return identity

    async def _post_once(self, path: str, plan: Mapping[str, Any], key: str) -> Answer:
        """Makes something under a key, now and then by two requests at once, which get one answer."""
        times = 2 if self.network.strikes(self.faults.duplicated) else 1
        answers = await asyncio.gather(*(self.insist("POST", path, plan, key) for _ in range(times)))
        taken = [answer for answer in answers if answer.status == 201]
        if len({answer.body["id"] for answer in taken}) > 1:
            self.violations.append(f"POST {path} was answered in different ways under one key: {answers}")
        return taken[0] if taken else answers[0]

    async def _make_goal(self, plan: Mapping[str, Any], mark: str) -> str | None:
        if self.random.random() < 0.5:
            answer = await self._post_once("/v1/goals", plan, f"goal-{mark}")
            assert answer.status in (201, 402, 409) or _came_too_late(answer), answer
            made = [each for each in self.inside.peek("goals").values() if each["metadata"].get("client_mark") == mark]
            if len(made) > 1:
                self.violations.append(f"one key has made {len(made)} goals: {plan}")
            return str(answer.body["id"]) if answer.status == 201 else None
        while True:
            with suppress(ProcessDiedError):
                answer = await self.ask("POST", "/v1/goals", plan)
                if answer.status < 500:
                    assert answer.status in (201, 402, 409) or _came_too_late(answer), answer
                    return str(answer.body["id"]) if answer.status == 201 else None
            await asyncio.sleep(0.5)
            await self._in_this_world()
            for identity, goal in self.inside.peek("goals").items():
                if goal.get("metadata", {}).get("client_mark") == mark:
                    return str(identity)

    async def fill_escrow(self, order: Order) -> bool:
        """Moves tokens as another service would; whether the payer had them (a restore may have taken them away)."""
        ledger = Ledger(Database(self.connection, "simulated"))
        while True:
            await self._in_this_world()
            try:
                await ledger.post(order, self.clock.now())
                return True
            except InsufficientFundsError:
                return False
            except (PyMongoError, GoalsvcError):
                await asyncio.sleep(0.5)

    async def change_levels(self, goal_id: str, levels: Sequence[Mapping[str, Any]]) -> None:
        """Asks for other levels of a goal that has reached all it has; once, whatever becomes of the answer."""
        with suppress(ProcessDiedError):
            answer = await self.ask("PATCH", f"/v1/goals/{goal_id}", {"levels": list(levels)})
            if answer.status == 200:
                self.violations.append(f"{goal_id} was given another level when it had reached its last one")

    async def end_goal(self, goal_id: str) -> None:
        await self.insist("POST", f"/v1/goals/{goal_id}/end")

    async def agree(self, goal_id: str) -> bool:
        """Whether the request is agreed to, by this or an earlier try."""
        answer = await self.insist("POST", f"/v1/goals/{goal_id}/agree")
        if answer.status == 200:
            self.known.agreed.add(goal_id)
        return self.goal(goal_id).get("triggerer") is not None

    async def decline(self, goal_id: str) -> None:
        await self.insist("POST", f"/v1/goals/{goal_id}/decline")

    async def begin_session(self, room: str | None) -> None:
        """Begins the livestream. A client without a key that got no answer looks whether it has begun before it asks again."""
        if self.random.random() < 0.5:
            plan = {"user_id": STREAMER, "rtc": room and {"room_id": room}}
            self.session_id = (await self._post_once("/v1/sessions", plan, "session")).body["id"]
            return
        while True:
            with suppress(ProcessDiedError):
                plan = {"user_id": STREAMER, "rtc": room and {"room_id": room}}
                answer = await self.ask("POST", "/v1/sessions", plan)
                if answer.status == 201:
                    self.session_id = answer.body["id"]
                    return
            await asyncio.sleep(0.5)
            for identity in self.inside.peek("sessions"):
                self.session_id = str(identity)
                return

    async def end_session(self) -> None:
        await self.insist("POST", f"/v1/sessions/{self.session_id}/end")
        self.ended_at = self.clock.now()

    def goal(self, goal_id: str) -> Document:
        """The goal as it is in the database at this moment; as the API would give it."""
        return dict(self.inside.peek("goals")[ObjectId(goal_id)])

    # -- Pusher --------------------------------------------------------------------------------------------------------

    async def announce(self, at: datetime, events: Sequence[Mapping[str, Any]]) -> None:
        """Sends a webhook until it is answered with 200, or five minutes are over; and again without need."""
        body = json.dumps({"time_ms": to_epoch_milliseconds(at), "events": list(events)}).encode()
        self.figures.webhooks += 1
        if self.network.strikes(self.faults.late):
            self.figures.reordered += 1
            # Some so late that their goal has ended meanwhile.
            await asyncio.sleep(self.random.choice([self.random.uniform(0.0, 10.0), self.random.uniform(0.0, 200.0)]))
        until, rest = asyncio.get_running_loop().time() + PUSHER_PATIENCE_SECONDS, 0.5
        while True:
            taken = await self._deliver(body)
            if taken and not self.network.strikes(self.faults.duplicated):
                return
            if asyncio.get_running_loop().time() > until:
                return
            self.figures.duplicates += taken
            await asyncio.sleep(rest * self.random.uniform(0.3, 1.5))
            rest = min(rest * 2, 30.0)

    async def _deliver(self, body: bytes) -> bool:
        """Whether Pusher heard a 200 within its four seconds."""
        await self._in_this_world()
        self.figures.deliveries += 1
        await self.network.travel()
        if self.network.strikes(self.faults.lost / 2):
            self.figures.lost += 1
            return False
        api = self.any_of("api")
        if api is None:
            return False
        signature = hmac.new(SECRET.encode(), body, sha256).hexdigest()
        headers = {"x-pusher-key": KEY, "x-pusher-signature": signature}
        try:
            async with asyncio.timeout(4.0):
                answer = await api.ask(request("POST", "/notify/pusher", headers, body))
        except (ProcessDiedError, TimeoutError):
            return False
        if answer.status not in (200, 503):
            self.violations.append(f"a webhook was answered with {answer}")
        if answer.status != 200:
            return False
        await self.network.travel()
        if self.network.strikes(self.faults.lost / 2):
            self.figures.lost += 1
            return False
        return True

    # -- what the oracle of the clock sees -------------------------------------------------------------------------------

    def owner_of(self, goal_id: ObjectId, user: str | None) -> str:
        """Whose mark an event of that user is: the performer's, the viewer's, nobody's."""
        goal = self.inside.peek("goals").get(goal_id, {})
        if user is None:
            return "u" if goal.get("_cls") == "Goal.ExclusiveGoal" else "p"
        return "p" if user == STREAMER else "v"

    def see_again(self) -> None:
        """Takes the goals as they are now for known: the database was restored."""
        self._seen = dict(self.inside.peek("goals"))

    def _watch_goals(self) -> None:
        """Notes which marks have come into which clock, in the order in which they came."""
        for goal_id, goal in self.inside.peek("goals").items():
            before = self._seen.get(goal_id)
            if before is goal:
                continue
            self._seen[goal_id] = goal
            oracle = self.clocks.setdefault(goal_id, ClockOracle(exclusive=goal["_cls"] == "Goal.ExclusiveGoal"))
            # One that is over when it is first seen belongs to the scene: its end was before the story.
            was_active = goal.get("active", True) if before is None else before.get("active", True)
            if goal.get("active", True):
                oracle.end = to_epoch_milliseconds(goal["exp"]) if goal.get("exp") else None
                if not was_active:
                    self.violations.append(f"goal {goal_id} is active again")
            self._watch_marks(goal_id, before, goal, oracle)
            if was_active and not goal.get("active", True):
                self._goal_ended(goal_id, before, goal, oracle)
            sealed = [bool((each or {}).get("clock", {}).get("sealed")) for each in (before, goal)]
            if sealed == [False, True]:
                self._clock_sealed(goal_id, goal, oracle)

    def _watch_marks(self, goal_id: ObjectId, before: Document | None, goal: Document, oracle: ClockOracle) -> None:
        new = _marks_in(goal) - _marks_in(before)
        together = [each for each in self.pending.get(goal_id, ()) if (each.number, each.mark.who) in new]
        if together and before is not None and not before.get("active", True):
            clock, now = before.get("clock", {}), to_epoch_milliseconds(self.clock.now())
            if clock.get("sealed") or now > to_epoch_milliseconds(clock["ended_at"]) + _LATE_MS + _WRITING_MS:
                self.violations.append(f"{together} moved the clock of goal {goal_id} when none counted any more")
        left = new - {(each.number, each.mark.who) for each in together}
        oracle.arrive(*(each.mark for each in together))
        if before is None:
            for mark, who in left:  # it was made with a clock that runs already
                oracle.arrive(Mark(mark // 2, mark % 2 == 0, who))
        elif any((mark // 2, mark % 2 == 0) not in {(m.at, m.joined) for m in oracle.marks} for mark, _ in left):
            # (What is left of folded marks may be an unowned leave that has become the leave of one.)
            self.violations.append(f"goal {goal_id} has marks {left} that nobody made")

    def _goal_ended(self, goal_id: ObjectId, before: Document | None, goal: Document, oracle: ClockOracle) -> None:
        """A goal ends now, or at its deadline, and a clock that runs is paused at that instant."""
        now, exp = to_epoch_milliseconds(self.clock.now()), (before or {}).get("exp")
        ended = to_epoch_milliseconds(goal["exp"])
        deadline = None if exp is None else to_epoch_milliseconds(exp)
        if (ended != deadline and not now - _WRITING_MS <= ended <= now + _APART_MS) or (
            deadline is not None and ended > deadline
        ):
            self.violations.append(f"goal {goal_id} ended at {goal['exp']}, its deadline was {exp}")
        oracle.end = ended
        context = goal.get("context", {})
        if context.get("started") is not None and context["started"] > context.get("paused", context["started"]):
            self.violations.append(f"goal {goal_id} ended while its clock ran, and was not paused")

    def _clock_sealed(self, goal_id: ObjectId, goal: Document, oracle: ClockOracle) -> None:
        """No webhook counts any more: the target is reached, they are over, or Pusher has said that none is outstanding."""
        oracle.close()
        now = to_epoch_milliseconds(self.clock.now())
        target = goal["levels"][-1]["target"] if goal["levels"] else None
        assert oracle.end is not None
        if (target is not None and goal["progress"] >= target) or now >= oracle.end + _LATE_MS - _APART_MS:
            return
        asked_at, answer = self.pusher.asked.get(f"presence-enc-goal@{goal_id}", (0, set()))
        there = {self.owner_of(goal_id, user) for user in answer if user != "u-passer-by"}
        known = oracle.present()
        agree = "p" in there if "u" in known else there == known
        if asked_at < oracle.end - _APART_MS or not agree:
            self.violations.append(f"goal {goal_id} was sealed early: Pusher said {answer}, the marks {known}")

    # -- the end -----------------------------------------------------------------------------------------------------------

    def promises(self) -> list[tuple[str, Document]]:
        """All that is owed, each with whose it is."""
        return [
            (f"{name}/{identity}", promise)
            for name in WITH_PROMISES
            for identity, document in self.inside.peek(name).items()
            for promise in document.get("promises", ())
        ]

    async def heal(self) -> None:
        """Nothing breaks from now on; whatever is owed now must be paid within a minute."""
        self.faults.heal()
        for process in self.running.values():
            process.dies_before = None
        for service in self.services:
            service.away_until = service.down_until = 0.0
        self.redis.full_until = 0.0
        healed_at = self.clock.now()
        await asyncio.sleep(60.0)
        for whose, promise in self.promises():
            if promise["at"] <= healed_at:
                self.violations.append(
                    f"{whose} still owes {promise['task']} ({promise['id']}) after a minute of peace"
                )

    def _is_of_another_world(self, letter: Document) -> bool:
        """Whether a job outlived, in Redis, the document that promised it: a restore has undone that."""
        if self.figures.restores == 0 or letter.get("promise") is None:
            return False
        ref = PromiseRef.parse(letter["promise"])
        return ref.document_id not in self.inside.peek(ref.collection)

    def redrive_together(self) -> bool:
        """Lets a worker try all dead letters again, as a redrive of a group does; whether there is a worker to do it."""
        worker = self.any_of("worker")
        if worker is not None:
            dead = [letter["_id"] for letter in self.inside.peek("dead_letters").values() if letter["state"] == "dead"]
            worker.start(_quietly(partial(redrive_these, letter_ids=dead, by="group", key="env"), worker.opened))
            self.figures.dead_letters += len(dead)
        return worker is not None

    async def settle(self) -> None:
        """Waits until nothing is owed any more; dead letters are tried again, a few times."""
        until = asyncio.get_running_loop().time() + MOST_SECONDS
        redriven: Counter[str] = Counter()
        while True:
            await asyncio.sleep(2.0)
            stored = self.inside.peek("dead_letters").values()
            letters = [each for each in stored if each["state"] == "dead" and not self._is_of_another_world(each)]
            hopeless = [letter for letter in letters if redriven[letter["_id"]] == MOST_REDRIVES]
            together = self.random.random() < 0.5 and self.redrive_together()
            for letter in letters:
                if "does not work" in letter["reason"]:
                    self.violations.append(f"{letter['_id']} did not wait for a service: {letter['reason']}")
                redriven[letter["_id"]] += 1
                if not together:
                    self.figures.dead_letters += 1
                    await self.insist("POST", f"/v1/dead-letters/{letter['_id']}/redrive")
            pending = any(each["state"] == "pending" for each in self.inside.peek("withdrawals").values())
            if self.ended_at is not None:  # another service may begin one after the end, which its own time ends
                pending |= any(goal.get("active", True) for goal in self.inside.peek("goals").values())
            if not letters and not self.promises() and not self.redis.jobs and not pending:
                return
            if hopeless or asyncio.get_running_loop().time() > until:
                owed = [f"{whose}: {promise['task']} ({promise['id']})" for whose, promise in self.promises()]
                dead = [f"{letter['_id']}: {letter['reason']}" for letter in hopeless]
                self.violations.append(f"it does not come to rest: {dead or owed or list(self.redis.jobs)}")
                return

    async def seal_and_audit(self) -> None:
        """Seals the days and audits the books, as the nightly task and `goalsvc audit` do."""
        later, key = self.clock.now() + timedelta(days=2), seal_key(self.settings.seal_secret)
        sealed = await seal_days(later, key)
        report = await audit_books(later, key)
        self.audited += [f"audit: {finding.code}: {finding.message}" for finding in report.findings]
        if report.days_sealed != len(sealed) or bool(sealed) != bool(report.transfers):
            self.audited.append(f"audit: {len(sealed)} days were sealed, {report.days_sealed} seals found: {report}")

    def close(self) -> None:
        """Lets go of all that dead processes left behind."""
        for process in self._graveyard:
            process.alive = False
            process.bury()


def _came_too_late(answer: Answer) -> bool:
    """Whether a goal was refused because its end had passed, after so many repeats."""
    return answer.status == 422 and [fault["field"] for fault in answer.body["errors"]] == ["exp"]


def kind_of(name: str) -> str:
    """`api` or `worker`."""
    return name.partition("-")[0]


async def _quietly(work: Callable[[WorkerContext], Awaitable[Any]], context: WorkerContext) -> None:
    """Runs what the clock runs; what fails finds its work again at the next tick."""
    with suppress(PyMongoError, GoalsvcError):
        await work(context)


async def request(method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
    """Sends a request through the whole app, as the process that runs this."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    served = app()
    try:
        await served(scope, receive, send)  # type: ignore[arg-type]
    except Exception as error:  # Starlette raises what it has answered with 500
        return Answer(500, repr(error))
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return Answer(sent[0]["status"], json.loads(content) if content else None)


class _StateOfProcess:
    """`app.state`: what the process in which this is asked has opened."""

    webhook_secrets: Mapping[str, str] = {KEY: SECRET}
    refusals = Refusals(0)

    def __init__(self) -> None:
        self._under_way: WeakKeyDictionary[Process, WebhooksUnderWay] = WeakKeyDictionary()

    @property
    def webhooks_under_way(self) -> WebhooksUnderWay:
        """The count of a process dies with it."""
        process = PROCESS.get()
        assert process is not None
        return self._under_way.setdefault(process, WebhooksUnderWay(MOST_UNDER_WAY))

    @property
    def context(self) -> WorkerContext:
        process = PROCESS.get()
        assert process is not None
        context: WorkerContext = process.opened
        return context

    @property
    def resources(self) -> Any:
        return SimpleNamespace(redis=_Locks())


class _Locks:
    """Redis, as far as endpoints use it themselves: a lock, which is free."""

    def lock(self, *_arguments: Any, **_options: Any) -> Any:
        async def acquire() -> bool:
            return True

        async def release() -> None:
            return

        return SimpleNamespace(acquire=acquire, release=release)


@cache
def app() -> FastAPI:
    """The real app, but for what opens and closes its connections; a simulated process is told by the task that asks."""

    async def here(function: Callable[..., T], *args: Any, **options: Any) -> T:
        return function(*args, **options)

    # Dependencies that are plain functions would run in threads, which no seed could order.
    fastapi.dependencies.utils.run_in_threadpool = here  # type: ignore[assignment, attr-defined]
    made = create_app(settings())
    made.state = _StateOfProcess()  # type: ignore[assignment]
    return made


@cache
def settings() -> Settings:
    """The settings of the simulated goalsvc."""
    return Settings(
        mongodb_url="mongodb://simulated.invalid/goalsvc",
        redis_url="redis://simulated.invalid",
        pusher_key=KEY,
        api_key=SecretStr(API_KEY),
        promise_sweep_seconds=SWEEP_SECONDS,
        exclusive_begin_limit=120,
        withdrawal_limit=WITHDRAWAL_LIMIT_SECONDS,
        recording="on",
    )


@cache
def bind_documents() -> None:
    """Binds Beanie's documents once, to no database in particular."""
    asyncio.run(init_beanie(database=AsyncMongoMockClient()["simulated"], document_models=list(DOCUMENTS)))


@contextmanager
def bound_to(connection: Connection) -> Iterator[None]:
    """Lets the documents live behind that connection for a while."""
    bind_documents()
    before = {}
    shared: dict[Any, SharedCollection] = {}

    def shared_within_the_process(model: type[Sharing]) -> SharedCollection:
        # All processes are one here: what each has in its memory must die with it, and not be seen by the others.
        key = (PROCESS.get(), model)
        if key not in shared:
            shared[key] = SharedCollection(model.get_motor_collection(), model)
        return shared[key]

    audited: dict[Any, Any] = {}

    def audited_within_the_process(_model: type[AuditEvent]) -> Any:
        return audited.setdefault(PROCESS.get(), connection["audit_events"])

    AuditEvent.get_motor_collection = classmethod(audited_within_the_process)  # type: ignore[assignment, method-assign]
    whole, Sharing.shared = Sharing.__dict__["shared"], classmethod(shared_within_the_process)  # type: ignore[method-assign, assignment]
    for model in DOCUMENTS:
        own = model.get_settings()
        before[model] = own.motor_collection
        own.motor_collection = connection[own.name]  # type: ignore[assignment, index]
    try:
        yield
    finally:
        del AuditEvent.get_motor_collection  # it is inherited again
        Sharing.shared = whole  # type: ignore[method-assign]
        for model, collection in before.items():
            model.get_settings().motor_collection = collection


@contextmanager
def foreseeable(seed: int, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Makes what goalsvc draws by lot (new ids, jitter) follow from the seed."""
    state, counter, lot = global_random.getstate(), ObjectId._inc, ObjectId.__dict__["_random"]
    global_random.seed(seed)
    ObjectId._inc = 0
    ObjectId._random = staticmethod(lambda: (seed & 0xFFFFFFFFFF).to_bytes(5, "big"))  # type: ignore[method-assign]
    idempotency.os = SimpleNamespace(urandom=global_random.randbytes)  # type: ignore[attr-defined, assignment]
    request_id.secrets = SimpleNamespace(token_hex=lambda size: global_random.randbytes(size).hex())  # type: ignore[attr-defined, assignment]
    objectid.time = SimpleNamespace(time=lambda: START.timestamp() + loop.time())  # type: ignore[assignment, attr-defined]
    request_id.time = objectid.time.time  # type: ignore[attr-defined]
    try:
        yield
    finally:
        ObjectId._inc, ObjectId._random = counter, lot  # type: ignore[method-assign]
        objectid.time = time  # type: ignore[attr-defined]
        idempotency.os = os  # type: ignore[attr-defined]
        request_id.secrets = secrets  # type: ignore[attr-defined]
        request_id.time = time.time  # type: ignore[attr-defined]
        global_random.setstate(state)


def run(simulation: Simulation, story: Callable[[Simulation], Coroutine[Any, Any, None]]) -> None:
    """Plays the story on the simulated machine, from beginning to rest."""
    loop = SimulatedLoop(simulation.random)

    async def trip(work: Callable[[], Any]) -> Any:
        await simulation.network.travel()
        return work()

    loop.trip = trip
    with bound_to(simulation.connection), foreseeable(simulation.seed, loop):
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(story(simulation))
        finally:
            simulation.figures.virtual_seconds += loop.time()
            simulation.figures.calls += simulation.connection.calls
            simulation.figures.jobs += simulation.redis.claimed
            _cancel_rest(loop)
            simulation.close()
            asyncio.set_event_loop(None)
            loop.close()


def _cancel_rest(loop: SimulatedLoop) -> None:
    """Ends the tasks of the world outside."""
    rest = [task for task in asyncio.all_tasks(loop) if getattr(task, "_log_destroy_pending", True)]
    for task in rest:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        task.cancel()
