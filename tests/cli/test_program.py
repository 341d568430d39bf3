"""The command line as a program of its own: what it loads, and how it ends."""

import subprocess
import sys
from pathlib import Path

import pytest

from .command_line import assert_one_sentence, clean_environment, run_cli, run_process


def test_help_names_every_command() -> None:
    told = run_process("--help", COLUMNS="200")
    assert told.status == 0
    commands = "serve worker dev demo send trace replay dead-letters openapi doctor"
    assert [name for name in commands.split() if f" {name} " not in told.out] == []


def test_help_waits_for_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from goalsvc.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'beanie', 'motor', 'pymongo', 'fastapi', 'httpx', 'pydantic', 'redis', 'uvicorn'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=clean_environment(), check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_error_of_ours_is_one_sentence_and_status_1() -> None:
    unreachable = run_process("trace", "0" * 24, API_URL="http://127.0.0.1:1")
    assert_one_sentence(unreachable, "the API at http://127.0.0.1:1 cannot be reached")


def test_serve_without_settings() -> None:
    assert_one_sentence(run_process("serve"), "GOALSVC_MONGODB_URL", "GOALSVC_REDIS_URL")


GOOD = {"MONGODB_URL": "mongodb://127.0.0.1:1/goalsvc", "REDIS_URL": "redis://127.0.0.1:1", "API_KEY": "key"}


@pytest.mark.parametrize(
    ("command", "variable", "value"),
    [("serve", "REDIS_URL", "redis://:hunter/two@127.0.0.1:1"), ("worker", "SESSION_LIMIT", "inf")],
)
def test_a_wrong_setting_is_one_sentence(command: str, variable: str, value: str) -> None:
    told = run_process(command, **GOOD | {variable: value})
    assert_one_sentence(told, f"GOALSVC_{variable}: ")
    assert value not in told.err
    assert "hunter" not in told.err


@pytest.mark.parametrize(("variable", "value"), [("LOG_LEVEL", "loud"), ("API_KEY", "hunter\udcfftwo")])
def test_dev_looks_at_the_settings_before_it_starts_anything(tmp_path: Path, variable: str, value: str) -> None:
    ended = run_cli("dev", "--port", "0", "--data-dir", str(tmp_path / "data"), **{variable: value})
    assert ended.status == 1
    assert f"GOALSVC_{variable}: " in ended.err
    assert ended.err.count("\n") == 1
    assert "hunter" not in ended.err
    assert not (tmp_path / "data" / "mongod").exists()


def test_a_wrong_word_is_status_2() -> None:
    assert run_process("nonsense").status == 2
