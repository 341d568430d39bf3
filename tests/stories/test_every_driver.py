"""Whole stories, while another service saves every document again between goalsvc's turns, in its own driver's hand."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from pymongo import MongoClient

from tests.stories import test_exclusive, test_karaoke, test_show
from tests.support.documents import WRITERS
from tests.support.drivers import InTheHandOf
from tests.world import World, open_world

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


@pytest.mark.parametrize(("story", "writer"), PAIRS)
async def test_a_story_in_the_hand_of_another_driver(their_world: World, story: str) -> None:
    await STORIES[story](their_world)
