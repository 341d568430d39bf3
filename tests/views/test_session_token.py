"""May this viewer watch, and until when: the rule by itself, and the cached view of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from goalsvc.api.session_token import Admission, Grounds, Window
from tests.stories.scenes import a_stage, an_exclusive
from tests.world import World

NOW = datetime(2026, 3, 1, 20, 0, tzinfo=UTC)
A_MINUTE = timedelta(minutes=1)


class TestTheRule:
    @pytest.mark.parametrize(
        ("admission", "viewer", "grounds"),
        [
            (Admission("alice", True), "bob", Grounds.PUBLIC),
            (Admission("alice", True), "alice", Grounds.STREAMER),
            (Admission("alice", False), "bob", Grounds.SESSION_ENDED),
            (Admission("alice", False), "alice", Grounds.STREAMER),
            (Admission("alice", False, "bob"), "bob", Grounds.SESSION_ENDED),
            (Admission("alice", True, "bob"), "bob", Grounds.EXCLUSIVE),
            (Admission("alice", True, "bob"), "carol", Grounds.EXCLUSIVE_TO_ANOTHER),
            (Admission("alice", True, "bob"), "alice", Grounds.STREAMER),
            # a window matters only to him to whom the stream is exclusive
            (Admission("alice", True, None, {"bob": Window(NOW, NOW)}), "bob", Grounds.PUBLIC),
            (Admission("alice", True, "bob", {"carol": Window(NOW, None)}), "carol", Grounds.EXCLUSIVE_TO_ANOTHER),
            (Admission("alice", True, "bob", {"carol": Window(NOW, NOW)}), "bob", Grounds.EXCLUSIVE),
            # from nbf on, and before exp
            (Admission("alice", True, "bob", {"bob": Window(NOW, NOW + A_MINUTE)}), "bob", Grounds.EXCLUSIVE),
            (Admission("alice", True, "bob", {"bob": Window(NOW + A_MINUTE, None)}), "bob", Grounds.NOT_YET),
            (Admission("alice", True, "bob", {"bob": Window(NOW - A_MINUTE, NOW)}), "bob", Grounds.WINDOW_OVER),
            (Admission("alice", True, "bob", {"bob": Window(None, NOW + A_MINUTE)}), "bob", Grounds.EXCLUSIVE),
            (Admission("alice", True, "bob", {"bob": Window()}), "bob", Grounds.EXCLUSIVE),
        ],
    )
    def test_on_what_grounds(self, admission: Admission, viewer: str, grounds: Grounds) -> None:
        assert admission.grounds(viewer, NOW) is grounds


async def asked(world: World, session_id: str, viewer: str = "bob") -> Any:
    return await world.get(f"/v1/sessions/{session_id}/token?viewer_id={viewer}")


@pytest.mark.real
class TestTheView:
    async def test_a_public_stream(self, world: World) -> None:
        stage = await world.given(a_stage())
        assert await asked(world, stage.session_id) == {
            "session_id": stage.session_id,
            "viewer_id": "bob",
            "allowed": True,
            "reason": "public",
        }

    async def test_an_exclusive_from_its_beginning_to_its_end(self, world: World) -> None:
        exclusive = await world.given(an_exclusive(seconds=60))
        agreed_at = world.clock.now()
        session_id = exclusive.session_id
        # agreed to, not begun: the stream is everybody's still
        assert [(await asked(world, session_id, user))["reason"] for user in ("bob", "carol")] == ["public", "public"]

        await world.performer_joins(exclusive)
        await world.settle()
        window = world.session(session_id)["viewers"]["bob"]
        token = await asked(world, session_id)
        assert (token["allowed"], token["reason"]) == (True, "exclusive")
        assert datetime.fromisoformat(token["nbf"]) == window["nbf"] <= agreed_at
        assert datetime.fromisoformat(token["exp"]) == window["exp"] == window["nbf"] + timedelta(seconds=60)
        assert [(await asked(world, session_id, user))["allowed"] for user in ("alice", "carol")] == [True, False]

        await world.after(seconds=60)
        assert (await asked(world, session_id))["reason"] == "window_over"  # what is cached is no answer that ages
        await world.performer_leaves(exclusive)
        await world.settle()
        assert [(await asked(world, session_id, user))["reason"] for user in ("bob", "carol")] == ["public", "public"]

    async def test_a_session_that_has_ended(self, world: World) -> None:
        stage = await world.given(a_stage())
        await asked(world, stage.session_id)
        await world.post(f"/v1/sessions/{stage.session_id}/end")
        token = await asked(world, stage.session_id)
        assert (token["allowed"], token["reason"]) == (False, "session_ended")

    async def test_redis_may_be_emptied_at_any_time(self, world: World) -> None:
        stage = await world.given(a_stage())
        first = await asked(world, stage.session_id)
        await world.empties_redis()
        assert await asked(world, stage.session_id) == first

    async def test_an_id_in_capitals_is_the_same_session(self, world: World) -> None:
        stage = await world.given(a_stage())
        assert (await asked(world, stage.session_id.upper()))["allowed"] is True
        await world.post(f"/v1/sessions/{stage.session_id}/end")
        assert (await asked(world, stage.session_id.upper()))["allowed"] is False

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/v1/sessions/68143584d6945d32e732cc20/token?viewer_id=bob", 404),
            ("/v1/sessions/nonsense/token?viewer_id=bob", 422),
            ("/v1/sessions/68143584d6945d32e732cc20/token", 422),
            ("/v1/sessions/68143584d6945d32e732cc20/token?viewer_id=a!b", 422),
            ("/v1/sessions/68143584d6945d32e732cc20/token?viewer_id=bob&at=now", 422),
        ],
    )
    async def test_refuses_what_it_does_not_know(self, world: World, path: str, status: int) -> None:
        assert (await world.call("GET", path)).status_code == status
