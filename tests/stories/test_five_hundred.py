"""Five hundred viewers fund a show within two seconds: two API processes and a worker, on the real mongod and Valkey."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest
from bson import ObjectId
from pymongo import MongoClient

from goalsvc.devstack.environment import DEFAULTS, PrivatePart, environment_for
from goalsvc.devstack.ports import HOST, free_port, http_status
from goalsvc.devstack.process import bound_to_this_process
from tests.integrations.stub_server import StubAnswer, StubRequest, open_stub_server
from tests.support.waiting import comes_to_hold

pytestmark = pytest.mark.real

VIEWERS = 500
#: Each contributes one more token than the one before, so that the leaderboard has one order.
AMOUNTS = {f"viewer-{number}": number for number in range(1, VIEWERS + 1)}
TARGET = sum(AMOUNTS.values())
PATIENCE_SECONDS = 120.0

Document = dict[str, Any]


@dataclass(frozen=True)
class Notice:
    """What Pusher was handed, and when."""

    event: str
    data: Document
    at: float


@dataclass
class Stack:
    """The processes, seen from outside."""

    apis: list[str]
    database: Any
    notices: list[Notice]

    def told(self, event: str) -> list[Notice]:
        """The notices of that name, in the order in which they came."""
        return [notice for notice in self.notices if notice.event == event]


@asynccontextmanager
async def running(words: list[str], environment: dict[str, str], log: Path) -> AsyncIterator[None]:
    """A goalsvc process that ends with this block."""
    with log.open("ab") as output:
        command = bound_to_this_process([sys.executable, "-m", "goalsvc", *words])
        process = subprocess.Popen(  # noqa: ASYNC220 - it must be started by the thread that lives as long as this process
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(process.wait, 30)  # meanwhile its connections are closed here as well


@asynccontextmanager
async def two_apis(
    documents: MongoClient[Document], mongodb_url: str, redis_url: str, logs: Path
) -> AsyncIterator[Stack]:
    """Two API processes, a worker, and a Pusher that takes everything."""
    name = f"crowd-{ObjectId()}"
    notices: list[Notice] = []

    def take(request: StubRequest) -> StubAnswer:
        if request.method == "GET":  # reconciliation asks who is in which channel
            return StubAnswer(b'{"channels": {}, "users": []}')
        body = json.loads(request.body)
        notices.append(Notice(body["name"], json.loads(body["data"]), monotonic()))
        return StubAnswer()

    async with open_stub_server() as pusher:
        pusher.answering = take
        given = {key: value for key, value in os.environ.items() if not key.startswith("GOALSVC_")}
        ports = [free_port(), free_port()]
        elsewhere = dict.fromkeys((PrivatePart.PUSHER, PrivatePart.BYTEPLUS), pusher.port)
        environment = {
            **environment_for(given, elsewhere, api_port=ports[0]),
            "GOALSVC_MONGODB_URL": mongodb_url.replace(documents.get_default_database().name, name),
            "GOALSVC_REDIS_URL": f"{redis_url.rpartition('/')[0]}/7",
            "GOALSVC_LOG_LEVEL": "WARNING",
        }
        async with AsyncExitStack() as stack:
            for port in ports:
                await stack.enter_async_context(running(["serve", "--port", str(port)], environment, logs / "api"))
            await stack.enter_async_context(running(["worker"], environment, logs / "worker"))
            for port in ports:
                await comes_true(lambda port=port: http_status(port, "/readyz") == 200)  # type: ignore[misc]
            try:
                yield Stack([f"http://{HOST}:{port}" for port in ports], documents[name], notices)
            finally:
                documents.drop_database(name)


async def comes_true(condition: Callable[[], bool]) -> None:
    """Waits, beside the event loop, until the condition holds."""
    assert await comes_to_hold(partial(asyncio.to_thread, condition), PATIENCE_SECONDS, every=0.02)


async def test_five_hundred_viewers_fund_a_show_within_two_seconds(
    documents: MongoClient[Document], mongodb_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with two_apis(documents, mongodb_url, redis_url, tmp_path) as stack, crowd() as client:
        database = stack.database
        session = await post(client, f"{stack.apis[0]}/v1/sessions", {"user_id": "alice"})
        plan = {
            "kind": "FundingGoal",
            "session_id": session["id"],
            "levels": [{"title": "half", "target": TARGET // 2}, {"title": "all of it", "target": TARGET}],
            "metadata": {"show": {"title": "Ukulele medley", "target": 360}},
        }
        funding = (await post(client, f"{stack.apis[0]}/v1/goals", plan))["id"]
        database["accounts"].insert_many(
            [{"_id": f"user:{viewer}", "balance": amount} for viewer, amount in AMOUNTS.items()]
        )
        database["accounts"].insert_one({"_id": "issuer", "balance": -TARGET})

        async def contribute(number: int, viewer: str) -> httpx.Response:
            url = f"{stack.apis[number % 2]}/v1/goals/{funding}/contributions"
            body, headers = {"user_id": viewer, "amount": AMOUNTS[viewer]}, {"Idempotency-Key": viewer}
            try:
                return await client.post(url, json=body, headers=headers)
            except httpx.ReadError:  # the connection is lost: as the clients do, once more under the same key
                return await client.post(url, json=body, headers=headers)

        answers = await asyncio.gather(*(contribute(number, viewer) for number, viewer in enumerate(AMOUNTS)))
        assert Counter(answer.status_code for answer in answers) == {201: VIEWERS}
        assert max(answer.json()["progress"] for answer in answers) == TARGET

        owing = {"promises.0": {"$exists": True}}
        await comes_true(lambda: bool(stack.told("stream.changed")) and database["goals"].find_one(owing) is None)
        goal = database["goals"].find_one({"_id": ObjectId(funding)})
        assert (goal["progress"], goal["active"]) == (TARGET, False)
        (show,) = database["goals"].find({"_cls": "Goal.ShowGoal"})
        (pair,) = database["sessions"].find_one({"_id": ObjectId(session["id"])})["show_goal_pairs"]
        assert (pair["funding_goal"], pair["show_goal"]) == (goal["_id"], show["_id"])
        assert len(stack.told("stream.changed")) == 1

        # Every token is in the escrow, by one earning and one transfer for each viewer.
        accounts = {account["_id"]: account["balance"] for account in database["accounts"].find()}
        assert {name: balance for name, balance in accounts.items() if balance} == {
            "issuer": -TARGET,
            f"escrow:show_funding:{funding}": TARGET,
        }
        assert {e["from_user_id"]: e["amount"] for e in database["earnings"].find()} == AMOUNTS
        assert {t["from_user_id"]: t["amount"] for t in database["transfers"].find()} == AMOUNTS
        best = await client.get(f"{stack.apis[1]}/v1/goals/{funding}/leaderboard")
        assert [(one["user_id"], one["amount"]) for one in best.json()["items"]][:3] == [
            (f"viewer-{number}", number) for number in (500, 499, 498)
        ]

        # Clients are told rising values (each at least once), the last one too, at most five in any second.
        told = stack.told("goal.progress.updated")
        values = [notice.data["progress"] for notice in told]
        # Two processes send them, at least once and unordered; the last value is what stays on the screen.
        assert values[-1] == max(values)
        assert values[-1] == TARGET
        assert len(told) <= 5 * (told[-1].at - told[0].at) + 2
        paid = {notice.data["event_id"]: notice.data["amount"] for notice in stack.told("wallet.updated")}
        assert sum(paid.values()) == TARGET
        completed = list(database["tracking_events"].find({"name": "goal.completed"}))
        assert len({event["level"] for event in completed}) == len(completed)


@asynccontextmanager
async def crowd() -> AsyncIterator[httpx.AsyncClient]:
    """A client with a connection for each of two hundred viewers at a time."""
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
    headers = {"Authorization": f"Bearer {DEFAULTS['GOALSVC_API_KEY']}"}
    async with httpx.AsyncClient(limits=limits, headers=headers, timeout=60, trust_env=False) as client:
        yield client


async def post(client: httpx.AsyncClient, url: str, body: Document) -> Document:
    """A call that succeeds; its answer's body."""
    answer = await client.post(url, json=body)
    assert answer.status_code == 201, answer.text
    found: Document = answer.json()
    return found
