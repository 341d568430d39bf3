"""The command line as a program of its own: what it loads, and how it ends."""

import subprocess
import sys

from .command_line import assert_one_sentence, clean_environment, run_process


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


def test_a_wrong_word_is_status_2() -> None:
    assert run_process("nonsense").status == 2
