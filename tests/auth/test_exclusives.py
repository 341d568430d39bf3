"""One exclusive at a time, and no request agreed to, or goal ended, that is over: what the API refuses, and why."""

import asyncio
from typing import Any

import httpx
import pytest
from bson import ObjectId

from tests.stories.scenes import Request, a_karaoke, a_request, a_stage, an_exclusive
from tests.world import World

pytestmark = pytest.mark.real


def conflict(response: httpx.Response) -> str:
    """The code of a refusal because of the document's state."""
    assert response.status_code == 409, response.text
    assert response.headers["content-type"] == "application/problem+json"
    code: str = response.json()["code"]
    return code


async def agrees(world: World, request: Request | str) -> httpx.Response:
    return await world.call("POST", f"/v1/goals/{request if isinstance(request, str) else request.id}/agree")


async def asks(world: World, session_id: str, viewer: str) -> str:
    """A viewer's request that costs nothing."""
    metadata = {"viewer_id": viewer, "private": True, "exclusive": {"title": "A minute", "target": 60}}
    goal = await world.post("/v1/goals", {"kind": "TriggerGoal", "session_id": session_id, "metadata": metadata})
    return str(goal["id"])


async def makes_exclusive(world: World, session_id: str, viewer: str) -> httpx.Response:
    body = {"kind": "ExclusiveGoal", "session_id": session_id, "conditions": {"exclusive_to": viewer}}
    return await world.call("POST", "/v1/goals", body)


class TestAgreeing:
    async def test_twice(self, world: World) -> None:
        request = await world.given(a_request())
        assert (await agrees(world, request)).status_code == 200
        assert conflict(await agrees(world, request)) == "goal_inactive"
        await world.settle()
        assert conflict(await agrees(world, request)) == "goal_inactive"
        assert len(world.all("goals", {"_cls": "Goal.ExclusiveGoal"})) == 1

    async def test_twice_at_once(self, world: World) -> None:
        request = await world.given(a_request())
        answers = await asyncio.gather(*(agrees(world, request) for _ in range(5)))
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]

    async def test_after_it_was_declined(self, world: World) -> None:
        request = await world.given(a_request())
        await world.post(f"/v1/goals/{request.id}/decline")
        assert conflict(await agrees(world, request)) == "goal_inactive"

    async def test_after_it_has_expired_though_nobody_has_ended_it_yet(self, world: World) -> None:
        request = await world.given(a_request(lasts=60))
        await world.after(seconds=60)
        assert conflict(await agrees(world, request)) == "goal_expired"
        await world.settle()
        assert world.balance("bob") == request.price
        assert conflict(await agrees(world, request)) == "goal_inactive"

    async def test_in_a_session_that_has_ended(self, world: World) -> None:
        request = await world.given(a_request())
        await world.post(f"/v1/sessions/{request.session_id}/end")
        assert conflict(await agrees(world, request)) == "session_ended"

    async def test_to_what_is_no_request(self, world: World) -> None:
        goal = await world.given(a_karaoke())
        assert conflict(await agrees(world, goal.id)) == "wrong_goal_kind"

    async def test_to_what_does_not_exist(self, world: World) -> None:
        assert (await agrees(world, str(ObjectId()))).status_code == 404


