"""Who may join which channel, and what pusher-js is answered."""

import hmac
from datetime import timedelta
from hashlib import sha256
from typing import Any

import httpx
import pytest

from tests.world import START

from .conftest import PUSHER_KEY, PUSHER_SECRET, SOCKET, Gate, channel_data, token_of

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

STREAM_FORMS = (
    "private-stream@alice",
    "presence-stream@alice",
    "private-enc-stream@alice",
    "presence-enc-stream@alice",
)


def signature(text: str) -> str:
    return f"{PUSHER_KEY}:{hmac.new(PUSHER_SECRET.encode(), text.encode(), sha256).hexdigest()}"


def fault(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["errors"][0]["field"]


class TestTheAnswer:
    async def test_signs_a_private_channel(self, gate: Gate) -> None:
        response = await gate.ask("alice", "private-user@alice")
        assert response.json() == {"auth": signature(f"{SOCKET}:private-user@alice")}

    async def test_signs_a_presence_channel_with_who_joins(self, gate: Gate) -> None:
        gate.database.users.insert_one({"_id": "alice", "username": "Alice \N{SNOWMAN}"})
        channel = f"presence-enc-goal@{gate.goal()}"
        response = await gate.ask("alice", channel)
        assert channel_data(response) == {"user_id": "alice", "user_info": {"username": "Alice \N{SNOWMAN}"}}
        assert response.json()["auth"] == signature(f"{SOCKET}:{channel}:{response.json()['channel_data']}")

    async def test_a_user_who_is_not_known_has_no_name(self, gate: Gate) -> None:
        response = await gate.ask("bob", "presence-stream@alice")
        assert channel_data(response) == {"user_id": "bob", "user_info": {"username": ""}}

    async def test_a_numeric_user_is_a_string(self, gate: Gate) -> None:
        assert channel_data(await gate.ask(42, "presence-user@42"))["user_id"] == "42"


class TestTheRequest:
    async def test_takes_json_too(self, gate: Gate) -> None:
        body = {"socket_id": SOCKET, "channel_name": "private-user@alice", "more": 1}
        response = await gate.post(json=body, headers={"Authorization": f"Bearer {token_of('alice')}"})
        assert response.json() == {"auth": signature(f"{SOCKET}:private-user@alice")}

    @pytest.mark.parametrize("scheme", [None, "Basic YWxpY2U6YWxpY2U=", "Bearer", "Bearer nonsense"])
    async def test_refuses_who_does_not_say_who_he_is(self, gate: Gate, scheme: str | None) -> None:
        headers = {"Authorization": scheme} if scheme else {}
        response = await gate.post(data={"socket_id": SOCKET, "channel_name": "private-user@alice"}, headers=headers)
        assert response.status_code == 401
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["www-authenticate"] == "Bearer"

    async def test_the_api_key_is_no_users_token(self, gate: Gate) -> None:
        response = await gate.post(
            data={"socket_id": SOCKET, "channel_name": "private-user@alice"},
            headers={"Authorization": "Bearer api-key"},
        )
        assert response.status_code == 401

    @pytest.mark.parametrize("socket_id", ["", "1", "1.", ".1", "1.1.1", "a.b", "1.1:x", "1234.5678 ", "1234.5678\n"])
    async def test_refuses_a_malformed_socket(self, gate: Gate, socket_id: str) -> None:
        assert fault(await gate.ask("alice", "private-user@alice", socket_id=socket_id)) == (422, "socket_id")

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            (b"", "socket_id"),
            (b"socket_id=1.1", "channel_name"),
            (b"channel_name=private-user@alice", "socket_id"),
            (b"socket_id=1.1&channel_name=private-user@alice&channel_name=private-user@bob", "channel_name"),
        ],
    )
    async def test_names_the_field_that_is_missing_or_given_twice(self, gate: Gate, body: bytes, field: str) -> None:
        headers = {"Authorization": f"Bearer {token_of('alice')}", "Content-Type": "application/x-www-form-urlencoded"}
        assert fault(await gate.post(content=body, headers=headers)) == (422, field)

    @pytest.mark.parametrize(
        ("body", "content_type"),
        [
            (b"{", "application/json"),
            (b"[1]", "application/json; charset=utf-8"),
            (b"\xff", "application/json"),
            (b"[" * 6000, "application/json"),
            (b"\xff\xfe", "application/x-www-form-urlencoded"),
            (b"socket_id=%ff", "application/x-www-form-urlencoded"),
            (b"&".join(b"a%d=1" % number for number in range(100)), "application/x-www-form-urlencoded"),
        ],
    )
    async def test_refuses_what_is_neither_form_nor_object(self, gate: Gate, body: bytes, content_type: str) -> None:
        headers = {"Authorization": f"Bearer {token_of('alice')}", "Content-Type": content_type}
        response = await gate.post(content=body, headers=headers)
        assert (response.status_code, response.json()["code"]) == (400, "malformed")

    @pytest.mark.parametrize("value", [1, None, ["1.1"], {"a": 1}])
    async def test_refuses_a_field_that_is_no_text(self, gate: Gate, value: Any) -> None:
        body = {"socket_id": value, "channel_name": "private-user@alice"}
        response = await gate.post(json=body, headers={"Authorization": f"Bearer {token_of('alice')}"})
        assert fault(response) == (422, "socket_id")

    async def test_refuses_a_body_that_is_too_large(self, gate: Gate) -> None:
        response = await gate.ask("alice", "private-user@alice", more="x" * 9000)
        assert (response.status_code, response.json()["code"]) == (413, "too_large")

    @pytest.mark.parametrize("about", ["a b", "\N{SNOWMAN}", "x" * 200])
    async def test_refuses_a_name_that_pusher_would(self, gate: Gate, about: str) -> None:
        assert fault(await gate.ask(about, f"private-user@{about}")) == (422, "channel_name")


