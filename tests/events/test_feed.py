"""The feed: what a platform's backend reads of an evening."""

import asyncio
import json
from typing import Any

import pytest

from tests.stories.scenes import a_funded_show, a_request, a_stage, an_exclusive
from tests.world import API_KEY, World


async def feed(world: World, query: str = "") -> list[dict[str, Any]]:
    """All events, page by page."""
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        page = await world.get(f"/v1/events?limit=7&after={after}{query}")
        found += page["items"]
        if not page["items"]:
            return found
        after = page["next"]


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


class TestAnEvening:
    async def test_of_a_funded_show_tells_it_all_in_order(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=60, earnings=2))
        await world.performer_joins(show)
        await world.settle()
        await world.after(seconds=70)
        await world.performer_leaves(show)
        await world.settle()
        of_the_session = types(await feed(world, f"&session_id={show.session_id}&types=session.*,recording.*"))
        assert of_the_session == ["session.started", "recording.started", "recording.stopped"]
        of_the_funding = types(await feed(world, f"&goal_id={show.funding_id}&types=goal.*"))
        assert of_the_funding == ["goal.created", "goal.progressed", "goal.completed", "goal.ended"]
        mine = types(await feed(world, f"&goal_id={show.id}"))
        assert "clip.stored" in mine
        assert mine.count("escrow.completed.individual") == 2
        assert mine.count("escrow.completed") == 1
        assert [t for t in mine if t.startswith("goal.")] == [
            "goal.created",
            "goal.started",
            "goal.progressed",
            "goal.completed",
            "goal.ended",
        ]
        everything = await feed(world)
        assert types(everything).count("deposit.created") == types(everything).count("contribution.created") == 2
        assert [event["sequence"] for event in everything] == list(range(1, len(everything) + 1))

    async def test_a_goals_event_holds_the_whole_goal_and_what_follows(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=60, earnings=2))
        (completed,) = await feed(world, "&types=goal.completed")
        goal = completed["data"]["goal"]
        assert goal["id"] == completed["goal_id"] == show.funding_id
        assert goal["metadata"]["show"]["target"] == 60
        assert goal["levels"]
        assert completed["data"]["show_goal_id"] == show.id
        assert completed["user_ids"] == ["alice"]
        assert completed["cause"]["call"] == "create_contribution"

    async def test_an_agreed_request(self, world: World) -> None:
        exclusive = await world.given(an_exclusive())
        events = await feed(world)
        ended = [event for event in events if event["type"] in ("goal.agreed", "goal.ended")]
        assert types(ended) == ["goal.agreed", "goal.ended"]
        assert {event["data"]["exclusive_goal_id"] for event in ended} == {exclusive.id}

    async def test_a_declined_request(self, world: World) -> None:
        request = await world.given(a_request())
        await world.post(f"/v1/goals/{request.id}/decline")
        await world.settle()
        assert "goal.declined" in types(await feed(world, f"&goal_id={request.id}"))
        assert "escrow.refunded.individual" in types(await feed(world, "&user_id=bob"))

    async def test_nothing_twice_when_every_job_is_run_twice(self, world: World) -> None:
        world.jobs.twice = True
        show = await world.given(a_funded_show(seconds=60, earnings=3))
        await world.performs(show, seconds=70)
        await world.settle()
        events = await feed(world)
        assert types(events).count("escrow.completed.individual") == 3
        assert types(events).count("goal.ended") == 2

    async def test_a_session_that_ends(self, world: World) -> None:
        stage = await world.given(a_stage())
        await world.post(f"/v1/sessions/{stage.session_id}/end")
        await world.settle()
        assert types(await feed(world)) == ["session.started", "session.ended"]