class TestASecondExclusive:
    async def test_is_not_agreed_to_while_one_runs(self, world: World) -> None:
        exclusive = await world.given(an_exclusive(seconds=60))
        second = await asks(world, exclusive.session_id, "carol")
        assert conflict(await agrees(world, second)) == "exclusive_running"
        await world.performer_joins(exclusive)
        await world.settle()
        assert conflict(await agrees(world, second)) == "exclusive_running"
        await world.after(seconds=60)
        await world.performer_leaves(exclusive)
        await world.settle()
        assert (await agrees(world, second)).status_code == 200

    async def test_nor_while_the_first_is_only_promised(self, world: World) -> None:
        request = await world.given(a_request())
        second = await asks(world, request.session_id, "carol")
        await agrees(world, request)  # no worker has come round to it
        assert world.all("goals", {"_cls": "Goal.ExclusiveGoal"}) == []
        assert conflict(await agrees(world, second)) == "exclusive_running"

    async def test_nor_when_both_are_agreed_to_at_once(self, world: World) -> None:
        request = await world.given(a_request())
        others = [await asks(world, request.session_id, f"viewer-{number}") for number in range(4)]
        answers = await asyncio.gather(*(agrees(world, goal) for goal in (request.id, *others)))
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]
        assert {conflict(answer) for answer in answers if answer.status_code == 409} == {"exclusive_running"}

    async def test_is_not_made_directly_while_one_runs(self, world: World) -> None:
        exclusive = await world.given(an_exclusive())
        assert conflict(await makes_exclusive(world, exclusive.session_id, "carol")) == "exclusive_running"

    async def test_nor_when_another_service_has_taken_the_stream(self, world: World) -> None:
        stage = await world.given(a_stage())
        world.database.sessions.update_one({}, {"$set": {"status.exclusive_to": "carol"}})
        assert conflict(await makes_exclusive(world, stage.session_id, "bob")) == "exclusive_running"

    async def test_a_refusal_leaves_no_lock_behind(self, world: World) -> None:
        exclusive = await world.given(an_exclusive())
        await makes_exclusive(world, exclusive.session_id, "carol")
        await world.ends(exclusive)
        await world.settle()
        assert (await makes_exclusive(world, exclusive.session_id, "carol")).status_code == 201

    async def test_a_viewer_is_not_in_two(self, world: World) -> None:
        await world.given(an_exclusive())
        elsewhere = await world.post("/v1/sessions", {"user_id": "dave"})
        assert conflict(await makes_exclusive(world, elsewhere["id"], "bob")) == "viewer_in_exclusive"
        request = await asks(world, elsewhere["id"], "bob")
        assert conflict(await agrees(world, request)) == "viewer_in_exclusive"
        assert (await makes_exclusive(world, elsewhere["id"], "carol")).status_code == 201

    async def test_requests_may_wait_meanwhile(self, world: World) -> None:
        exclusive = await world.given(an_exclusive())
        assert await asks(world, exclusive.session_id, "bob")

    async def test_who_goes_on_for_a_viewer_is_found_by_an_index(self, world: World) -> None:
        await world.given(an_exclusive())
        where = {"conditions.exclusive_to": "bob", "active": {"$ne": False}, "_cls": "Goal.ExclusiveGoal"}
        plan = world.database.goals.find(where).explain()["queryPlanner"]["winningPlan"]
        assert plan["inputStage"]["stage"] == "IXSCAN"


class TestEnding:
    async def test_a_goal_that_has_ended(self, world: World) -> None:
        goal = await world.given(a_karaoke())
        await world.ends(goal)
        assert conflict(await world.call("POST", f"/v1/goals/{goal.id}/end")) == "goal_inactive"

    async def test_a_request_that_was_declined(self, world: World) -> None:
        request = await world.given(a_request())
        await world.post(f"/v1/goals/{request.id}/decline")
        assert conflict(await world.call("POST", f"/v1/goals/{request.id}/decline")) == "goal_inactive"

    async def test_a_session_that_has_ended(self, world: World) -> None:
        stage = await world.given(a_stage())
        await world.post(f"/v1/sessions/{stage.session_id}/end")
        assert conflict(await world.call("POST", f"/v1/sessions/{stage.session_id}/end")) == "session_ended"


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/goals?cursor=nonsense", "cursor"),
        ("/v1/goals?session_id=nonsense", "query.session_id"),
        ("/v1/goals?active=maybe", "query.active"),
        ("/v1/goals?limit=0", "query.limit"),
        ("/v1/goals?limit=1000", "query.limit"),
        ("/v1/goals?sesion_id=68143584d6945d32e732cc20", "query.sesion_id"),
        ("/v1/transfers?user=bob", "query.user"),
        ("/v1/transfers?cursor=%00", "cursor"),
        ("/v1/dead-letters?state=lost", "query.state"),
        ("/v1/goals/68143584d6945d32e732cc20?fields=id", "query.fields"),
    ],
)
async def test_unknown_cursors_and_filters_are_refused(world: World, path: str, field: str) -> None:
    response = await world.call("GET", path)
    body: Any = response.json()
    assert (response.status_code, body["errors"][0]["field"]) == (422, field)