class TestWhichChannels:
    @pytest.mark.parametrize(
        "channel",
        [
            "chat",
            "presence-chat",
            "private-encrypted-user@alice",
            "user@alice",
            "private-user",
            "private-user@",
            "@alice",
        ],
    )
    async def test_knows_no_others(self, gate: Gate, channel: str) -> None:
        assert not await gate.may_join("alice", channel)

    @pytest.mark.parametrize(
        "channel",
        ["private-user@alice", "private-enc-user@alice", "presence-user@alice", "presence-enc-user@alice"],
    )
    async def test_a_users_channel_is_his_alone(self, gate: Gate, channel: str) -> None:
        assert await gate.may_join("alice", channel)
        assert not await gate.may_join("bob", channel)


class TestGoals:
    async def test_the_performer_joins(self, gate: Gate) -> None:
        goal = gate.goal()
        assert await gate.may_join("alice", f"presence-enc-goal@{goal}")
        assert not await gate.may_join("bob", f"presence-enc-goal@{goal}")

    async def test_a_numeric_performer_joins(self, gate: Gate) -> None:
        goal = gate.goal(metadata={"user_id": 42})
        assert await gate.may_join(42, f"presence-enc-goal@{goal}")

    @pytest.mark.parametrize(
        "fields",
        [{"conditions": {"exclusive_to": "bob"}}, {"metadata": {"user_id": "alice", "viewer_id": "bob"}}],
    )
    async def test_the_viewer_joins_his_exclusive(self, gate: Gate, fields: dict[str, Any]) -> None:
        goal = gate.goal("ExclusiveGoal", **fields)
        allowed = [await gate.may_join(user, f"presence-enc-goal@{goal}") for user in ("alice", "bob", "carol")]
        assert allowed == [True, True, False]

    async def test_a_viewer_does_not_join_what_is_no_exclusive(self, gate: Gate) -> None:
        goal = gate.goal("TriggerGoal", metadata={"user_id": "alice", "viewer_id": "bob"})
        assert not await gate.may_join("bob", f"presence-enc-goal@{goal}")

    async def test_nobody_joins_a_goal_that_has_ended(self, gate: Gate) -> None:
        response = await gate.ask("alice", f"presence-enc-goal@{gate.goal(active=False)}")
        assert (response.status_code, response.json()["code"]) == (403, "goal_inactive")

    async def test_a_stranger_does_not_learn_whether_it_has_ended(self, gate: Gate) -> None:
        response = await gate.ask("bob", f"presence-enc-goal@{gate.goal(active=False)}")
        assert (response.status_code, response.json()["code"]) == (403, "forbidden")

    @pytest.mark.parametrize("about", ["68143584d6945d32e732cc21", "nonsense", "68143584d6945d32e732cc2Z"])
    async def test_tells_of_a_goal_that_does_not_exist(self, gate: Gate, about: str) -> None:
        response = await gate.ask("alice", f"presence-enc-goal@{about}")
        assert (response.status_code, response.json()["code"]) == (404, "not_found")


class TestStreams:
    @pytest.mark.parametrize("channel", STREAM_FORMS)
    async def test_everybody_waits_for_a_stream_to_begin(self, gate: Gate, channel: str) -> None:
        assert await gate.may_join("alice", channel)
        assert await gate.may_join("bob", channel)

    @pytest.mark.parametrize("channel", STREAM_FORMS)
    async def test_everybody_follows_a_public_stream(self, gate: Gate, channel: str) -> None:
        gate.session()
        assert await gate.may_join("alice", channel)
        assert await gate.may_join("bob", channel)

    @pytest.mark.parametrize("channel", STREAM_FORMS)
    async def test_an_exclusive_stream_is_the_viewers_alone(self, gate: Gate, channel: str) -> None:
        gate.session(status={"exclusive_to": "bob"})
        assert [await gate.may_join(user, channel) for user in ("alice", "bob", "carol")] == [True, True, False]

    async def test_within_his_window_only(self, gate: Gate) -> None:
        window = {"nbf": START + timedelta(seconds=10), "exp": START + timedelta(seconds=70), "duration": 60}
        gate.session(status={"exclusive_to": "bob"}, viewers={"bob": window})
        allowed = {}
        for second in (0.0, 9.999, 10.0, 69.999, 70.0):
            gate.clock.move_to(START + timedelta(seconds=second))
            allowed[second] = await gate.may_join("bob", "private-stream@alice")
        assert allowed == {0.0: False, 9.999: False, 10.0: True, 69.999: True, 70.0: False}
        assert await gate.may_join("alice", "private-stream@alice")

    async def test_the_session_that_began_last_decides(self, gate: Gate) -> None:
        gate.session(status={"exclusive_to": "bob"})
        gate.session(statuses={"started": START + timedelta(seconds=1)})
        assert await gate.may_join("carol", "private-stream@alice")

    async def test_an_exclusive_of_a_session_that_has_ended_keeps_nobody_out(self, gate: Gate) -> None:
        gate.session(statuses={"started": START, "ended": START}, status={"exclusive_to": "bob"})
        assert await gate.may_join("carol", "private-stream@alice")
