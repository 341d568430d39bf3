"""What a client shows when it subscribes: always what the documents say, though it is cached."""

from typing import Any

import pytest

from tests.stories.scenes import a_funded_show, a_funding, a_karaoke, a_request, a_stage, an_exclusive, contributes
from tests.world import World

pytestmark = pytest.mark.real

FORMS = ("private-stream", "private-enc-stream", "presence-stream", "presence-enc-stream")
OWN_FORMS = ("private-user", "private-enc-user", "presence-user", "presence-enc-user")


async def shown(world: World, channel: str = "private-stream@alice") -> Any:
    return await world.get(f"/v1/channels/{channel}")


async def goals_shown(world: World, channel: str = "private-stream@alice") -> dict[str, int]:
    """The goals that the channel shows, each with its progress."""
    return {goal["id"]: goal["progress"] for goal in (await shown(world, channel))["goals"]}


async def test_nothing_goes_on(world: World) -> None:
    assert await shown(world) == {"user_id": "alice", "session": None, "goals": []}


async def test_shows_the_session_and_its_goals(world: World) -> None:
    funding = await world.given(a_funding(target=300))
    assert await shown(world) == {
        "user_id": "alice",
        "session": {
            "id": funding.session_id,
            "started": world.session(funding.session_id)["statuses"]["started"].isoformat().replace("+00:00", "Z"),
            "exclusive_to": None,
        },
        "goals": [
            {
                "id": funding.id,
                "kind": "FundingGoal",
                "progress": 0,
                "level": 0,
                "levels": [{"title": world.goal(funding)["levels"][0]["title"], "target": 300}],
                "exp": None,
            }
        ],
    }


@pytest.mark.parametrize("form", FORMS + OWN_FORMS)
async def test_every_form_of_a_channels_name_shows_the_same(world: World, form: str) -> None:
    goal = await world.given(a_karaoke())
    assert await goals_shown(world, f"{form}@alice") == {goal.id: 0}
    await world.performs(goal, seconds=30)
    await world.settle()
    assert await goals_shown(world, f"{form}@alice") == {goal.id: 30}


@pytest.mark.parametrize(
    "channel", ["chat", "presence-enc-goal@68143584d6945d32e732cc21", "private-stream@", "x" * 160]
)
async def test_knows_no_other_channels(world: World, channel: str) -> None:
    response = await world.call("GET", f"/v1/channels/{channel}")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("user", ["a%20b", "a$b", "%C3%A9", "x" * 129, ".."])
async def test_says_which_user_ids_there_are(world: World, user: str) -> None:
    response = await world.call("GET", f"/v1/channels/private-stream@{user}")
    assert response.status_code == 404
    assert "the user id must be 1 to 128 characters of A-Z a-z 0-9" in response.json()["detail"]


async def test_refuses_a_name_that_is_too_long(world: World) -> None:
    assert (await world.call("GET", f"/v1/channels/private-stream@{'x' * 200}")).status_code == 422


class TestIsDropped:
    """Every change below is made after the view was cached, and is seen at once."""

    async def test_when_a_session_begins(self, world: World) -> None:
        await shown(world)
        stage = await world.given(a_stage())
        assert (await shown(world))["session"]["id"] == stage.session_id

    async def test_when_it_ends(self, world: World) -> None:
        stage = await world.given(a_stage())
        await shown(world)
        await world.post(f"/v1/sessions/{stage.session_id}/end")
        assert (await shown(world))["session"] is None

    async def test_when_a_contribution_is_made(self, world: World) -> None:
        funding = await world.given(a_funding(target=300))
        assert await goals_shown(world) == {funding.id: 0}
        await world.deposits("bob", 100)
        await contributes(world, funding, "bob", 100)
        await world.settle()
        assert await goals_shown(world) == {funding.id: 100}

    async def test_when_a_show_is_performed_and_completed(self, world: World) -> None:
        show = await world.given(a_funded_show(seconds=60))
        assert await goals_shown(world) == {show.id: 0}
        await world.performs(show, seconds=20)
        await world.settle()
        assert await goals_shown(world) == {show.id: 20}
        await world.after(seconds=1)
        await world.performs(show, seconds=40)
        await world.settle()
        assert await goals_shown(world) == {}

    async def test_when_a_goal_is_ended_by_the_api(self, world: World) -> None:
        goal = await world.given(a_karaoke())
        await shown(world)
        await world.ends(goal)
        await world.settle()
        assert await goals_shown(world) == {}

    async def test_when_a_goal_expires(self, world: World) -> None:
        funding = await world.given(a_funding(lasts=60))
        await shown(world)
        await world.settle(patience=61)
        assert await goals_shown(world) == {}
        assert world.goal(funding)["active"] is False

    async def test_when_an_exclusive_takes_the_stream_and_gives_it_back(self, world: World) -> None:
        exclusive = await world.given(an_exclusive(seconds=60))
        assert (await shown(world))["session"]["exclusive_to"] is None
        await world.performer_joins(exclusive)
        await world.settle()
        assert (await shown(world))["session"]["exclusive_to"] == "bob"
        await world.after(seconds=60)
        await world.performer_leaves(exclusive)
        await world.settle()
        assert (await shown(world))["session"]["exclusive_to"] is None


class TestWhatIsPrivate:
    async def test_a_private_request_is_shown_to_the_streamer_alone(self, world: World) -> None:
        request = await world.given(a_request())
        assert await goals_shown(world, "private-stream@alice") == {}
        assert await goals_shown(world, "private-user@alice") == {request.id: 0}

    async def test_an_exclusive_is_shown_to_the_streamer_alone(self, world: World) -> None:
        exclusive = await world.given(an_exclusive())
        assert await goals_shown(world, "private-stream@alice") == {}
        assert await goals_shown(world, "private-user@alice") == {exclusive.id: 0}


async def test_redis_may_be_emptied_at_any_time(world: World) -> None:
    goal = await world.given(a_karaoke())
    await shown(world)
    await world.empties_redis()
    assert await goals_shown(world) == {goal.id: 0}


async def test_a_change_that_another_service_makes_is_seen_when_the_view_has_ended(world: World) -> None:
    goal = await world.given(a_karaoke())
    await shown(world)
    world.database.goals.update_one({}, {"$set": {"progress": 7}})
    assert await goals_shown(world) == {goal.id: 0}
    await world.redis.delete("goalsvc:view:channel:private-stream@alice")  # as its life ends
    assert await goals_shown(world) == {goal.id: 7}
    world.database.goals.update_one({}, {"$set": {"progress": 0}})


async def test_the_session_that_began_last_is_shown(world: World) -> None:
    first = await world.given(a_stage())
    await world.after(seconds=1)
    second = await world.given(a_stage())
    assert first.session_id != second.session_id
    assert (await shown(world))["session"]["id"] == second.session_id
