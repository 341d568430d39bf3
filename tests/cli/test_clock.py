"""The test clock of `goalsvc dev`: an hour passes in a moment, for every process."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from goalsvc.commands.api import CommandError
from goalsvc.commands.clock import seconds_of
from tests.support.waiting import read_until

from .command_line import Cli


@pytest.fixture
def own_stack(own_dev: dict[str, Any]) -> dict[str, Any]:
    return own_dev


@pytest.fixture
def own_api(own_stack: dict[str, Any]) -> Iterator[httpx.Client]:
    headers = {"Authorization": "Bearer goalsvc-api-key"}
    with httpx.Client(base_url=own_stack["api_url"], headers=headers, trust_env=False, timeout=15) as client:
        yield client


class TestDurations:
    @pytest.mark.parametrize(
        ("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("2d", 172_800), ("0.5h", 1800)]
    )
    def test_are_seconds_or_units(self, text: str, seconds: float) -> None:
        assert seconds_of(text) == seconds

    @pytest.mark.parametrize("text", ["", "an hour", "1x", "h", "-5", "1h 30m"])
    def test_other_text_is_refused(self, text: str) -> None:
        with pytest.raises(CommandError, match="is not a duration"):
            seconds_of(text)


class TestAdvancing:
    def test_a_show_of_an_hour_takes_a_moment(self, own_stack: dict[str, Any], own_api: httpx.Client) -> None:
        from .command_line import run_cli

        def cli(*words: str) -> Any:
            ended = run_cli(*words, API_URL=own_stack["api_url"])
            assert ended.status == 0, ended.err
            return ended

        def now() -> datetime:
            return datetime.fromisoformat(own_api.get("/v1/test-clock").json()["now"])

        session = own_api.post("/v1/sessions", json={"user_id": "alice"}).raise_for_status().json()
        body = {"kind": "ShowGoal", "session_id": session["id"], "levels": [{"title": "Songs", "target": 3600}]}
        goal = own_api.post("/v1/goals", json=body).raise_for_status().json()["id"]
        before = now()
        cli("send", "member_added", "--goal", goal, "--user", "alice")
        told = cli("clock", "advance", "1h1s").out
        assert datetime.fromisoformat(told.split()[-1]) - before >= timedelta(seconds=3601)
        cli("send", "member_removed", "--goal", goal, "--user", "alice")
        ended = read_until(lambda: own_api.get(f"/v1/goals/{goal}").json(), lambda goal: not goal["active"])
        # The test clock goes on by itself, too: what passed between the two commands is part of the show.
        assert 3601 <= ended["progress"] <= (now() - before).total_seconds() + 1

    def test_a_deadline_passes(self, own_api: httpx.Client) -> None:
        session = own_api.post("/v1/sessions", json={"user_id": "bob"}).raise_for_status().json()
        now = datetime.fromisoformat(own_api.get("/v1/test-clock").json()["now"])
        body = {
            "kind": "ShowGoal",
            "session_id": session["id"],
            "levels": [{"title": "Songs", "target": 60}],
            "exp": (now + timedelta(hours=2)).isoformat(),
        }
        goal = own_api.post("/v1/goals", json=body).raise_for_status().json()["id"]
        own_api.post("/v1/test-clock/advance", json={"seconds": 7201}).raise_for_status()
        read_until(lambda: own_api.get(f"/v1/goals/{goal}").json(), lambda goal: not goal["active"])

    @pytest.mark.parametrize("seconds", [0, -1, "an hour", 10**12])
    def test_bad_input_moves_nothing(self, own_api: httpx.Client, seconds: Any) -> None:
        before = own_api.get("/v1/test-clock").json()["offset_seconds"]
        refused = own_api.post("/v1/test-clock/advance", json={"seconds": seconds})
        assert refused.status_code == 422
        assert "seconds" in refused.json()["detail"]
        assert own_api.get("/v1/test-clock").json()["offset_seconds"] == before


def test_only_dev_has_one() -> None:
    from goalsvc.app import create_app

    assert "/v1/test-clock" not in create_app().openapi()["paths"]


def test_the_command_line_says_what_is_wrong(cli: Cli) -> None:
    ended = cli("clock", "advance", "an hour")
    assert ended.status == 1
    assert "not a duration" in ended.err
