"""Joins and leaves of many performers at a steady rate, sent through a balancer that asks `/readyz`; what came of them."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

from .processes import Stack, Told
from .webhooks import signed

#: Each goal hears of its performer this often: at 50 webhooks/s, of a hundred goals.
BETWEEN_SECONDS = 2.0
BALANCER_ASKS_EVERY = 0.25
_ASKED, _ANSWERED = aiohttp.ClientTimeout(total=2), aiohttp.ClientTimeout(total=10)


@dataclass
class Load:
    """Webhooks that were sent."""

    sent: int = 0
    failed: list[str] = field(default_factory=list)
    leaves: list[tuple[str, float]] = field(default_factory=list)
    """Of each leave, the goal and when it was sent, by the monotonic clock."""


class Balancer:
    """Sends each webhook once, to the next API that was ready when it was last asked; a failure is not repeated."""

    def __init__(self, urls: Sequence[str], client: aiohttp.ClientSession) -> None:
        self._urls, self._client = urls, client
        self._ready = list(urls)
        self._next = 0

    async def watch(self) -> None:
        while True:
            answers = await asyncio.gather(*(self._is_ready(url) for url in self._urls))
            self._ready = [url for url, ready in zip(self._urls, answers, strict=True) if ready] or self._ready
            await asyncio.sleep(BALANCER_ASKS_EVERY)

    async def _is_ready(self, url: str) -> bool:
        try:
            async with self._client.get(f"{url}/readyz", timeout=_ASKED) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def post(self, body: bytes, headers: dict[str, str]) -> str:
        """Returns nothing, or what went wrong."""
        self._next += 1
        url = self._ready[self._next % len(self._ready)]
        try:
            async with self._client.post(
                f"{url}/notify/pusher", data=body, headers=headers, timeout=_ANSWERED
            ) as answer:
                return "" if answer.status == 200 else f"{url}: {answer.status} {(await answer.text())[:200]}"
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"{url}: {type(error).__name__}"


async def play(stack: Stack, goals: Sequence[str], until: asyncio.Event) -> Load:
    """Lets the performer join and leave these goals by turns, evenly spread over time, until told; all have left then."""
    load = Load()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as client:
        balancer = Balancer([api.url for api in stack.apis], client)
        watching = asyncio.create_task(balancer.watch())
        async with asyncio.TaskGroup() as performers:
            for number, goal in enumerate(goals):
                performers.create_task(_perform(balancer, load, goal, number / len(goals) * BETWEEN_SECONDS, until))
        watching.cancel()
    return load


async def _perform(balancer: Balancer, load: Load, goal: str, first: float, until: asyncio.Event) -> None:
    at, joins = time.monotonic() + first, True
    while not (joins and until.is_set()):
        await asyncio.sleep(max(at - time.monotonic(), 0))
        body, headers = signed("member_added" if joins else "member_removed", goal, "alice", int(time.time() * 1000))
        sent = time.monotonic()
        load.sent += 1
        if wrong := await balancer.post(body, headers):
            load.failed.append(wrong)
        elif not joins:
            load.leaves.append((goal, sent))
        at, joins = at + BETWEEN_SECONDS, not joins


def delays(load: Load, told: Sequence[Told]) -> list[float]:
    """Returns how long after each leave its goal's new progress was told, in seconds; infinity where it never was."""
    heard: dict[str, list[float]] = {}
    for one in told:
        if one.event == "goal.progress.updated":
            heard.setdefault(str(one.data["goal_id"]), []).append(one.at)
    found = []
    for goal, sent in load.leaves:
        later = [at for at in heard.get(goal, ()) if at >= sent]
        found.append(min(later) - sent if later else float("inf"))
    return found