class TestTheFeed:
    async def test_an_unknown_type_is_refused(self, world: World) -> None:
        answer = await world.call("GET", "/v1/events?types=goal.ended,goal.exploded")
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "query.types"

    async def test_a_cursor_of_elsewhere_is_refused(self, world: World) -> None:
        for after in ("999999", "x", "evt_" + "0" * 32, "-1", "1.5"):
            assert (await world.call("GET", f"/v1/events?after={after}")).status_code == 422

    async def test_an_expired_cursor_is_gone_and_names_the_oldest(self, world: World) -> None:
        await world.given(a_funded_show(seconds=60, earnings=2))
        assert len(await feed(world)) > 5
        world.database.events.delete_many({"sequence": {"$lte": 3}})
        answer = await world.call("GET", "/v1/events?after=1")
        assert (answer.status_code, answer.json()["code"], answer.json()["oldest"]) == (410, "cursor_expired", "3")

    async def test_an_event_by_its_id(self, world: World) -> None:
        await world.given(a_stage())
        await world.settle()
        (event,) = await feed(world)
        assert await world.get(f"/v1/events/{event['id']}") == event
        assert (await world.get(f"/v1/events?after={event['id']}"))["items"] == []
        assert (await world.call("GET", f"/v1/events/evt_{'0' * 32}")).status_code == 404

    @pytest.mark.parametrize("query", ["", "&types=deposit.*", "&user_id=bob"])
    async def test_back_from_the_newest(self, world: World, query: str) -> None:
        for amount in range(1, 12):
            await world.deposits("bob" if amount % 3 else "eve", amount)
        forward = await feed(world, query)
        back: list[dict[str, Any]] = []
        page = await world.get(f"/v1/events?order=desc&limit=3{query}")
        while True:
            back += page["items"]
            if page["next"] is None:
                break
            await world.deposits("bob", 100)  # what is added meanwhile is not in the past
            page = await world.get(f"/v1/events?order=desc&limit=3&after={page['next']}{query}")
        assert back == forward[::-1]
        before = await world.get(f"/v1/events?order=desc&after={forward[1]['id']}{query}")
        assert before["items"] == forward[:1]

    async def test_back_over_events_that_have_expired(self, world: World) -> None:
        for amount in (1, 2, 3, 4):
            await world.deposits("bob", amount)
        await feed(world)
        world.database.events.delete_many({"sequence": {"$lte": 2}})
        page = await world.get("/v1/events?order=desc&limit=9")
        assert ([event["sequence"] for event in page["items"]], page["next"]) == ([4, 3], None)
        assert await world.get("/v1/events?order=desc&after=2") == {"items": [], "next": None}

    async def test_an_empty_filter_is_none(self, world: World) -> None:
        await world.deposits("bob", 1)
        assert await feed(world, "&types=") == await feed(world)

    async def test_the_past_is_not_waited_for(self, world: World) -> None:
        answer = await world.call("GET", "/v1/events?order=desc&wait=1")
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "query.wait")

    async def test_a_long_poll_is_answered_by_the_next_event(self, world: World) -> None:
        waiting = asyncio.create_task(world.get("/v1/events?wait=20"))
        await world.deposits("bob", 5)
        page = await waiting
        assert types(page["items"]) == ["deposit.created"]

    async def test_a_long_poll_with_nothing_to_tell_ends(self, world: World) -> None:
        page = await world.get("/v1/events?wait=0.05")
        assert page == {"items": [], "next": "0"}


def stream_scope(key: str, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    """The request for the stream, for an app that is called without a server between."""
    return {
        "type": "http",
        "method": "GET",
        "path": "/v1/events/stream",
        "raw_path": b"/v1/events/stream",
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {key}".encode()), *headers],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("goalsvc", 80),
        "client": ("127.0.0.1", 1),
        "root_path": "",
    }


class TestTheStream:
    async def test_goes_on_after_the_last_event_and_ends_when_the_server_stops(self, world: World) -> None:
        await world.deposits("bob", 5)
        await world.deposits("bob", 6)
        first, second = await feed(world)
        stopping = world.app.state.stopping
        sent: list[str] = []

        async def receive() -> dict[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            sent.append(message.get("body", b"").decode())
            if "evt_" in sent[-1]:
                stopping.stop()

        scope = stream_scope(API_KEY, (b"last-event-id", first["id"].encode()))
        async with asyncio.timeout(20):
            await world.app(scope, receive, send)  # type: ignore[arg-type]
        (line,) = [line for line in "".join(sent).split("\n") if line.startswith("data: ")]
        assert json.loads(line.removeprefix("data: ")) == second

    @pytest.mark.parametrize("busy", [False, True])
    async def test_ends_when_its_key_is_revoked(
        self, world: World, monkeypatch: pytest.MonkeyPatch, busy: bool
    ) -> None:
        monkeypatch.setattr("goalsvc.api.events._HEARTBEAT_SECONDS", 0.2)
        key = await world.post("/v1/keys", {"name": "reader", "scopes": ["read"]})
        ended, depositing = asyncio.Event(), list[asyncio.Task[None]]()

        async def goes_on() -> None:
            while not ended.is_set():
                await world.deposits("bob", 5)

        async def receive() -> dict[str, Any]:
            await ended.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if b"ok" in message.get("body", b""):  # it has begun
                revoked = await world.call("DELETE", f"/v1/keys/{key['id']}")
                assert revoked.status_code == 200, revoked.text
                if busy:
                    depositing.append(asyncio.create_task(goes_on()))

        try:
            async with asyncio.timeout(20):
                await world.app(stream_scope(key["key"]), receive, send)  # type: ignore[arg-type]
        finally:
            ended.set()
            await asyncio.gather(*depositing)
