"""The world of the stories about documents that other services wrote."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pymongo import MongoClient

from tests.world import World, open_world


@pytest.fixture
async def odd_world(documents: MongoClient[dict[str, Any]], mongodb_url: str, redis_url: str) -> AsyncIterator[World]:
    """A world without the last check of all invariants: other services' documents need not hold them."""
    async with open_world(documents, mongodb_url, redis_url) as opened:
        opened.jobs.at_once = 32  # there are many, and none is about another's document
        yield opened
