"""A browser, as far as it can be without one: cookies and forms, on the app in this process."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from goalsvc.clock import to_epoch_milliseconds
from tests.world import API_KEY, World

FROM_HERE = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
async def browser(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A browser that has not logged in."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(world.app), base_url="https://goalsvc.test") as client:
        yield client


@pytest.fixture
async def operator(browser: httpx.AsyncClient) -> httpx.AsyncClient:
    """A browser of an operator who has logged in."""
    answer = await log_in(browser, API_KEY)
    assert answer.status_code == 303
    return browser


async def log_in(browser: httpx.AsyncClient, key: str, **fields: str) -> httpx.Response:
    return await browser.post("/console/login", data={"key": key, **fields}, headers=FROM_HERE)


async def hear(world: World, name: str, goal_id: str, user_id: str) -> None:
    event = {"name": name, "channel": f"presence-enc-goal@{goal_id}", "user_id": user_id}
    answer = await world.webhook({"time_ms": to_epoch_milliseconds(world.clock.now()), "events": [event]})
    assert answer.status_code == 200


async def a_key(world: World, *scopes: str) -> dict[str, Any]:
    body = {"name": "support", "scopes": list(scopes)}
    made: dict[str, Any] = await world.post("/v1/keys", body)
    return made
