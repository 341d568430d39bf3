"""`POST /v1/replays/rehearsal` and `POST /v1/replays`: what a recording would change, and its sending with that digest."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from bson import ObjectId

from goalsvc.actions.rehearsal import MOST_GOALS
from goalsvc.clock import to_epoch_milliseconds
from goalsvc.domain.recordings import MOST_CHARACTERS
from tests.console.conftest import a_key, hear
from tests.console.test_watching import a_funded_show, event, recording
from tests.world import World

from .test_errors import assert_problem

Json = dict[str, Any]


async def rehearsal_of(world: World, text: str, *, keep_time: bool = False) -> Json:
    answer = await world.call("POST", "/v1/replays/rehearsal", {"recording": text, "keep_time": keep_time})
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def replayed(
    world: World, text: str, digest: str, *, keep_time: bool = False, key: str | None = None
) -> httpx.Response:
    body = {"recording": text, "keep_time": keep_time, "digest": digest, "reason": "Pusher was away"}
    return await world.call("POST", "/v1/replays", body, key=key)


async def everything(world: World) -> Mapping[str, object]:
    await world.context.recorder.flush()
    return {name: world.all(name) for name in world.database.list_collection_names()}


def line_at(world: World, seconds_ago: float, *events: object) -> str:
    at = to_epoch_milliseconds(world.clock.now() - timedelta(seconds=seconds_ago))
    return json.dumps({"body": json.dumps({"time_ms": at, "events": events})})


class TestRehearsal:
    async def test_says_what_would_change_and_writes_nothing(self, world: World) -> None:
        show = await a_funded_show(world)
        world.clock.move_on(300)
        before = await everything(world)
        found = await rehearsal_of(world, recording(world, show, 90))
        assert await everything(world) == before
        said = "A replay would change 1 goal: 90 more seconds would count, and 50 tokens would be paid."
        assert (found["sentence"], found["webhooks"]) == (said, 3)
        (change,) = found["changes"]
        assert change == {
            "goal_id": show,
            "name": "The ShowGoal “Ukulele”",
            "sentence": "The ShowGoal “Ukulele” would go from 0 to 90 s and from level 0 to 1; 50 tokens would be paid.",
            "changes": True,
            "seconds_before": 0,
            "seconds_after": 90,
            "level_before": 0,
            "level_after": 1,
            "levels": 1,
            "tokens_paid": 50,
            "runs_before": False,
            "runs_after": False,
            "events": 3,
            "repeats": 0,
            "refused": {"not_a_participant": 1},
        }

    async def test_is_answered_anew_whatever_its_key(self, world: World) -> None:
        show = await a_funded_show(world)
        body = {"recording": recording(world, show, 90)}
        first = await world.call("POST", "/v1/replays/rehearsal", body, key="k")
        await world.post(f"/v1/goals/{show}/end", {})
        world.clock.move_on(600)
        second = await world.call("POST", "/v1/replays/rehearsal", body, key="k")
        assert first.json()["digest"] != second.json()["digest"]
        other = await world.call("POST", "/v1/replays/rehearsal", {"recording": recording(world, show, 5)}, key="k")
        assert other.status_code == 200

    async def test_counts_what_would_be_refused_and_what_is_elsewhere(self, world: World) -> None:
        odd = ObjectId()
        world.database.goals.insert_one({"_id": odd, "_cls": 5})
        text = "\n".join(
            [
                line_at(world, 1200, event("member_added", "0" * 24, "alice")),
                line_at(world, 0, event("member_added", str(odd), "alice"), event("other", "0" * 24, "alice")),
                line_at(world, 0, {"name": ["member_added"], "channel": 5}, 7),
            ]
        )
        found = await rehearsal_of(world, text, keep_time=True)
        assert {name: found[name] for name in ("webhooks", "stale", "malformed", "elsewhere", "changes")} == {
            "webhooks": 3,
            "stale": 1,
            "malformed": 1,
            "elsewhere": 3,
            "changes": [],
        }
        world.database.goals.delete_many({})

    async def test_refuses_what_is_no_recording_or_too_much(self, world: World) -> None:
        goals = [event("member_added", str(ObjectId()), "alice") for _ in range(MOST_GOALS + 1)]
        for text in ("", "x", "x" * (MOST_CHARACTERS + 1), line_at(world, 0, *goals)):
            answer = await world.call("POST", "/v1/replays/rehearsal", {"recording": text})
            assert_problem(answer, 422, "invalid")
            assert answer.json()["errors"][0]["field"] == "recording"
        assert len((await rehearsal_of(world, line_at(world, 0, *goals[1:])))["changes"]) == 0


class TestReplay:
    async def test_sends_what_was_rehearsed_once_and_is_audited(self, world: World) -> None:
        show = await a_funded_show(world)
        world.clock.move_on(300)
        text = recording(world, show, 90)
        rehearsal = await rehearsal_of(world, text)
        answer = await replayed(world, text, rehearsal["digest"], key="k")
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"sent": 3, "refused": 0, "not_sent": 0, "refusals": [], "rehearsal": rehearsal}
        repeat = await replayed(world, text, rehearsal["digest"], key="k")
        assert (repeat.json(), repeat.headers["Idempotent-Replayed"]) == (answer.json(), "true")
        await world.settle()
        assert (await world.get(f"/v1/goals/{show}"))["progress"] == 90
        assert (await world.get("/v1/wallets/alice"))["balance"] == 50
        await world.context.recorder.flush()
        roots = (await world.get("/v1/activity?kind=webhook"))["items"]
        assert [root["name"] for root in roots] == ["member_removed", "member_added", "member_added"]
        assert {root["request_id"] for root in roots} == {answer.headers["X-Request-ID"]}
        (act,) = (await world.get("/v1/audit?operation=replay_webhooks"))["items"]
        assert (act["reason"], act["targets"], act["outcome"]) == ("Pusher was away", [show], "done")

    async def test_is_refused_when_its_digest_no_longer_fits(self, world: World) -> None:
        show = await a_funded_show(world)
        text = recording(world, show, 90)
        digest = (await rehearsal_of(world, text))["digest"]
        for other, given, keep_time in (
            (recording(world, show, 80), digest, False),
            (text, "0" * 64, False),
            (text, digest, True),
        ):
            refused = await replayed(world, other, given, keep_time=keep_time)
            assert_problem(refused, 409, "rehearsal_outdated")
        await hear(world, "member_added", show, "alice")
        await world.after(seconds=10)
        await hear(world, "member_removed", show, "alice")
        await world.settle()
        assert_problem(await replayed(world, text, digest), 409, "rehearsal_outdated")
        assert (await world.get(f"/v1/goals/{show}"))["progress"] == 10
        assert (await world.get("/v1/audit?operation=replay_webhooks"))["items"] == []

    async def test_names_each_line_that_is_refused_and_sends_the_others(self, world: World) -> None:
        show = await a_funded_show(world)
        text = "\n".join(
            [
                line_at(world, 1200, event("member_added", show, "alice")),
                line_at(world, 60, event("member_added", show, "alice")),
                line_at(world, 50, {"name": "member_added", "channel": 5}),
                line_at(world, 30, event("member_removed", show, "alice")),
            ]
        )
        rehearsal = await rehearsal_of(world, text, keep_time=True)
        assert (rehearsal["stale"], rehearsal["malformed"]) == (1, 1)
        sent = (await replayed(world, text, rehearsal["digest"], keep_time=True)).json()
        assert (sent["sent"], sent["refused"], sent["not_sent"]) == (2, 2, 0)
        assert [(one["line"], one["code"]) for one in sent["refusals"]] == [
            (1, "stale_webhook"),
            (3, "malformed_webhook"),
        ]
        await world.settle()
        assert (await world.get(f"/v1/goals/{show}"))["progress"] == rehearsal["changes"][0]["seconds_after"] == 30

    async def test_ends_where_the_database_does_not_answer(self, world: World) -> None:
        text = "\n".join(line_at(world, 0, event("member_added", "0" * 24, user)) for user in ("a", "b", "c"))
        digest = (await rehearsal_of(world, text))["digest"]
        world.app.state.context = replace(world.context, bus=_SlowAtSecond(world.context.bus))
        sent = (await replayed(world, text, digest)).json()
        assert (sent["sent"], sent["refused"], sent["not_sent"]) == (1, 1, 1)
        assert [(one["line"], one["code"]) for one in sent["refusals"]] == [(2, "unavailable")]

    @pytest.mark.parametrize(
        ("scope", "rehearses", "sends"), [("read", 200, 403), ("operate", 403, 200), ("write", 403, 403)]
    )
    async def test_needs_its_scope(self, world: World, scope: str, rehearses: int, sends: int) -> None:
        text = line_at(world, 0)
        digest = (await rehearsal_of(world, text))["digest"]
        headers = {"Authorization": f"Bearer {(await a_key(world, scope))['key']}"}
        for path, body, status in (
            ("/v1/replays/rehearsal", {"recording": text}, rehearses),
            ("/v1/replays", {"recording": text, "digest": digest}, sends),
        ):
            assert (await world.client.post(path, json=body, headers=headers)).status_code == status


class _SlowAtSecond:
    """A bus that does not answer in time, from the second event on."""

    def __init__(self, bus: Any) -> None:
        self._bus, self._heard = bus, 0

    async def send(self, *given: Any) -> Any:
        self._heard += 1
        if self._heard > 1:
            raise TimeoutError
        return await self._bus.send(*given)
