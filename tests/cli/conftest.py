"""A `goalsvc dev` for all tests in here, and the command line told where it is."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from .command_line import Cli, Ended, clean_environment, run_cli


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The JSON object of a `goalsvc dev`."""
    with running_dev(tmp_path_factory.mktemp("cli-dev")) as told:
        yield told


@pytest.fixture(scope="module")
def own_dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The JSON object of a `goalsvc dev` for one module alone, whose time it may move."""
    with running_dev(tmp_path_factory.mktemp("own-dev")) as told:
        yield told


@contextmanager
def running_dev(directory: Path) -> Iterator[dict[str, Any]]:
    """Runs a `goalsvc dev` with its data in that directory; yields its JSON object."""
    # One try only: some tests want a dead letter.
    environment = {**clean_environment(), "GOALSVC_TASK_TRIES": "1"}
    with (directory / "dev.log").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "goalsvc", "dev", "--json", "--port", "0", "--data-dir", str(directory / "data")],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (directory / "dev.log").read_text()
        yield json.loads(line)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=40)


@pytest.fixture
def cli(stack: dict[str, Any]) -> Cli:
    """The command line, told where the API is."""

    def run(*words: str, stdin: str = "", **settings: str) -> Ended:
        return run_cli(*words, stdin=stdin, **{"API_URL": stack["api_url"], **settings})

    return run


@pytest.fixture
def api(stack: dict[str, Any]) -> Iterator[httpx.Client]:
    """The API, as an integrator's program speaks to it."""
    headers = {"Authorization": "Bearer goalsvc-api-key"}
    with httpx.Client(base_url=stack["api_url"], headers=headers, trust_env=False, timeout=15) as client:
        yield client


@pytest.fixture
def show(api: httpx.Client) -> str:
    """The id of a ShowGoal of alice's, ready to be played."""
    session = api.post("/v1/sessions", json={"user_id": "alice"}).raise_for_status().json()
    goal = {"kind": "ShowGoal", "session_id": session["id"], "levels": [{"title": "Songs", "target": 360}]}
    made: str = api.post("/v1/goals", json=goal).raise_for_status().json()["id"]
    return made


@pytest.fixture
def recording(tmp_path: Path) -> Callable[..., Path]:
    """Writes lines to a file and gives its path."""

    def write(*lines: Any) -> Path:
        path = tmp_path / "recording.jsonl"
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
        return path

    return write
