"""A goal is changed only in the state in which the caller knows it."""

from typing import Any

import pytest

from goalsvc.models.goal import Goal
from tests.world import World

pytestmark = pytest.mark.real


async def a_show(world: World) -> str:
    """The path of a goal that goes on."""
    session = await world.post("/v1/sessions", {"user_id": "alice"})
    levels = [{"title": "Ukulele", "target": 60}]
    goal = await world.post("/v1/goals", {"kind": "ShowGoal", "session_id": session["id"], "levels": levels})
    return f"/v1/goals/{goal['id']}"


async def test_the_metadata_is_limited_as_a_whole(world: World) -> None:
    path = await a_show(world)
    for name, status in (("one", 200), ("two", 422), ("one", 200)):
        answer = await world.call("PATCH", path, {"metadata": {name: "é" * 300_000}})
        assert answer.status_code == status, answer.text[:300]
        if status == 422:
            (fault,) = answer.json()["errors"]
            assert fault["field"] == "metadata"
            assert fault["message"].startswith("must be at most 1048576 bytes as JSON in all; it would be 1200")
    assert (await world.call("PATCH", path, {"metadata": {"one": None, "two": "é" * 300_000}})).status_code == 200
    assert (await world.call("PATCH", path, {"exp": "2026-12-31T20:00:00Z"})).status_code == 200


async def test_metadata_that_was_too_large_before_may_become_smaller(world: World) -> None:
    path = await a_show(world)
    large = {"metadata.old": "x" * 2_000_000, "metadata.odd": float("nan")}
    world.database["goals"].update_one({}, {"$set": large})
    assert (await world.call("PATCH", path, {"metadata": {"more": "x"}})).status_code == 422
    assert (await world.call("PATCH", path, {"metadata": {"old": None}})).status_code == 200
    assert (await world.call("PATCH", path, {"metadata": {"more": "x"}})).status_code == 200


async def test_two_changes_at_once_do_not_pass_the_limit_together(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, amend = await a_show(world), Goal.amend

    async def after_another(*given: Any) -> Goal | None:
        monkeypatch.setattr(Goal, "amend", amend)
        assert (await world.call("PATCH", path, {"metadata": {"one": "x" * 600_000}})).status_code == 200
        return await amend(*given)

    monkeypatch.setattr(Goal, "amend", after_another)
    answer = await world.call("PATCH", path, {"metadata": {"two": "x" * 600_000}})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "metadata")


async def test_a_change_that_comes_between_look_and_write_is_not_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, amend = await a_show(world), Goal.amend
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
