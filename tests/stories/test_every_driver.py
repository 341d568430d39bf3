"""Whole stories, while another service saves every document again between goalsvc's turns, in its own driver's hand."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from bson import ObjectId
from pymongo import MongoClient

from goalsvc.clock import to_epoch_milliseconds
from tests.stories import test_exclusive, test_karaoke, test_show
from tests.stories.scenes import a_funded_show
from tests.support.documents import WRITERS
from tests.support.drivers import CLOSED, InTheHandOf
from tests.world import World, joined, left, open_world

pytestmark = pytest.mark.real

STORIES: dict[str, Callable[[World], Awaitable[None]]] = {
    "a show that is paid": test_show.TestCompletedShow().test_leaves_everything_as_it_should_be,
    "a show that is refunded": test_show.TestUncompletedShow().test_that_is_abandoned_is_refunded,
    "an exclusive": test_exclusive.TestPerformedExclusive().test_that_reaches_its_target_is_paid_in_full,
    "a karaoke goal": test_karaoke.test_each_level_is_completed_once_and_the_last_one_ends_it,
}


@pytest.fixture
async def their_world(
    documents: MongoClient[dict[str, Any]], mongodb_url: str, redis_url: str, writer: str
) -> AsyncIterator[World]:
    async with open_world(documents, mongodb_url, redis_url) as opened:
        opened.turn = driver = InTheHandOf(opened.database, writer)
        yield opened
        await opened.check_invariants()
        assert driver.saved["goals"]
        assert driver.saved["sessions"]


DRIVERS = sorted(set(WRITERS) - {"MongoEngine"})  # which writes as goalsvc does
#: Each story in two of the hands, and each hand in two of the stories.
PAIRS = [(story, DRIVERS[(number + step) % 4]) for number, story in enumerate(STORIES) for step in (0, 1)]
PAIRS += [("an exclusive", CLOSED)]


@pytest.mark.parametrize(("story", "writer"), PAIRS)
async def test_a_story_in_the_hand_of_another_driver(their_world: World, story: str) -> None:
    await STORIES[story](their_world)


@pytest.mark.parametrize("writer", [CLOSED])
async def test_a_service_that_drops_what_it_does_not_know_leaves_seconds_and_money_right(their_world: World) -> None:
    """What it costs is told in README: who paid is not told of it, and is on no leaderboard."""
    world = their_world
    show = await world.given(a_funded_show(seconds=360, earnings=3))
    await world.performs(show, seconds=200)
    await world.settle()
    await world.after(seconds=5)
    await world.performs(show, seconds=180)
    await world.settle(patience=60)
    assert (world.progress(show), world.balance(show.streamer), world.escrow(show.escrow_id)) == (380, show.escrow, 0)


async def test_a_goal_whose_class_was_dropped_is_left_alone_until_it_is_back(world: World) -> None:
    show = await world.given(a_funded_show(seconds=60, earnings=2))
    lost = {"$unset": {"_cls": True}}
    world.database.goals.update_one({"_id": ObjectId(show.id)}, lost)
    before = world.goal(show)
    await world.webhook({"time_ms": to_epoch_milliseconds(world.clock.now()), "events": [joined(show), left(show)]})
    await world.settle()
    assert (await world.call("GET", f"/v1/goals/{show.id}")).status_code == 404
    assert world.goal(show) == before
    assert (world.escrow(show.escrow_id), world.all("dead_letters")) == (show.escrow, [])
    world.database.goals.update_one({"_id": ObjectId(show.id)}, {"$set": {"_cls": "Goal.ShowGoal"}})
    await world.performs(show, seconds=70)
    await world.settle(patience=60)
    assert (world.balance(show.streamer), world.escrow(show.escrow_id)) == (show.escrow, 0)
