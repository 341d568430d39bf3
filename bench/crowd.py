"""Row 9: a crowd that pays: contributions to one goal, and spread over twenty, with one, two and three API processes.

Every volley is checked: no token too many, none lost, one promise in each goal at most while it runs.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from bson import ObjectId

from bench.lab import Lab, Proc
from bench.load import Volley, fire
from bench.report import Result, Spread
from goalsvc.devstack.environment import DEFAULTS

_DATABASE = "crowd"
_PATIENCE_SECONDS = 60.0
_ROW = 9
_TARGET = 10**9
_BALANCE = 10**6


@dataclass(frozen=True, slots=True)
class Crowd:
    """What became of contributions that were sent to several processes at the same time."""

    volleys: Sequence[Volley]
    cpu_ms: float
    """Processor time of the API for each contribution."""

    @property
    def requests(self) -> int:
        """How many were sent."""
        return sum(volley.requests for volley in self.volleys)

    @property
    def per_second(self) -> float:
        """How many were answered per second."""
        return self.requests / max(volley.seconds for volley in self.volleys)

    @property
    def p99_ms(self) -> float:
        """The slowest process's p99."""
        return max(volley.p99_ms for volley in self.volleys)

    @property
    def refused(self) -> int:
        """How many were not answered 201."""
        statuses = sum((Counter(volley.statuses) for volley in self.volleys), Counter())
        return sum(count for status, count in statuses.items() if status != "201")


def contribution(goal_id: ObjectId, viewer: str, amount: int = 1) -> bytes:
    """The whole HTTP request that contributes."""
    body = json.dumps({"user_id": viewer, "amount": amount}).encode()
    head = (
        f"POST /v1/goals/{goal_id}/contributions HTTP/1.1\r\n"
        "Host: 127.0.0.1\r\n"
        "Content-Type: application/json\r\n"
        f"Authorization: Bearer {DEFAULTS['GOALSVC_API_KEY']}\r\n"
        f"Idempotency-Key: {ObjectId()}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def put_fundings(lab: Lab, count: int, viewers: int) -> list[ObjectId]:
    """Makes that many FundingGoals in one session, and viewers with full wallets."""
    database, session_id, streamer = lab.mongo[_DATABASE], ObjectId(), f"streamer-{ObjectId()}"
    await database["sessions"].insert_one({"_id": session_id, "user_id": streamer, "statuses": {}})
    ids = [ObjectId() for _ in range(count)]
    goals = [
        {
            "_id": goal_id,
            "_cls": "Goal.FundingGoal",
            "active": True,
            "progress": 0,
            "levels": [{"title": "fund it", "target": _TARGET}],
            "conditions": {"session_id": session_id},
            "metadata": {"user_id": streamer, "show": {"title": "a show", "target": 60}},
        }
        for goal_id in ids
    ]
    await database["goals"].insert_many(goals)
    accounts = [{"_id": f"user:viewer-{number}", "balance": _BALANCE} for number in range(viewers)]
    await database["accounts"].delete_many({})
    await database["accounts"].insert_many([*accounts, {"_id": "issuer", "balance": -_BALANCE * viewers}])
    return ids


async def volley(lab: Lab, servers: Sequence[Proc], *, goals: int, viewers: int, at_once: int, requests: int) -> Crowd:
    """Sends contributions to all servers at the same time, `at_once` in all, and checks the books."""
    fundings = await put_fundings(lab, goals, viewers)
    wanted = [contribution(fundings[number % goals], f"viewer-{number % viewers}") for number in range(requests)]
    before = [server.cpu_seconds() for server in servers]
    parts = [wanted[begin :: len(servers)] for begin in range(len(servers))]
    volleys = await asyncio.gather(
        *(fire(s.port, part, connections=at_once // len(servers)) for s, part in zip(servers, parts, strict=True))
    )
    cpu = sum(server.cpu_seconds() - was for server, was in zip(servers, before, strict=True))
    crowd = Crowd(volleys, cpu / requests * 1000)
    await _check(lab, fundings, requests - crowd.refused)
    return crowd


async def _check(lab: Lab, fundings: Sequence[ObjectId], taken: int) -> None:
    """Waits until all is announced; raises AssertionError unless each token is where it belongs."""
    database, deadline = lab.mongo[_DATABASE], perf_counter() + _PATIENCE_SECONDS
    while await database["goals"].find_one({"_id": {"$in": list(fundings)}, "promises.0": {"$exists": True}}):
        if perf_counter() > deadline:
            raise TimeoutError("contributions are not announced")
        await asyncio.sleep(0.02)
    where: dict[str, Any] = {"_id": {"$in": list(fundings)}}
    progress = sum([goal["progress"] async for goal in database["goals"].find(where)])
    escrows = [f"escrow:show_funding:{funding}" for funding in fundings]
    held = sum([account["balance"] async for account in database["accounts"].find({"_id": {"$in": escrows}})])
    earned = await database["earnings"].count_documents({"goal_id": {"$in": list(fundings)}})
    total = sum([account["balance"] async for account in database["accounts"].find({})])
    if (progress, held, earned, total) != (taken, taken, taken, 0):
        raise AssertionError(f"{taken} taken; progress {progress}, held {held}, earnings {earned}, sum {total}")


async def crowds(lab: Lab, *, rounds: int, requests: int, say: Callable[[str], None]) -> list[Result]:
    """The rows of contributions, with a worker that announces meanwhile."""
    results: list[Result] = []

    def row(
        what: str, unit: str, values: list[float], *, at_most: float | None = None, at_least: float | None = None
    ) -> None:
        spread = Spread(tuple(values))
        results.append(Result(_ROW, what, spread.median, unit, at_most=at_most, at_least=at_least, spread=spread))

    for processes in (1, 2, 3):
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(lab.worker(_DATABASE))
            servers = [await stack.enter_async_context(lab.api(_DATABASE)) for _ in range(processes)]
            await volley(lab, servers, goals=2, viewers=100, at_once=12, requests=300)  # warm
            say(f"contributions to one goal, {processes} API processes")
            if processes == 1:
                bursts = [
                    await volley(lab, servers, goals=1, viewers=300, at_once=300, requests=300) for _ in range(rounds)
                ]
                row("300 contributions at once: refused", "", [float(one.refused) for one in bursts], at_most=0)
                row("· p99", "ms", [one.p99_ms for one in bursts], at_most=1000)
            steady = [
                await volley(lab, servers, goals=1, viewers=2000, at_once=200, requests=requests) for _ in range(rounds)
            ]
            name = f"contributions to one goal, 200 at a time, {processes} API process{'es' * (processes > 1)}"
            row(name, "/s", [one.per_second for one in steady], at_least=500)
            row("· refused", "", [float(one.refused) for one in steady], at_most=0)
            row("· p99", "ms", [one.p99_ms for one in steady])
            row("· processor time of the API for each", "ms", [one.cpu_ms for one in steady])
            if processes == 1:
                say("contributions to twenty goals")
                spread = [
                    await volley(lab, servers, goals=20, viewers=2000, at_once=50, requests=requests)
                    for _ in range(rounds)
                ]
                row("contributions to 20 goals, 50 at a time", "/s", [one.per_second for one in spread], at_least=600)
                row("· p99", "ms", [one.p99_ms for one in spread], at_most=500)
                row("· refused", "", [float(one.refused) for one in spread], at_most=0)
    return results
