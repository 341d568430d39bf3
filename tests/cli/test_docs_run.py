"""What the documents tell a reader to type is typed: every command of goalsvc that ends by itself, on a `goalsvc dev`."""

import json
import shlex
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from goalsvc.clock import to_epoch_milliseconds
from tests.house.test_code_blocks import SHELL, Block, commands_of

from .command_line import run_cli

#: Commands that do not end by themselves, or need what is not here, and who runs them.
ELSEWHERE = {
    "dev": "runs until it is stopped: all of these tests are run on one",
    "demo": "tests/cli/test_demo.py",
    "serve": "runs until it is stopped: tests/outages",
    "worker": "runs until it is stopped: tests/tasks",
    "tail": "runs until it is stopped: tests/cli/test_webhooks.py",
    "record": "runs until it is stopped: tests/cli/test_webhooks.py",
    "listen": "runs until it is stopped: tests/cli/test_listen.py",
    "doctor": "asks the settings of its environment, not a dev: tests/test_doctor.py",
    "migrate": "asks the settings of its environment, not a dev: tests/models/test_migration.py",
    "dead-letters redrive goals": "needs that letter: tests/cli/test_dead_letters.py",
}


def typed(block: Block) -> Iterator[str]:
    """The commands of goalsvc in the block that can be run here."""
    for line in commands_of(block):
        words = line.removeprefix(".venv/bin/").removeprefix("goalsvc ")
        if words != line and not any(words.startswith(each) for each in ELSEWHERE):
            yield words


COMMANDS = sorted({words: block for block in SHELL for words in typed(block)}.items(), key=lambda pair: pair[0])


@pytest.fixture(scope="module")
def named(own_dev: dict[str, Any]) -> dict[str, str]:
    """What stands in the documents for an id, and such an id on this dev."""
    headers = {"authorization": "Bearer goalsvc-api-key"}
    with httpx.Client(base_url=own_dev["api_url"], headers=headers, trust_env=False) as http:
        session = http.post("/v1/sessions", json={"user_id": "alice"}).json()["id"]
        plan = {"kind": "ShowGoal", "session_id": session, "levels": [{"title": "Ukulele", "target": 36_000}]}
        goal = http.post("/v1/goals", json=plan).raise_for_status().json()["id"]
        keys = [http.post("/v1/keys", json={"name": "backend", "scopes": ["read"]}).json()["id"] for _ in range(2)]
    names = dict.fromkeys(("68143584d6945d32e732cc21", "GOAL_ID", "$goal", "$GOAL"), goal)
    return names | {"$USER": "alice", "keys roll key_2Jx7": f"keys roll {keys[0]}", "key_2Jx7": keys[1]}


@pytest.fixture
def recordings(own_dev: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that the documents name, in the directory of work; what they hold has just happened by dev's clock."""
    now = datetime.fromisoformat(run_cli("clock", "now", API_URL=own_dev["api_url"]).out.strip())
    events = [{"name": "channel_occupied", "channel": "presence-enc-goal@68143584d6945d32e732cc21"}]
    body = json.dumps({"time_ms": to_epoch_milliseconds(now), "events": events})
    for name in ("show.jsonl", "webhooks.jsonl"):
        (tmp_path / name).write_text(json.dumps({"body": body}) + "\n")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("recordings")
@pytest.mark.parametrize(("words", "block"), COMMANDS, ids=[words for words, _ in COMMANDS])
def test_it_does_what_the_document_says(
    words: str, block: Block, own_dev: dict[str, Any], named: dict[str, str]
) -> None:
    for name, value in named.items():
        words = words.replace(name, value)
    ended = run_cli(*shlex.split(words), API_URL=own_dev["api_url"])
    assert ended.status == 0, f"{block}: goalsvc {words}: {ended.err}"
    assert ended.out
