"""`goalsvc dead-letters`, against a running API."""

import json
import re
from typing import Any

import httpx
import pytest

from goalsvc.devstack.waiting import holds_within

from .command_line import Cli, assert_one_sentence

PLAYED = 400


@pytest.fixture
def letter(stack: dict[str, Any], api: httpx.Client, cli: Cli) -> str:
    """The id of a dead letter: the recording of a show could not be stopped, because BytePlus refused."""
    rtc = {"room_id": "room-1"}
    session = api.post("/v1/sessions", json={"user_id": "alice", "rtc": rtc}).raise_for_status().json()
    goal = {"kind": "ShowGoal", "session_id": session["id"], "levels": [{"title": "Songs", "target": 360}]}
    show: str = api.post("/v1/goals", json=goal).raise_for_status().json()["id"]
    with httpx.Client(base_url=stack["byteplus_url"], trust_env=False) as byteplus:
        byteplus.post("/trouble", json={"status": 400, "error": "InvalidParameter", "count": 100}).raise_for_status()
        cli("send", "member_added", "--goal", show, "--at", f"-{PLAYED}s")
        cli("send", "member_removed", "--goal", show)
        stop = f"goals/{show}/StopRecord"

        def is_dead() -> bool:
            return any(each["id"] == stop for each in api.get("/v1/dead-letters?state=dead&limit=200").json()["items"])

        assert holds_within(15, is_dead, every=0.05)
        byteplus.delete("/trouble").raise_for_status()
    return stop


def test_listed_and_tried_again(stack: dict[str, Any], cli: Cli, letter: str) -> None:
    listed = cli("dead-letters").out
    assert f"{letter}\n    StopRecord, 1 try, " in listed
    assert cli("dead-letters", "list").out == listed
    assert letter in [each["id"] for each in json.loads(cli("dead-letters", "list", "--json").out)]

    assert cli("dead-letters", "redrive", letter).out == f"{letter} is tried again\n"
    show = letter.split("/")[1]

    def is_stopped() -> bool:
        calls = httpx.get(f"{stack['byteplus_url']}/recorded?action=StopRecord", trust_env=False).json()
        return any(call["body"]["TaskId"] == f"goal-{show}" for call in calls)

    assert holds_within(15, is_stopped, every=0.05)
    assert letter in cli("dead-letters", "list", "--redriven").out
    assert_one_sentence(cli("dead-letters", "redrive", letter), "has been tried again before")


def test_all_of_them(cli: Cli, letter: str) -> None:
    done = cli("dead-letters", "redrive", "--all").out
    assert re.fullmatch(r"([1-9]\d*) of \1 dead letters? tried again\n", done)
    assert letter in cli("dead-letters", "list", "--redriven").out
    again = json.loads(cli("dead-letters", "redrive", "--all", "--json").out)
    assert (again["state"], again["found"], again["redriven"]) == ("finished", 0, 0)
    assert letter not in cli("dead-letters").out


def test_which(cli: Cli) -> None:
    assert_one_sentence(cli("dead-letters", "redrive"), "the id of a dead letter, or --all")
    assert_one_sentence(cli("dead-letters", "redrive", "goals/0/x", "--all"), "the id of a dead letter, or --all")
    assert_one_sentence(cli("dead-letters", "redrive", "goals/0/x"), "there is no dead letter goals/0/x")
