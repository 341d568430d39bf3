"""`goalsvc tail` and `goalsvc record`: webhooks as they come, on a running API."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from goalsvc.commands.webhooks import line_of, recorded

from .command_line import Cli, assert_one_sentence, clean_environment, run_cli, run_process

ROW = {
    "id": "s1",
    "at": "2026-03-01T20:00:01Z",
    "name": "member_removed",
    "outcome": "done",
    "channel": "presence-enc-goal@68143584d6945d32e732cc21",
    "user_id": "alice",
    "happened_at": "2026-03-01T20:00:00.250000Z",
}


def test_a_line_says_when_what_and_what_came_of_it() -> None:
    assert line_of(ROW) == (
        "2026-03-01T20:00:01Z  member_removed  presence-enc-goal@68143584d6945d32e732cc21  alice  ->  done"
    )
    refused = {"at": "2026-03-01T20:00:01Z", "name": "refused", "outcome": "failed", "reason": "bad_signature: no"}
    assert line_of(refused).endswith("refused  ->  failed: bad_signature: no")


def test_a_recording_holds_the_event_and_its_time() -> None:
    line = recorded(ROW)
    assert line is not None
    body = json.loads(json.loads(line)["body"])
    event = {"name": "member_removed", "channel": ROW["channel"], "user_id": "alice"}
    assert body == {"time_ms": 1772395200250, "events": [event]}


def test_a_refused_webhook_is_not_recorded() -> None:
    assert recorded({"at": "2026-03-01T20:00:01Z", "name": "refused", "outcome": "failed"}) is None


@contextmanager
def following(stack: dict[str, Any], *words: str) -> Iterator["subprocess.Popen[str]"]:
    """Runs a command that follows webhooks; ended as by Ctrl-C."""
    process = subprocess.Popen(
        [sys.executable, "-m", "goalsvc", *words, "--api-url", stack["api_url"]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**clean_environment(), "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=20)
        finally:
            process.kill()
        assert (process.returncode, errors) == (0, "")


def line_about(process: "subprocess.Popen[str]", cli: Cli, sent: Sequence[str], goal: str) -> str:
    """The first line about that goal; the event is sent until the command, which has to start first, has seen one."""
    found: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if goal in line:
                found.append(line)
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    for _ in range(60):
        assert cli(*sent).status == 0
        reader.join(timeout=1)
        if not reader.is_alive():
            break
    return found[0]


def test_webhooks_are_shown_as_they_come(cli: Cli, stack: dict[str, Any], show: str) -> None:
    with following(stack, "tail", "--json") as process:
        line = line_about(process, cli, ("send", "member_added", "--goal", show, "--user", "alice"), show)
    row = json.loads(line)
    assert (row["name"], row["user_id"], row["outcome"]) == ("member_added", "alice", "done")


def test_what_was_recorded_can_be_replayed(cli: Cli, stack: dict[str, Any], show: str, tmp_path: Path) -> None:
    file = tmp_path / "show.jsonl"
    with following(stack, "record", str(file)) as process:
        line_about(process, cli, ("send", "member_added", "--goal", show, "--user", "alice"), show)
    replayed = cli("replay", str(file))
    assert (replayed.status, replayed.err) == (0, "")
    assert f"member_added presence-enc-goal@{show}" in replayed.out


def test_a_file_that_cannot_be_written(cli: Cli, tmp_path: Path) -> None:
    assert_one_sentence(cli("record", str(tmp_path / "no" / "file")), "cannot be written")


@pytest.mark.parametrize("command", ["tail", "record"])
def test_nobody_there(command: str, tmp_path: Path) -> None:
    words = (command, str(tmp_path / "f")) if command == "record" else (command,)
    assert_one_sentence(run_cli(*words, "--api-url", "http://127.0.0.1:1"), "cannot be reached")


def test_the_program_itself() -> None:
    assert run_process("--version").out.startswith("goalsvc 0.")
    assert "Usage" in run_process("-h").out
    assert run_process("keys", "list", "-h").status == 0
    assert json.loads(run_process("asyncapi").out)["asyncapi"] == "3.0.0"
    assert "complete" in run_process("--show-completion", "bash").out
