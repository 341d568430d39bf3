"""The pages that say whether all is right, and what a recording would change."""

import json
import re
from datetime import timedelta

import httpx
import pytest

from goalsvc.clock import to_epoch_milliseconds
from goalsvc.errors import ServiceDownError
from goalsvc.integrations.breaker import Breakers
from goalsvc.tasks.heartbeats import Beating
from tests.world import World

from .conftest import FROM_HERE, a_key, hear, log_in


async def shown(world: World, operator: httpx.AsyncClient, path: str) -> str:
    await world.context.recorder.flush()
    world.clock.move_on(2)
    answer = await operator.get(f"/console{path}")
    assert answer.status_code == 200
    return answer.text


async def a_funded_show(world: World) -> str:
    session = await world.post("/v1/sessions", {"user_id": "alice"})
    plan = {"show": {"title": "Ukulele", "target": 60}}
    funding = await world.post(
        "/v1/goals",
        {
            "kind": "FundingGoal",
            "session_id": session["id"],
            "levels": [{"title": "Fund it", "target": 50}],
            "metadata": plan,
        },
    )
    await world.post("/v1/wallets/bob/deposits", {"amount": 50})
    await world.post(f"/v1/goals/{funding['id']}/contributions", {"user_id": "bob", "amount": 50})
    await world.settle()
    goals = (await world.get(f"/v1/goals?session_id={session['id']}"))["items"]
    (show,) = [goal["id"] for goal in goals if goal["kind"] == "ShowGoal"]
    return str(show)


class TestEscrow:
    async def test_of_a_show_is_known_without_the_pair_of_the_session(
        self, world: World, operator: httpx.AsyncClient
    ) -> None:
        show = await a_funded_show(world)
        world.database.sessions.update_many({}, {"$set": {"show_goal_pairs": []}})
        assert re.search(
            r"/console/escrows/show_funding%3A[0-9a-f]{24}", await shown(world, operator, f"/goals/{show}")
        )


class TestStart:
    async def test_says_what_is_missing_and_then_that_nothing_is(
        self, world: World, operator: httpx.AsyncClient
    ) -> None:
        before = await shown(world, operator, "/start")
        assert "The wiring is not complete. Look at: webhooks, event types" in before
        assert "never came. Switch on: Channel existence, Presence." in before
        for name in ("member_added", "channel_occupied", "member_removed"):
            await hear(world, name, "0" * 24, "alice")
        assert "channel_vacated never came. Switch on: Channel existence." in await shown(world, operator, "/start")
        await hear(world, "channel_vacated", "0" * 24, "alice")
        text = await shown(world, operator, "/start")
        assert re.search(r"key world-key</td><td><time", text)
        assert "never" not in re.sub(r"“Never”.*", "", text)
        assert (await world.get("/v1/wiring"))["sentence"] in text


class TestHealth:
    async def test_shows_workers_and_services_as_the_api_does(self, world: World, operator: httpx.AsyncClient) -> None:
        assert "No worker runs: what is promised waits until one does." in await shown(world, operator, "/health")
        breakers = Breakers(world.clock)
        with pytest.raises(ServiceDownError), breakers.of("pusher").call():
            raise ServiceDownError("pusher", "<b>answered 503</b>")
        worker = Beating(world.redis, world.clock, "worker", breakers)
        await worker.beat(0.25, lanes=["money"], jobs=7, last_claim_at=world.clock.now())
        text = await shown(world, operator, "/health")
        (process,) = (await world.get("/v1/health"))["processes"]
        assert '<p class="sentence">Nothing is stuck.</p>' in text
        for said in (process["host"], f"<td>{process['version']}</td>", '<td class="n">7</td>', "250 ms", "2 s ago"):
            assert said in text
        assert "failing</span>" in text
        assert "&lt;b&gt;answered 503" in text
        await worker.end()


class TestReconciliation:
    async def test_says_that_all_agrees_or_what_does_not(self, world: World, operator: httpx.AsyncClient) -> None:
        show = await a_funded_show(world)
        await hear(world, "member_added", show, "alice")
        await hear(world, "member_added", show, "mallory")
        text = await shown(world, operator, "/reconciliation")
        assert "All agrees:" in text
        assert show in text
        assert "All accounts sum to 0." in text
        world.clock.move_on(timedelta(minutes=10).total_seconds())
        later = await shown(world, operator, "/reconciliation")
        assert "1 running clock is not confirmed by Pusher" in later
        assert (await world.get("/v1/reconciliation"))["sentence"] in later

    async def test_leads_to_what_has_a_late_promise(self, world: World, operator: httpx.AsyncClient) -> None:
        session = await world.post("/v1/sessions", {"user_id": "alice"})
        promise = {"id": "p", "task": "StopRecord", "arguments": {}, "at": world.clock.now() - timedelta(seconds=90)}
        world.database.sessions.update_one({}, {"$set": {"promises": [promise]}})
        text = await shown(world, operator, "/reconciliation")
        assert "1 promise is older than 60 s" in text
        assert f'href="/console/sessions/{session["id"]}"' in text
        world.database.sessions.update_one({}, {"$unset": {"promises": 1}})


