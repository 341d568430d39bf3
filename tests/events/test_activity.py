"""What arrives and is done, by the API: pages from the latest on, and a stream from where a page ends."""

import asyncio
import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from goalsvc.models.records import TraceSegment
from goalsvc.models.tails import Tails
from goalsvc.models.webhooks import Delivery
from tests.console.conftest import a_key, hear
from tests.world import API_KEY, World


async def streamed(world: World, until: str, query: str = "", key: str = API_KEY) -> tuple[int, str]:
    """Reads the stream until a text was in it; the status and all that was sent."""
    sent: list[str] = []
    status = 0

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)
        sent.append(message.get("body", b"").decode())
        if until in sent[-1]:
            world.app.state.stopping.stop()

    path = "/v1/activity/stream"
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"authorization", f"Bearer {key}".encode())],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("goalsvc", 80),
        "client": ("127.0.0.1", 1),
        "root_path": "",
    }
    async with asyncio.timeout(20):
        await world.app(scope, receive, send)  # type: ignore[arg-type]
    return status, "".join(sent)


async def a_delivery(world: World, number: int) -> None:
    at = world.clock.now() + timedelta(milliseconds=number)
    await Delivery.get_motor_collection().insert_one(
        {
            "_id": f"whe_1:evt_{number}",
            "endpoint_id": "whe_1",
            "event_id": f"evt_{number}",
            "type": "goal.ended",
            "state": "pending",
            "attempts": [{"at": at, "status": 503, "ms": 12.5}],
            "created_at": at,
            "tried_at": at,
        }
    )


class TestTheList:
    async def test_has_all_page_by_page_and_nothing_twice(self, world: World) -> None:
        now = world.clock.now()
        roots = [
            {
                "_id": f"{number:024x}",
                "at": now + timedelta(milliseconds=number // 3),
                "node": {"kind": "call", "name": "deposit", "outcome": "done", "children": []},
            }
            for number in range(30)
        ]
        await TraceSegment.get_motor_collection().insert_many([*roots, {**roots[0], "_id": "child", "parent": "x"}])
        for number in range(5):
            await a_delivery(world, number)
        ids: list[str] = []
        cursor = ""
        while cursor is not None:
            page = await world.get(f"/v1/activity?limit=4{f'&cursor={cursor}' if cursor else ''}")
            assert 1 <= len(page["items"]) <= 8
            ids += [one["id"] for one in page["items"]]
            cursor = page["next"]
        assert len(ids) == len(set(ids)) == 35
        times = [datetime.fromisoformat(one["at"]) for one in (await world.get("/v1/activity?limit=100"))["items"]]
        assert times == sorted(times, reverse=True)
        (latest, *_) = (await world.get("/v1/activity?kind=delivery"))["items"]
        assert latest["event_id"] == "evt_4"
        assert (latest["status"], latest["outcome"], latest["endpoint_id"]) == (503, "pending", "whe_1")

    async def test_has_deliveries_only_for_those_who_may_read_them(self, world: World) -> None:
        await a_delivery(world, 1)
        await hear(world, "member_added", "0" * 24, "alice")
        await world.context.recorder.flush()
        headers = {"Authorization": f"Bearer {(await a_key(world, 'read'))['key']}"}
        answer = await world.client.get("/v1/activity", headers=headers)
        assert {one["kind"] for one in answer.json()["items"]} == {"webhook", "call"}
        answer = await world.client.get("/v1/activity?kind=delivery", headers=headers)
        assert answer.json()["items"] == []

    async def test_says_what_the_live_page_says(self, world: World) -> None:
        await hear(world, "member_added", "0" * 24, "alice")
        await world.context.recorder.flush()
        (row,) = (await world.get("/v1/activity?kind=webhook"))["items"]
        assert (row["name"], row["user_id"], row["goal_id"]) == ("member_added", "alice", "0" * 24)
        assert row["outcome"] == "done"
        assert row["request_id"].startswith("req_")
        by_request = await world.get(f"/v1/activity?request_id={row['request_id']}")
        assert by_request["items"] == [row]

    @pytest.mark.parametrize("query", ["cursor=x", "kind=odd", "limit=0", "request_id=x&cursor=1", "request_id="])
    async def test_refuses_what_is_wrong(self, world: World, query: str) -> None:
        assert (await world.call("GET", f"/v1/activity?{query}")).status_code == 422


class TestTheStream:
    async def test_goes_on_where_a_page_ends(self, world: World) -> None:
        place = (await world.get("/v1/activity"))["place"]
        await hear(world, "member_added", "0" * 24, "alice")
        await world.context.recorder.flush()
        status, said = await streamed(world, "alice", f"after={place}")
        assert status == 200
        (line,) = [line for line in said.splitlines() if line.startswith("data: ")]
        (row,) = (await world.get("/v1/activity?kind=webhook"))["items"]
        assert json.loads(line.removeprefix("data: ")) == row
        assert "event: webhook\n" in said

    async def test_refuses_other_places_and_too_many(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        assert (await world.call("GET", "/v1/activity/stream?after=x")).status_code == 422
        monkeypatch.setattr(Tails, "__len__", lambda _: 20)
        answer = await world.call("GET", "/v1/activity/stream")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
