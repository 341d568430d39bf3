"""What brings each alert about, what its runbook's commands must then show, and the cure that the runbook names."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from bson import ObjectId
from pymongo import MongoClient

from goalsvc.devstack.private import PrivateMongod
from goalsvc.devstack.waiting import holds_within

from .processes import Program, Stack
from .prometheus import Prometheus
from .runbooks import run
from .shows import FundedShow
from .webhooks import send, signed

Documents = Any


@dataclass
class Drill:
    """What a scene acts on."""

    stack: Stack
    mongod: PrivateMongod
    prometheus: Prometheus
    client: httpx.Client
    second: Program
    """A worker that does not run; its port is scraped."""
    commands: dict[str, str]
    """The environment of an operator's commands."""
    goals: list[str] = field(default_factory=list)

    def begin(self) -> None:
        """Makes goals that performers can join."""
        session = self.client.post("/v1/sessions", json={"user_id": "alice"}).raise_for_status().json()["id"]
        body = {"kind": "KaraokeGoal", "session_id": session, "levels": [{"title": "Songs", "target": 86_400}]}
        self.goals = [self.client.post("/v1/goals", json=body).raise_for_status().json()["id"] for _ in range(10)]

    def environment(self) -> dict[str, str]:
        return {**self.commands, "GOAL": self.goals[0], "GOAL_ID": self.goals[0], "USER": "alice"}

    def operator(self, command: str) -> str:
        """Runs a command of a runbook's mitigation; what it printed."""
        output, wrong = run(command, self.environment())
        assert not wrong, wrong
        return output

    @staticmethod
    def shows(evidence: str, printed: str) -> bool:
        return re.search(evidence, printed) is not None

    @contextmanager
    def documents(self) -> Iterator[Documents]:
        """Writes documents past goalsvc, as another service or an operator's shell does."""
        with MongoClient[dict[str, Any]](self.mongod.url, tz_aware=True) as client:
            yield client.get_default_database()

    @contextmanager
    def traffic(self, *, late_seconds: float = 0.0, forged: bool = False) -> Iterator["Traffic"]:
        """Joins and leaves of the performer, five a second, until the block is left."""
        over, traffic = threading.Event(), Traffic()

        def go_on() -> None:
            number = 0
            with httpx.Client(base_url=self.client.base_url, trust_env=False, timeout=10) as client:
                while not over.wait(0.2):
                    goal, joins = self.goals[number // 2 % len(self.goals)], number % 2 == 0
                    at = int((time.time() - late_seconds) * 1000)
                    body, headers = signed("member_added" if joins else "member_removed", goal, "alice", at)
                    with suppress(httpx.HTTPError):
                        answer = client.post("/notify/pusher", content=body + b" " * forged, headers=headers)
                        traffic.taken += answer.status_code == 200
                    number += 1

        thread = threading.Thread(target=go_on, daemon=True)
        thread.start()
        try:
            yield traffic
        finally:
            over.set()
            thread.join(20)
            for goal in self.goals:  # no clock runs on
                assert send(self.client, "member_removed", goal, "alice", int(time.time() * 1000)) == 200


@dataclass
class Traffic:
    """Webhooks that a scene sends."""

    taken: int = 0
    """How many were answered 200."""

    def goes_on(self, webhooks: int) -> None:
        """Waits until that many more were answered 200."""
        enough = self.taken + webhooks
        assert holds_within(120, lambda: self.taken >= enough, every=0.1)


@dataclass(frozen=True)
class Scene:
    """One trouble, and the alerts that it brings about, each with what the runbook's commands must print."""

    alerts: Mapping[str, str]
    trouble: Callable[[Drill], AbstractContextManager[None]]


@contextmanager
def mongod_is_gone(drill: Drill) -> Iterator[None]:
    (mongod,) = drill.mongod.members
    with drill.traffic() as traffic:
        traffic.goes_on(25)
        mongod.kill()
        try:
            yield
        finally:
            mongod.start()
            mongod.wait_until_ready()
            drill.stack.apis[0].wait_until_ready()
            traffic.goes_on(25)


@contextmanager
def webhooks_are_forged(drill: Drill) -> Iterator[None]:
    with drill.traffic(forged=True):
        yield


@contextmanager
def webhooks_are_late(drill: Drill) -> Iterator[None]:
    with drill.traffic(late_seconds=60):
        yield


def pusher_is_slow(drill: Drill) -> AbstractContextManager[None]:
    return _pusher_in_trouble(drill, rest_seconds=1.5)


def pusher_fails(drill: Drill) -> AbstractContextManager[None]:
    return _pusher_in_trouble(drill, status=500)


@contextmanager
def _pusher_in_trouble(drill: Drill, *, rest_seconds: float = 0.0, status: int = 200) -> Iterator[None]:
    pusher = drill.stack.pusher
    with drill.traffic() as traffic:
        pusher.rest_seconds, pusher.status = rest_seconds, status
        try:
            yield
        finally:
            pusher.rest_seconds, pusher.status = 0.0, 200
            traffic.goes_on(100)  # the alerts look back over some time, in which calls must succeed


@contextmanager
def no_webhook_comes(drill: Drill) -> Iterator[None]:
    """A clock runs, Pusher says nothing of it, and does not know the channel."""
    goal = drill.goals[1]
    now = int(time.time() * 1000)
    assert send(drill.client, "member_added", goal, "alice", now) == 200
    yield
    # Pusher knows the channel again, and webhooks arrive.
    drill.stack.pusher.occupied = {f"presence-enc-goal@{each}" for each in drill.goals[:2]}
    assert holds_within(30, lambda: _unconfirmed(drill) == 0, every=0.2)
    for name, each in (("member_removed", drill.goals[0]), ("member_removed", goal)):
        assert send(drill.client, name, each, "alice", int(time.time() * 1000)) == 200
    drill.stack.pusher.occupied = set()


def _unconfirmed(drill: Drill) -> float:
    """How many clocks run whose performer Pusher does not know to be there, as the worker's metrics say."""
    text = httpx.get(f"{drill.stack.workers[0].url}/metrics", trust_env=False).text
    (figure,) = re.findall(r"^goalsvc_clocks_unconfirmed (\S+)$", text, re.MULTILINE)
    return float(figure)


@contextmanager
def no_worker_runs(drill: Drill) -> Iterator[None]:
    worker = drill.stack.workers[0]
    worker.stop()
    try:
        yield
    finally:
        worker.start()
        worker.wait_until_ready()


@contextmanager
def no_worker_takes_money(drill: Drill) -> Iterator[None]:
    """The one worker that runs has another lane alone; a leave waits for its progress."""
    worker, second = drill.stack.workers[0], drill.second
    worker.stop()
    second.words = ["worker", "--lane", "notices"]
    second.start()
    second.wait_until_ready()
    drill.commands["WORKER_URL"] = second.url
    goal, now = drill.goals[2], int(time.time() * 1000)
    for name, at in (("member_added", now - 5000), ("member_removed", now)):
        assert send(drill.client, name, goal, "alice", at) == 200
    try:
        yield
    finally:
        worker.start()
        worker.wait_until_ready()
        second.stop()
        drill.commands["WORKER_URL"] = worker.url


@contextmanager
def a_promise_of_a_later_version(drill: Drill) -> Iterator[None]:
    """A rollout was broken off: a document promises a task that no running worker knows."""
    goal = {"_id": ObjectId(drill.goals[0])}
    at = datetime.now(UTC) - timedelta(seconds=90)
    promise = {"id": "later", "task": "task_of_a_later_version", "arguments": {}, "at": at}
    with drill.documents() as documents:
        documents["goals"].update_one(goal, {"$push": {"promises": promise}})
        yield
        # The rollout goes on; the later version does what was promised.
        documents["goals"].update_one(goal, {"$pull": {"promises": {"id": "later"}}})


@contextmanager
def an_earning_that_is_none(drill: Drill) -> Iterator[None]:
    """Another service wrote an earning of -5 tokens for a show that is then performed."""
    show = FundedShow(drill.client, streamer="dora", viewer="emil")
    show.fund()
    assert show.begins()
    earning = {"_id": ObjectId(), "user_id": "dora", "from_user_id": "emil", "amount": -5}
    earning |= {"created_at": datetime.now(UTC), f"_show_funding:{show.funding_id}": True}
    with drill.documents() as documents:
        documents["earnings"].insert_one(earning)
        assert show.perform() == [200, 200]
        yield
        documents["earnings"].delete_one({"_id": earning["_id"]})
    drill.operator("goalsvc dead-letters redrive --all")
    assert show.is_paid()


@contextmanager
def a_balance_is_written_by_another_program(drill: Drill) -> Iterator[None]:
    headers = {"Idempotency-Key": "books"}
    drill.client.post("/v1/wallets/fay/deposits", json={"amount": 100}, headers=headers).raise_for_status()
    with drill.documents() as documents:
        documents["accounts"].update_one({"_id": "user:fay"}, {"$inc": {"balance": 7}})
        run("goalsvc audit", drill.environment())  # as a worker does each night
        yield
        documents["accounts"].update_one({"_id": "user:fay", "balance": 107}, {"$set": {"balance": 100}})
    drill.operator("goalsvc audit")


@contextmanager
def a_goal_is_deleted(drill: Drill) -> Iterator[None]:
    """Another program deleted a goal that viewers had paid for."""
    show = FundedShow(drill.client, streamer="gus", viewer="hal")
    show.fund()
    assert show.begins()
    with drill.documents() as documents:
        ids = [ObjectId(each) for each in (show.funding_id, show.show_id)]
        backup = list(documents["goals"].find({"_id": {"$in": ids}}))
        documents["goals"].delete_many({"_id": {"$in": ids}})
        run("goalsvc audit", drill.environment())
        yield
        documents["goals"].insert_many(backup)
    drill.operator(f"goalsvc api POST /v1/goals/{show.show_id}/end")
    refunded = holds_within(30, lambda: drill.client.get("/v1/wallets/hal").json()["balance"] == 100, every=0.2)
    assert refunded
    drill.operator("goalsvc audit")


@contextmanager
def a_clock_is_wrong(drill: Drill) -> Iterator[None]:
    """A second worker runs on a host whose clock is eight seconds ahead."""
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    kept = drill.second.environment
    wrong = {"LD_PRELOAD": str(library), "FAKETIME": "+8s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    drill.second.words, drill.second.environment = ["worker"], {**kept, **wrong}
    drill.second.start()
    drill.second.wait_until_ready()
    drill.commands["WORKER_URL"] = drill.second.url
    try:
        yield
    finally:
        drill.second.stop()
        drill.second.environment = kept
        drill.commands["WORKER_URL"] = drill.stack.workers[0].url


SCENES = [
    Scene({"DeadLetterNew": r"amount"}, an_earning_that_is_none),
    Scene({"SignatureFailing": r"bad_signature"}, webhooks_are_forged),
    Scene({"WebhooksLate": r'goalsvc_webhook_lateness_seconds_bucket\{le="180.0"\} [1-9]'}, webhooks_are_late),
    Scene({"NoticeDelayHigh": r"goalsvc_notice_delay_seconds_bucket\{le=\"2.5\"\} [1-9]"}, pusher_is_slow),
    Scene({"OutboundFailing": r'goalsvc_outbound_duration_seconds_count\{outcome="(down|refused)"'}, pusher_fails),
    Scene(
        {"LedgerImbalance": r"user:fay holds 107 tokens, its transfers sum to 100"},
        a_balance_is_written_by_another_program,
    ),
    Scene({"EscrowStuck": r"escrow:show_funding:"}, a_goal_is_deleted),
    Scene({"PromiseOld": r"task_of_a_later_version"}, a_promise_of_a_later_version),
    Scene(
        {"WebhooksSilent": r"HTTP/1.1 401", "ClockUnconfirmed": r"goalsvc_clocks_unconfirmed [1-9]"}, no_webhook_comes
    ),
    Scene({"WorkerGone": r"ok +mongodb: reached"}, no_worker_runs),
    Scene(
        {"QueueOld": r'goalsvc_queue_oldest_seconds\{queue="money"\} [6-9]\d|"money"\} \d{3}'}, no_worker_takes_money
    ),
    Scene(
        {
            "WebhooksFailing": r'"mongodb": ?"(unreachable|has no primary)',
            "RecordsDropped": r"goalsvc_records_dropped_total\{kind=\"\w+\"\} [1-9]",
        },
        mongod_is_gone,
    ),
]
if any(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")):
    SCENES.append(Scene({"ClockSkew": r"goalsvc_clock_skew_seconds [78]\."}, a_clock_is_wrong))
