"""The primary of a real replica set is killed or steps down under load: nothing is lost, nothing has to be restarted."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from time import monotonic
from typing import Any

import pytest
from pymongo import MongoClient

from goalsvc.clock import to_epoch_milliseconds
from goalsvc.devstack import private_mongod
from goalsvc.devstack.private import PrivateMongod
from tests.stories.scenes import Show, a_funded_show
from tests.world import World, empty, joined, left, open_world, vacated

pytestmark = pytest.mark.real

#: Within this an election is over, and every client knows of it.
ELECTED_SECONDS = 60


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateMongod]:
    with private_mongod(tmp_path_factory.mktemp("members"), members=3) as server:
        yield server


@pytest.fixture
async def replicated(members: PrivateMongod, redis_url: str) -> AsyncIterator[World]:
    with MongoClient[dict[str, Any]](members.url) as documents:
        empty(documents)
        async with open_world(documents, members.url, redis_url) as world:
            yield world
            await world.check_invariants()


async def repeats_until_taken(world: World, body: dict[str, Any]) -> list[int]:
    """Sends the webhook as Pusher does: again, until it is answered by 200. Every status on the way."""
    statuses: list[int] = []
    deadline = monotonic() + ELECTED_SECONDS
    while monotonic() < deadline:
        statuses.append((await world.webhook(body)).status_code)
        if statuses[-1] == 200:
            return statuses
    raise AssertionError(f"not taken within {ELECTED_SECONDS} s: {statuses[-10:]}")


async def test_leaves_while_the_primary_is_killed(members: PrivateMongod, replicated: World) -> None:
    world = replicated
    shows: list[Show] = [await world.given(a_funded_show(seconds=360, earnings=2)) for _ in range(6)]
    for show in shows:
        await world.hears(joined(show))
    await world.after(seconds=400)
    now = world.clock.now()
    bodies = [
        {"time_ms": to_epoch_milliseconds(now), "events": [event(show)]} for show in shows for event in (left, vacated)
    ]
    with MongoClient[dict[str, Any]](members.url) as client:
        client.admin.command("ping")
        assert client.primary is not None
        primary = members.member_on(client.primary[1])
    primary.kill()
    answers = await asyncio.gather(*(repeats_until_taken(world, body) for body in bodies))
    assert {status for statuses in answers for status in statuses} <= {200, 503}
    for show in shows:
        await world.hears(left(show), at=now)  # the oracle hears of it too; for the clock it is one more repeat
    await world.settle()
    for show in shows:
        assert world.progress(show) == 400
        assert world.balance(show.streamer) == sum(s.escrow for s in shows if s.streamer == show.streamer)
    assert (await world.call("GET", "/readyz")).status_code == 200
    primary.start()
    primary.wait_until_ready()


async def test_a_payout_goes_on_while_the_primary_steps_down(members: PrivateMongod, replicated: World) -> None:
    world = replicated
    show = await world.given(a_funded_show(seconds=360, earnings=50))
    await world.hears(joined(show))
    await world.after(seconds=400)
    await world.hears(left(show))
    assert (world.balance(show.streamer), world.escrow(show.escrow_id)) == (0, show.escrow), (
        "the payout is still to come"
    )
    with MongoClient[dict[str, Any]](members.url) as client:

        def step_down() -> None:
            client.admin.command("replSetStepDown", 5, secondaryCatchUpPeriodSecs=3, force=True)

        await asyncio.gather(world.settle(patience=120), asyncio.to_thread(step_down))
        await world.settle(patience=120)
    assert world.progress(show) == 400
    assert world.balance(show.streamer) == show.escrow
    assert world.escrow(show.escrow_id) == 0