class TestReplay:
    async def test_shows_what_would_change_and_writes_nothing(self, world: World, operator: httpx.AsyncClient) -> None:
        show = await a_funded_show(world)
        world.clock.move_on(300)
        text = recording(world, show, 90)
        dry = await operator.post("/console/replay", data={"recording": text}, headers=FROM_HERE)
        said = "A replay would change 1 goal: 90 more seconds would count, and 50 tokens would be paid."
        assert said in dry.text
        assert (await world.get(f"/v1/goals/{show}"))["progress"] == 0
        digest = re.search(r'name="digest" value="([0-9a-f]{64})"', dry.text)
        assert digest is not None

        fields = {"recording": text, "digest": digest[1], "reason": "Pusher was away"}
        for lacking in ({"reason": " "}, {"digest": "0" * 64}):
            refused = await operator.post("/console/replay", data={**fields, **lacking}, headers=FROM_HERE)
            assert refused.status_code in (409, 422)
        assert (await world.get(f"/v1/goals/{show}"))["progress"] == 0

        sent = await operator.post("/console/replay", data=fields, headers=FROM_HERE)
        assert "3 webhooks were sent" in sent.text
        await world.settle()
        assert (await world.get(f"/v1/goals/{show}"))["progress"] == 90
        assert (await world.get("/v1/wallets/alice"))["balance"] == 50
        (act,) = (await world.get("/v1/audit?operation=replay_webhooks"))["items"]
        assert (act["reason"], act["targets"], act["via"]) == ("Pusher was away", [show], "console")

    async def test_of_what_has_happened_already_changes_nothing(
        self, world: World, operator: httpx.AsyncClient
    ) -> None:
        show = await a_funded_show(world)
        await hear(world, "member_added", show, "alice")
        await world.after(seconds=10)
        await hear(world, "member_removed", show, "alice")
        await world.settle()
        now = to_epoch_milliseconds(world.clock.now())
        text = "\n".join(
            json.dumps({"body": json.dumps({"time_ms": at, "events": [event(name, show, "mallory")]})})
            for name, at in (("member_added", now - 5000), ("member_removed", now))
        )
        dry = await operator.post("/console/replay", data={"recording": text, "keep_time": "on"}, headers=FROM_HERE)
        assert "A replay would change no goal." in dry.text
        assert "2 not a participant" in dry.text

    async def test_of_bad_texts_names_the_line(self, world: World, browser: httpx.AsyncClient) -> None:
        await log_in(browser, (await a_key(world, "read"))["key"])
        for text, said in (
            ("", "recording: must hold at least one webhook"),
            ("<script>", "recording: line 1: must be an object"),
            ('{"body": "{}"}', "line 1: the body must be an object with a list `events`"),
            ('{"body": {"events": []}}', "the body must have `time_ms` or a readable `timestamp`"),
            ('{"body": {"events": [], "time_ms": 1e300}}', "the body must have `time_ms` or a readable `timestamp`"),
        ):
            answer = await browser.post("/console/replay", data={"recording": text}, headers=FROM_HERE)
            assert (answer.status_code, said in answer.text) == (422, True), text
            assert "<script>" not in answer.text.replace("<script src", "")
        text = '{"body": {"events": [{"channel": 5}, 7], "time_ms": 1}}'
        assert (await browser.post("/console/replay", data={"recording": text}, headers=FROM_HERE)).status_code == 200
        digest = {"recording": text, "digest": "0" * 64, "reason": "y"}
        assert (await browser.post("/console/replay", data=digest, headers=FROM_HERE)).status_code == 403


def event(name: str, goal_id: str, user_id: str) -> dict[str, str]:
    return {"name": name, "channel": f"presence-enc-goal@{goal_id}", "user_id": user_id}


def recording(world: World, goal_id: str, seconds: int) -> str:
    """A recording of long ago: alice performs for so many seconds, and mallory looks in."""
    begin = to_epoch_milliseconds(world.clock.now()) - 10**9
    lines = (("member_added", "alice", 0), ("member_added", "mallory", 5), ("member_removed", "alice", seconds))
    return "\n".join(
        json.dumps({"body": json.dumps({"time_ms": begin + at * 1000, "events": [event(name, goal_id, user)]})})
        for name, user, at in lines
    )


class TestTail:
    async def test_has_each_attempt_of_a_delivery_for_those_who_may_see_it(
        self, world: World, operator: httpx.AsyncClient, browser: httpx.AsyncClient
    ) -> None:
        await world.post("/v1/sessions", {"user_id": "alice"})
        began = world.clock.now()
        for number in range(3):
            world.clock.move_on(1)
            attempt = {"at": world.clock.now(), "status": 503, "ms": 12.3, "answer": "<b>away</b>"}
            delivery = {"_id": f"whe_1:evt_{number}", "endpoint_id": "whe_1", "event_id": f"evt_{number}"}
            told = {"type": "goal.ended", "state": "pending", "attempts": [attempt], "tried_at": world.clock.now()}
            world.database.deliveries.insert_one(
                {**delivery, **told, "next_at": world.clock.now(), "created_at": began}
            )
        said = "delivery goal.ended to whe_1, pending, 503, 12 ms, again at "
        text = await shown(world, operator, "/live")
        assert (text.count(said), text.count("begin_session")) == (3, 1)
        assert text.index("evt_2") < text.index("evt_0") < text.index("begin_session"), "the latest first"
        assert "/console/events/evt_2" in text
        assert (await shown(world, operator, "/live?kind=webhook")).count(said) == 0
        assert (await shown(world, operator, "/live?kind=delivery")).count(said) == 3

        await log_in(browser, (await a_key(world, "read"))["key"])
        assert "whe_1" not in await shown(world, browser, "/live?kind=delivery")
