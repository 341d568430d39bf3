"""What a request was: found by its id, without an index that each webhook would pay for."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from goalsvc.clock import to_epoch_milliseconds
from goalsvc.models.records import TraceSegment
from goalsvc.models.trace_roots import MOST_LOOKED_THROUGH, roots_of_request
from goalsvc.request_id import made_at, new_id
from tests.world import World

from .conftest import a_key, log_in


async def told(world: World, *users: str, **headers: str) -> httpx.Response:
    """Sends a webhook with one join for each of these users."""
    channel = f"presence-enc-goal@{'0' * 24}"
    events = [{"name": "member_added", "channel": channel, "user_id": user} for user in users]
    body = {"time_ms": to_epoch_milliseconds(world.clock.now()), "events": events}
    answer = await world.webhook(body, **headers)
    await world.context.recorder.flush()
    return answer


async def refused(world: World) -> str:
    """Sends a webhook with a wrong signature; returns its request id."""
    answer = await world.client.post("/notify/pusher", content=b"{}", headers={"X-Pusher-Key": "x"})
    assert answer.status_code == 401
    await world.context.recorder.flush()
    return answer.headers["X-Request-ID"]


async def followed(operator: httpx.AsyncClient, request_id: str) -> str:
    found = await operator.get(f"/console/search?q={request_id}")
    assert found.headers["location"] == f"/console/requests/{request_id}"
    answer = await operator.get(found.headers["location"])
    assert answer.status_code == 200
    return answer.text


class TestAnId:
    def test_says_when_it_was_made(self) -> None:
        made = made_at(new_id())
        assert made is not None
        assert abs(datetime.now(UTC) - made) < timedelta(seconds=2)
        for text in ("", "req_", "req_" + "g" * 24, "req_" + "0" * 25, "my-request"):
            assert made_at(text) is None


class TestAWebhook:
    async def test_is_found_by_its_request_id(self, world: World, operator: httpx.AsyncClient) -> None:
        request_id = (await told(world, "alice", "bob")).headers["X-Request-ID"]
        text = await followed(operator, request_id)
        assert "A webhook with 2 events arrived at" in text
        assert text.count("member added") == 2
        assert re.search(rf"/console/goals/{'0' * 24}/trace\?root=[0-9a-f]{{24}}", text)
        items = (await world.get(f"/v1/search?q={request_id}"))["items"]
        (path,) = [one["path"] for one in items if one["kind"] == "request"]
        assert path == f"/v1/activity?request_id={request_id}"
        assert {row["user_id"] for row in (await world.get(path))["items"]} == {"alice", "bob"}

    async def test_that_was_refused_has_a_page(self, world: World, operator: httpx.AsyncClient) -> None:
        request_id = await refused(world)
        assert "A webhook was refused at" in (text := await followed(operator, request_id))
        assert "bad_signature" in text
        world.clock.move_on(2)
        for page in ("/live", "/webhooks"):
            assert f"/console/requests/{request_id}" in (await operator.get(f"/console{page}")).text

    async def test_with_the_id_of_a_proxy_is_found_among_the_latest_traces(
        self, world: World, operator: httpx.AsyncClient
    ) -> None:
        await told(world, "alice", **{"X-Request-ID": "proxy/17:a=b"})
        answer = await operator.get("/console/search?q=proxy/17:a=b")
        assert "alice joined at" in (await operator.get(answer.headers["location"])).text
        rows: list[dict[str, Any]] = [
            {"_id": f"{number:024x}", "at": world.clock.now(), "node": {"kind": "task", "request_id": "old"}}
            for number in range(MOST_LOOKED_THROUGH)
        ]
        await TraceSegment.get_motor_collection().insert_many(rows)
        assert await roots_of_request("old")
        await told(world, "bob", "carol")
        assert len(await roots_of_request("old")) == 1000
        assert len(await roots_of_request(f"req_{0:024x}")) == 0


class TestACall:
    async def test_is_found_with_its_audit_by_those_who_may_read_it(
        self, world: World, operator: httpx.AsyncClient, browser: httpx.AsyncClient
    ) -> None:
        answer = await world.call("POST", "/v1/wallets/bob/deposits", {"amount": 7})
        request_id = answer.headers["X-Request-ID"]
        await world.context.recorder.flush()
        text = await followed(operator, request_id)
        assert "The call deposit was made with the key “env” at" in text
        assert "What the audit has of it" in text
        await TraceSegment.get_motor_collection().delete_many({})
        assert "its trace is kept no longer" in await followed(operator, request_id)
        transfer = await operator.get(f"/console/transfers/{answer.json()['id']}")
        assert f"/console/requests/{request_id}" in transfer.text
        await log_in(browser, (await a_key(world, "read"))["key"])
        assert (await browser.get(f"/console/requests/{request_id}")).status_code == 404

    async def test_that_there_was_not_is_said(self, world: World, operator: httpx.AsyncClient) -> None:
        for odd in (new_id(), "x", "%00", "a" * 300, "%3Cb%3E", "\u202e"):
            answer = await operator.get(f"/console/requests/{odd}")
            assert answer.status_code == 404, odd
            assert "<b>" not in answer.text
