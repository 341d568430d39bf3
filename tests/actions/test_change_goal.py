"""A goal is changed only in the state in which the caller knows it."""

from typing import Any

import pytest

from goalsvc.models.goal import Goal
from tests.world import World

pytestmark = pytest.mark.real


async def test_a_change_that_comes_between_look_and_write_is_not_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await world.post("/v1/sessions", {"user_id": "alice"})
    levels = [{"title": "Ukulele", "target": 60}]
    goal = await world.post("/v1/goals", {"kind": "ShowGoal", "session_id": session["id"], "levels": levels})
    path, amend = f"/v1/goals/{goal['id']}", Goal.amend
    known = (await world.call("GET", path)).headers["ETag"]

    async def after_another(*given: Any) -> Goal | None:
        monkeypatch.setattr(Goal, "amend", amend)
        assert (await world.call("PATCH", path, {"metadata": {"seats": "theirs"}})).status_code == 200
        return await amend(*given)

    monkeypatch.setattr(Goal, "amend", after_another)
    answer = await world.call("PATCH", path, {"metadata": {"seats": "ours"}}, **{"If-Match": known})
    assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")
    assert (await world.get(path))["metadata"]["seats"] == "theirs"
    assert len(world.all("events", {"type": "goal.updated"})) == 1
