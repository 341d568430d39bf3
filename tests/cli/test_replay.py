"""`goalsvc replay`, against a running API."""

import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from .command_line import Cli, assert_one_sentence, run_cli

RECORDED = Path(__file__).parents[1] / "fixtures" / "pusher_webhooks.jsonl"
WriteRecording = Callable[..., Path]


def webhook(name: str, goal: str, **times: Any) -> dict[str, Any]:
    event = {"name": name, "channel": f"presence-enc-goal@{goal}", "user_id": "alice"}
    return {"body": json.dumps({**times, "events": [event]}), "headers": {"X-Pusher-Signature": "of another secret"}}


def seconds_of(api: httpx.Client, goal: str) -> float:
    """How long its clock ran, by the times of its last start and pause."""
    clock = api.get(f"/v1/goals/{goal}").json()["context"]
    return (datetime.fromisoformat(clock["paused"]) - datetime.fromisoformat(clock["started"])).total_seconds()


def test_what_a_real_server_sent(cli: Cli) -> None:
    done = cli("replay", str(RECORDED))
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert len(lines) == len(RECORDED.read_text().splitlines())
    assert all(line.startswith("line ") and line.endswith(": 200") for line in lines)
    assert lines[1].startswith("line 2: member_added presence-enc-goal@68143584d6945d32e732cc21")


def test_the_intervals_stay_and_the_last_one_is_now(
    cli: Cli, api: httpx.Client, show: str, recording: WriteRecording
) -> None:
    old = 1_600_000_000_000
    path = recording(
        webhook("member_added", show, time_ms=old), "", webhook("member_removed", show, time_ms=old + 7500)
    )
    begun = time.time()
    done = cli("replay", str(path))
    assert [line.split(":")[0] for line in done.out.splitlines()] == ["line 1", "line 3"]
    assert seconds_of(api, show) == 7.5
    paused = datetime.fromisoformat(api.get(f"/v1/goals/{show}").json()["context"]["paused"]).timestamp()
    assert begun - 0.001 <= paused <= time.time()


def test_every_form_of_time(cli: Cli, api: httpx.Client, show: str, recording: WriteRecording) -> None:
    path = recording(
        webhook("member_added", show, timestamp="2020-09-13T12:26:40Z"),
        webhook("member_removed", show, timestamp=1_600_000_009),
        webhook("subscription_count", show, timestamp=""),
    )
    assert cli("replay", str(path)).status == 0
    assert seconds_of(api, show) == 9


def test_as_json(cli: Cli, show: str, recording: WriteRecording) -> None:
    done = cli("replay", str(recording(webhook("member_added", show, time_ms=5))), "--keep-time", "--json")
    answered = json.loads(done.out)
    assert (answered["line"], answered["status"]) == (1, 400)
    assert answered["problem"].startswith("stale_webhook: ")


def test_from_standard_input(cli: Cli, show: str) -> None:
    done = cli("replay", "-", stdin=json.dumps(webhook("member_added", show, time_ms=5)))
    assert done.out == f"line 1: member_added presence-enc-goal@{show}: 200\n"


def test_with_its_own_time_it_is_stale(cli: Cli, show: str, recording: WriteRecording) -> None:
    now = int(time.time() * 1000)
    path = recording(webhook("member_added", show, time_ms=5), webhook("member_removed", show, time_ms=now))
    done = cli("replay", str(path), "--keep-time")
    first, second = done.out.splitlines()
    assert first.startswith(f"line 1: member_added presence-enc-goal@{show}: 400 stale_webhook: the webhook is of 1970")
    assert second.endswith(": 200")
    assert (done.status, done.err) == (1, "goalsvc: 1 of 2 webhooks refused\n")


def test_with_the_wrong_secret(cli: Cli, show: str, recording: WriteRecording) -> None:
    done = cli("replay", str(recording(webhook("member_added", show, time_ms=5))), PUSHER_SECRET="wrong")
    assert ": 401 bad_signature: " in done.out
    assert (done.status, done.err) == (1, "goalsvc: 1 of 1 webhook refused\n")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["{"], "line 1: is not JSON"),
        (["", '{"headers": {}}'], "line 2: must be an object with the webhook's body as a text"),
        (["[]"], "line 1: must be an object"),
        ([{"body": "x"}], "line 1: the body is not JSON"),
        ([{"body": "[1]"}], "line 1: the body is not a webhook"),
        ([{"body": '{"time_ms": 1}'}], "line 1: the body is not a webhook"),
        ([{"body": '{"events": []}'}], "line 1: the body has neither `time_ms` nor `timestamp`"),
        ([{"body": '{"time_ms": true, "events": []}'}], "line 1: the body has neither"),
        ([{"body": '{"timestamp": "noon", "events": []}'}], "line 1: 'noon' is not a time"),
        ([{"body": '{"time_ms": 1, "events": [{"name": "\\ud83d"}]}'}], "line 1: the body holds half a character"),
        ([{"body": '{"time_ms": 1, "events": [], "\ud83d": 1}'}], "line 1: the body holds half a character"),
        ([""], "holds no webhook"),
    ],
)
def test_what_is_no_recording(recording: WriteRecording, lines: list[Any], told: str) -> None:
    path = recording(*lines)
    assert_one_sentence(run_cli("replay", str(path)), str(path), told)


def test_no_file(tmp_path: Path) -> None:
    assert_one_sentence(run_cli("replay", str(tmp_path / "none")), "cannot be read: No such file")
    assert_one_sentence(run_cli("replay", str(tmp_path)), "cannot be read: Is a directory")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert_one_sentence(run_cli("replay", str(tmp_path / "binary")), "is not a text in UTF-8")
