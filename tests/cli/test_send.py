"""`goalsvc send`, against a running API."""

import httpx
import pytest

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
    assert cli("send", "member_added", "--channel", "private-user@bob").out.endswith("accepted\n")
    told = cli("send", "member_added", "--channel", "somebody-elses").out
    assert "ignored: the channel is not one of goalsvc's" in told


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
        assert_one_sentence(run_cli(*command, API_URL="http://127.0.0.1:1"), "cannot be reached", "GOALSVC_API_URL")


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
