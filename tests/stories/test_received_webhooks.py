"""`GET /v1/webhooks`: what Pusher sent, in the order in which it arrived, each event once for a reader that follows."""

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from goalsvc.clock import to_epoch_milliseconds
from tests.world import World

pytestmark = pytest.mark.real

GOAL = "68143584d6945d32e732cc21"
CHANNEL = f"presence-enc-goal@{GOAL}"


async def hears(world: World, *names: str, **more: Any) -> httpx.Response:
    events = [{"name": name, "channel": CHANNEL, "user_id": "alice", **more} for name in names]
    answer = await world.webhook({"time_ms": to_epoch_milliseconds(world.clock.now()), "events": events})
    await world.context.recorder.flush()
    return answer


async def follow(world: World, place: str, limit: int = 100) -> tuple[list[dict[str, Any]], str]:
    """Every row after that place, page by page, and the place behind them."""
    found: list[dict[str, Any]] = []
    while True:
        page = await world.get(f"/v1/webhooks?after={place}&limit={limit}")
        place = page["next"]
        if not page["items"]:
            return found, place
        found += page["items"]


async def now_on(world: World) -> str:
    page = await world.get("/v1/webhooks")
    assert page["items"] == []
    return str(page["next"])


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_each_event_is_read_once(world: World, limit: int) -> None:
    place = await now_on(world)
    await hears(world, "member_added", "channel_occupied")  # both at the same millisecond
    world.clock.move_on(5)
    first, place = await follow(world, place, limit)
    assert sorted(row["name"] for row in first) == ["channel_occupied", "member_added"]
    await hears(world, "member_removed")
    world.clock.move_on(5)
    second, place = await follow(world, place, limit)
    assert [row["name"] for row in second] == ["member_removed"]
    assert (second[0]["channel"], second[0]["user_id"], second[0]["goal_id"]) == (CHANNEL, "alice", GOAL)
    assert await follow(world, place, limit) == ([], place)


async def test_what_arrived_a_moment_ago_comes_with_the_next_page(world: World) -> None:
    place = await now_on(world)
    await hears(world, "member_added")
    assert await follow(world, place) == ([], place)
    world.clock.move_on(1)
    assert len((await follow(world, place))[0]) == 1


async def test_a_refused_webhook_is_there_without_an_event(world: World) -> None:
    place = await now_on(world)
    answer = await world.webhook({"time_ms": 1, "events": []})
    assert answer.status_code == 400
    await world.context.recorder.flush()
    world.clock.move_on(5)
    ((row,), _) = await follow(world, place)
    assert (row["name"], row["outcome"]) == ("refused", "failed")
    assert "stale_webhook" in row["reason"]
    assert "channel" not in row


async def test_the_events_of_one_request_are_found_at_once_with_what_each_receiver_answered(world: World) -> None:
    await hears(world, "member_added")
    answer = await hears(world, "member_added", "channel_occupied")
    request_id = answer.headers["x-request-id"]
    rows = (await world.get(f"/v1/webhooks?request_id={request_id}"))["items"]
    assert sorted(row["name"] for row in rows) == ["channel_occupied", "member_added"]
    assert {row["request_id"] for row in rows} == {request_id}
    for row in rows:
        answers = {one["receiver"]: one for one in row["answers"]}
        assert answers["karaoke_control"] == {
            "receiver": "karaoke_control",
            "outcome": "returned",
            "reason": "unknown_goal",
        }
        assert answers["track_channel_presence"]["outcome"] == "done"
    world.clock.move_on(31)
    assert (await world.get(f"/v1/webhooks?request_id={request_id}"))["items"] == rows


async def test_a_refused_webhook_is_found_by_its_request(world: World) -> None:
    answer = await world.webhook({"time_ms": 1, "events": []})
    await world.context.recorder.flush()
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
    (row,) = (await world.get(f"/v1/webhooks?request_id={answer.json()['request_id']}"))["items"]
    assert "stale_webhook" in row["reason"]
    assert row["answers"] == []


@pytest.mark.parametrize("after", ["x", "-", "1x-", "²-", "123456789012345-a"])
async def test_a_place_that_was_not_given_out_is_refused(world: World, after: str) -> None:
    answer = await world.call("GET", f"/v1/webhooks?after={after}")
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid"


@pytest.mark.parametrize("limit", ["0", "1001", "x"])
async def test_a_wrong_limit_is_refused(world: World, limit: str) -> None:
    answer = await world.call("GET", f"/v1/webhooks?limit={limit}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "query.limit"


async def test_the_body_needs_its_scope(world: World) -> None:
    place = await now_on(world)
    await hears(world, "member_added")
    traces = world.database["traces"]
    traces.update_many({"node.kind": "webhook"}, {"$set": {"node.body": "{}"}})  # as with GOALSVC_KEEP_WEBHOOKS
    world.clock.move_on(5)
    assert (await follow(world, place))[0][0]["body"] == "{}"
    key = (await world.post("/v1/keys", {"name": "reader", "scopes": ["read"]}))["key"]
    answer = await world.client.get(f"/v1/webhooks?after={place}", headers={"Authorization": f"Bearer {key}"})
    (row,) = answer.json()["items"]
    assert "body" not in row


@pytest.mark.parametrize("kept", [False, True])
async def test_the_bodies_of_webhooks_about_goals_are_kept_where_that_is_set(world: World, kept: bool) -> None:
    """`GOALSVC_KEEP_WEBHOOKS`; of at most a kilobyte."""
    context = world.app.state.context
    settings = context.settings.model_copy(update={"keep_webhooks": kept})
    world.app.state.context = replace(context, settings=settings)
    place = await now_on(world)
    await hears(world, "member_added", padding="x" * 100)
    world.clock.move_on(1)
    await hears(world, "member_removed", padding="x" * 1024)
    world.clock.move_on(1)
    of_a_stream = {"name": "member_added", "channel": "presence-stream@alice", "user_id": "bob"}
    await world.webhook({"time_ms": to_epoch_milliseconds(world.clock.now()), "events": [of_a_stream]})
    await world.context.recorder.flush()
    world.clock.move_on(5)
    rows, _ = await follow(world, place)
    assert [row["name"] for row in rows] == ["member_added", "member_removed", "member_added"]
    assert ["body" in row for row in rows] == [kept, False, False]
    if kept:
        (event,) = json.loads(rows[0]["body"])["events"]
        assert event == {"name": "member_added", "channel": CHANNEL, "user_id": "alice", "padding": "x" * 100}
    stored = [segment["node"] for segment in world.all("traces") if segment["node"]["kind"] == "webhook"]
    assert sum("body" in node for node in stored) == kept


async def test_reading_uses_an_index(world: World) -> None:
    await hears(world, "member_added")
    traces = world.database["traces"]
    where = {"at": {"$gte": world.clock.now()}, "parent": {"$exists": False}, "node.kind": "webhook"}
    plan = traces.find(where).sort([("at", 1), ("_id", 1)]).limit(100).explain()["queryPlanner"]["winningPlan"]
    assert "COLLSCAN" not in str(plan)
