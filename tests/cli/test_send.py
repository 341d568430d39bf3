"""`goalsvc send`, against a running API."""

import json
from datetime import UTC, datetime
from typing import cast

import httpx
import pytest

from goalsvc.commands.api import Api
from goalsvc.commands.send import Sent, outcome_of

from .command_line import Cli, assert_one_sentence, run_cli


def test_a_show_is_played_by_hand(cli: Cli, api: httpx.Client, show: str) -> None:
    joined = cli("send", "member_added", "--goal", show, "--user", "alice", "--at", "-100s")
    assert (joined.status, joined.err) == (0, "")
    assert joined.out.startswith(f"member_added on presence-enc-goal@{show} of alice, ")
    assert f"ShowGoal {show}: active, clock runs since " in joined.out
    left = cli("send", "channel_vacated", "--goal", show, "--at", "-40s")
    assert f"ShowGoal {show}: active, clock paused at " in left.out
    context = api.get(f"/v1/goals/{show}").json()["context"]
    assert context["paused"] > context["started"]


@pytest.mark.parametrize(
    "at", ["2026-01-01T00:00:00Z", "1767225600", "1767225600000", "-2d"], ids=["iso", "seconds", "milliseconds", "days"]
)
def test_a_time_of_long_ago_is_refused_by_the_api(cli: Cli, show: str, at: str) -> None:
    sent = cli("send", "member_added", "--goal", show, "--at", at)
    assert sent.status == 1
    assert "older than 0:15:00" in sent.err


def test_other_channels(cli: Cli) -> None:
    told = cli("send", "member_added", "--channel", "private-user@no-such", "--user", "no-such").out
    assert "trigger_online          returned  unknown_user (there is no such user)" in told
    assert "not_a_goal_channel" not in told
    told = cli("send", "member_added", "--channel", "somebody-elses").out
    assert "ignored: unknown_channel (the channel is not one of goalsvc's)" in told
    told = cli("send", "client_event", "--channel", "private-user@bob").out
    assert "ignored: unknown_event" in told


def test_what_came_of_it_is_what_the_trace_says(cli: Cli, show: str) -> None:
    told = cli("send", "member_added", "--goal", show, "--user", "mallory").out
    assert "karaoke_control         returned  not_a_participant (only the performer" in told
    assert "clock" not in told.splitlines()[-1]  # the goal's own line: nothing runs
    assert "karaoke_control         done" in cli("send", "member_added", "--goal", show, "--user", "alice").out
    again = cli("send", "member_added", "--goal", show, "--user", "alice").out
    assert "karaoke_control         returned  already_running (the clock runs already)" in again


def test_as_json(cli: Cli, show: str) -> None:
    sent = json.loads(cli("send", "member_added", "--goal", show, "--user", "mallory", "--json").out)
    assert sent["event"] == {"name": "member_added", "channel": f"presence-enc-goal@{show}", "user_id": "mallory"}
    assert sent["outcome"]["request_id"] == sent["request_id"]
    answers = {one["receiver"]: one.get("reason", one["outcome"]) for one in sent["outcome"]["answers"]}
    assert answers["karaoke_control"] == "not_a_participant"
    assert answers["track_channel_presence"] == "done"
    assert sent["goal"]["id"] == show


class Traceless:
    """An API whose trace shows nothing."""

    async def get(self, _path: str, **_query: str) -> dict[str, list[str]]:
        return {"items": []}


async def test_without_a_trace_nothing_is_claimed() -> None:
    assert await outcome_of(cast(Api, Traceless()), "req_1", within_seconds=0) is None
    event = {"name": "member_added", "channel": "private-user@bob"}
    _, told = Sent(event, datetime(2026, 3, 1, tzinfo=UTC), "req_1", None, None).lines()
    assert told == "  no trace of it appeared within 2 s: what came of it is not known"


def test_an_unknown_goal(cli: Cli) -> None:
    unknown = "0" * 24
    assert_one_sentence(cli("send", "member_added", "--goal", unknown), f"there is no goal {unknown}")
    assert_one_sentence(cli("send", "member_added", "--goal", "no/id"), "'no/id' is not the id of a goal")


def test_a_misspelt_event_is_refused(cli: Cli, show: str) -> None:
    assert_one_sentence(cli("send", "member_aded", "--goal", show), "'member_aded'", "do you mean member_added?")
    assert_one_sentence(cli("send", "xyz", "--goal", show), "'xyz'", "member_removed", "cache_miss")


def test_wrong_keys(cli: Cli, show: str) -> None:
    wrong_secret = cli("send", "member_added", "--goal", show, PUSHER_SECRET="wrong")
    assert_one_sentence(wrong_secret, "'goalsvc-key'", "GOALSVC_PUSHER_SECRET")
    assert_one_sentence(cli("send", "member_added", "--goal", show, API_KEY="wrong"), "GOALSVC_API_KEY")


def test_nobody_there(show: str) -> None:
    for command in (("send", "member_added", "--goal", show), ("trace", show), ("dead-letters",)):
        assert_one_sentence(
            run_cli(*command, API_URL="http://127.0.0.1:1"), "cannot be reached", "`goalsvc dev`", "GOALSVC_API_URL"
        )


def test_somebody_else_there(stack: dict[str, str], show: str) -> None:
    command = run_cli("trace", show, API_URL=stack["pusher_url"])
    assert_one_sentence(command, f"the API at {stack['pusher_url']} answered 404")


@pytest.mark.parametrize("address", ["nonsense", "ftp://example.com", "http://", "http://[::"])
def test_no_address(address: str) -> None:
    assert_one_sentence(run_cli("trace", "0" * 24, API_URL=address), f"GOALSVC_API_URL: '{address.rstrip('/')}'")


@pytest.mark.parametrize("words", [(), ("--goal", "0" * 24, "--channel", "private-user@bob")])
def test_no_channel_or_two(words: tuple[str, ...]) -> None:
    assert_one_sentence(run_cli("send", "member_added", *words), "--goal", "--channel")


@pytest.mark.parametrize("at", ["yesterday", "-5", "1e400", "99999999999999999999", "+9999999999d"])
def test_no_time(at: str) -> None:
    assert_one_sentence(run_cli("send", "member_added", "--goal", "0" * 24, "--at", at), f"{at!r} is not a time")
