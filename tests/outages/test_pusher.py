"""A Pusher that hangs or fails: money does not wait for it, and every notice that still matters is delivered later."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pymongo import MongoClient

from goalsvc.errors import ServiceDownError
from goalsvc.integrations.breaker import Breaker
from tests.stories.scenes import Show, a_funded_show, a_karaoke
from tests.support.waiting import comes_to_hold
from tests.world import World, open_world

pytestmark = pytest.mark.real

SHOWS = 12


class Pusher:
    """Hangs, fails or works, as a test says."""

    def __init__(self, breaker: Breaker) -> None:
        self.state = "works"
        self.calls = 0
        self.told: list[Mapping[str, Any]] = []
        self._breaker = breaker
        self._never = asyncio.Event()

    async def trigger(self, channels: Sequence[str], event: str, data: Mapping[str, Any]) -> None:
        with self._breaker.call():
            self.calls += 1
            if self.state == "hangs":
                try:
                    async with asyncio.timeout(2.0):
                        await self._never.wait()
                except TimeoutError as error:
                    raise ServiceDownError("pusher", "no answer within 2 s") from error
            if self.state == "fails":
                raise ServiceDownError("pusher", "HTTP 500")
            self.told.append({"event": event, **data})

    def named(self, event: str) -> list[Mapping[str, Any]]:
        return [one for one in self.told if one["event"] == event]


@asynccontextmanager
async def a_world_with_pusher(
    documents: MongoClient[dict[str, Any]], mongodb_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[World, Pusher]]:
    async with open_world(documents, mongodb_url, redis_url, real_workers=True) as world:
        pusher = Pusher(world.breakers.of("pusher"))
        monkeypatch.setattr(world.context.notifier, "trigger", pusher.trigger)
        yield world, pusher


@pytest.fixture
async def played(
    documents: MongoClient[dict[str, Any]], mongodb_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[World, Pusher]]:
    async with a_world_with_pusher(documents, mongodb_url, redis_url, monkeypatch) as opened:
        yield opened


async def shows_on(world: World, number: int) -> list[Show]:
    shows = [await world.given(a_funded_show(earnings=2)) for _ in range(number)]
    for show in shows:
        await world.performer_joins(show)
    await world.settle()
    await world.after(seconds=400)
    return shows


@pytest.mark.parametrize("state", ["hangs", "fails"])
async def test_money_does_not_wait_for_it(played: tuple[World, Pusher], state: str) -> None:
    world, pusher = played
    shows = await shows_on(world, SHOWS)
    pusher.state = state
    pusher.told.clear()
    for show in shows:
        await world.performer_leaves(show)
    paid = await comes_to_hold(lambda: all(world.escrow(show.escrow_id) == 0 for show in shows), 15.0, every=0.02)
    assert paid, "a payout waits for Pusher"
    assert pusher.told == []

    pusher.state = "works"
    await world.settle()
    assert [notice["shares"] for notice in pusher.named("wallet.updated")] == [2] * SHOWS
    assert world.all("dead_letters") == []


async def test_what_waits_makes_few_calls_and_few_lines_and_no_dead_letter(
    played: tuple[World, Pusher], caplog: pytest.LogCaptureFixture
) -> None:
    world, pusher = played
    caplog.set_level(logging.INFO, "goalsvc")
    goals = [await world.given(a_karaoke(seconds=1000)) for _ in range(3)]
    await world.settle()
    pusher.state, pusher.calls = "fails", 0
    pusher.told.clear()
    caplog.clear()
    for _ in range(20):
        for goal in goals:
            await world.performs(goal, seconds=7)
    assert await comes_to_hold(lambda: all(world.progress(goal) == 140 for goal in goals), 15.0, every=0.02)
    assert pusher.calls <= 30, "calls fail at once while the service does not work"
    assert len([record for record in caplog.records if record.levelno >= logging.INFO]) <= 10

    pusher.state = "works"
    await world.settle()
    assert world.all("dead_letters") == []
    last = {goal.id: 0 for goal in goals}
    for notice in pusher.named("goal.progress.updated"):
        last[str(notice["goal_id"])] = max(last[str(notice["goal_id"])], int(notice["progress"]))
    assert set(last.values()) == {140}, "the last value is always sent"
    assert len(pusher.named("goal.progress.updated")) < 60, "what newer progress supersedes is not"
