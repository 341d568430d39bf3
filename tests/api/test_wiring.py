"""`GET /v1/wiring`: whether webhooks come, of each type and with each app key; the console's start page shows the same."""

import json
from datetime import datetime
from typing import Any

from tests.console.conftest import a_key, hear
from tests.world import API_KEY, PUSHER_KEY, PUSHER_SECRET, World

TYPES = ["member_added", "member_removed", "channel_occupied", "channel_vacated"]
NOWHERE = "0" * 24


async def wiring_of(world: World) -> dict[str, Any]:
    await world.context.recorder.flush()
    world.clock.move_on(2)
    found: dict[str, Any] = await world.get("/v1/wiring")
    return found


def check(found: dict[str, Any], name: str) -> dict[str, Any]:
    (one,) = [one for one in found["checks"] if one["name"] == name]
    return dict(one)


class TestTypesAndKeys:
    async def test_are_null_until_a_webhook_comes(self, world: World) -> None:
        found = await wiring_of(world)
        assert [one["name"] for one in found["event_types"]] == TYPES
        assert found["app_keys"] == [{"key": PUSHER_KEY, "last_at": None}]
        assert {one["last_at"] for one in found["event_types"]} == {None}
        assert found["right"] is False
        assert found["sentence"].startswith("The wiring is not complete. Look at: webhooks, event types")

    async def test_name_when_the_last_one_came(self, world: World) -> None:
        await hear(world, "member_added", NOWHERE, "alice")
        world.clock.move_on(60)
        await hear(world, "member_added", NOWHERE, "bob")
        second = world.clock.now()
        found = await wiring_of(world)
        times = {one["name"]: one["last_at"] for one in found["event_types"]}
        assert datetime.fromisoformat(times["member_added"]) == second
        assert times["member_removed"] is None
        assert found["app_keys"][0]["last_at"] == times["member_added"]
        text = "member_removed, channel_occupied, channel_vacated never came. Switch on: Channel existence, Presence."
        assert check(found, "event types") == {"name": "event types", "right": False, "text": text}
        assert check(found, "webhooks")["right"] is True

    async def test_do_not_count_what_was_refused(self, world: World) -> None:
        body = json.dumps({"time_ms": 1, "events": [{"name": "member_added", "channel": "x"}]})
        headers = {"X-Pusher-Key": PUSHER_KEY, "X-Pusher-Signature": "0" * 64}
        assert (await world.client.post("/notify/pusher", content=body, headers=headers)).status_code == 401
        found = await wiring_of(world)
        assert found["app_keys"][0]["last_at"] is None
        assert check(found, "signatures")["text"].startswith("1 had a wrong signature")
        assert check(found, "webhooks")["right"] is False


class TestChecks:
    async def test_see_webhooks_that_come_late(self, world: World) -> None:
        event = {"name": "member_added", "channel": f"presence-enc-goal@{NOWHERE}", "user_id": "alice"}
        late = int(world.clock.now().timestamp() * 1000) - 30_000
        await world.webhook({"time_ms": late, "events": [event]})
        told = check(await wiring_of(world), "clocks")
        assert (told["right"], told["text"].startswith("half of the webhooks arrived within 30 s: ")) == (False, True)

    async def test_show_no_secret(self, world: World) -> None:
        text = json.dumps(await wiring_of(world))
        assert PUSHER_KEY in text
        assert not any(secret in text for secret in (API_KEY, PUSHER_SECRET))

    async def test_need_the_scope_read(self, world: World) -> None:
        for scope, status in (("read", 200), ("write", 403)):
            headers = {"Authorization": f"Bearer {(await a_key(world, scope))['key']}"}
            assert (await world.client.get("/v1/wiring", headers=headers)).status_code == status
