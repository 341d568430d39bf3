"""SIGTERM to a process under load: what is in hand is finished, what is not is left to the next, and nothing is lost."""

import asyncio
import signal
from random import Random

import pytest
from redis.asyncio import Redis

from goalsvc.devstack.process import birth_of
from tests.support.waiting import comes_to_hold

from .outside import Clients, DevStack, PlayedShow, dev_stack, play_livestream, recorded_calls, settle, violations_of

pytestmark = pytest.mark.real

#: How many livestreams are played side by side, and how often the process is told to stop meanwhile.
LIVESTREAMS, STOPS = 8, 2
#: Longer than a worker (or uvicorn) takes to finish what it has in hand; shorter than `dev` would wait before it kills.
MOST_SECONDS = 9.5


async def stop_under_load(part: str) -> tuple[Clients, list[str]]:
    """Plays livestreams while that part is told to stop again and again; the clients, and what is wrong."""
    async with dev_stack() as stack:
        clients = Clients(stack.addresses, Random(1), keep_alive=False)
        playing = [asyncio.create_task(play_livestream(clients, Random(number))) for number in range(LIVESTREAMS)]
        wrong: list[str] = []
        for number in range(STOPS):
            before = clients.tally.webhooks
            await comes_to_hold(lambda before=before: clients.tally.webhooks >= before + 5, 20.0, every=0.01)  # type: ignore[misc]
            wrong += await stop(stack, part)
            told = f"{part} is ready again"
            assert await comes_to_hold(lambda n=number, text=told: stack.told().count(text) > n, 30.0, every=0.01)  # type: ignore[misc]
        shows: list[PlayedShow] = await asyncio.gather(*playing)
        await settle(clients, stack.addresses, wrong)
        wrong += violations_of(stack.addresses, shows, await recorded_calls(stack.addresses))
        await clients.close()
        # Connections that uvicorn has not read from yet it closes unread; what it has read, it answers.
        if "Cancel" in (stack.data / "logs" / "api.log").read_text():
            wrong.append("the API cut off requests that it had in hand")
    return clients, wrong + clients.wrong


async def stop(stack: DevStack, part: str) -> list[str]:
    """Tells the part to stop, and waits until it has; what was wrong."""
    pid = stack.pid(part)
    assert pid is not None
    birth = birth_of(pid)
    stack.signal(part, signal.SIGTERM)
    wrong = []
    if not await comes_to_hold(lambda: birth_of(pid) != birth, MOST_SECONDS, every=0.01):
        wrong.append(f"{part} does not stop within {MOST_SECONDS} s")
    if part == "worker":
        wrong += await left_in_hand(stack)
    return wrong


async def left_in_hand(stack: DevStack) -> list[str]:
    """Jobs that the worker has claimed and not given back. (The marks of cron ticks stay for a minute, on purpose.)"""
    async with Redis.from_url(stack.addresses["redis_url"]) as redis:
        marks = [key.decode() async for key in redis.scan_iter("arq:in-progress:*")]
    return [f"{mark} is left behind" for mark in marks if "cron:" not in mark]


@pytest.mark.parametrize("part", ["worker", "api"])
async def test_nothing_is_lost(part: str) -> None:
    clients, wrong = await stop_under_load(part)
    assert not wrong, "\n".join(wrong)
    if part == "api":
        assert clients.tally.repeated + clients.tally.webhooks_repeated > 0, "it was not stopped under load"
