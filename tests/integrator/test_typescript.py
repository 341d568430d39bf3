"""The TypeScript client of `clients/typescript`: made from the OpenAPI document, type checked, and tried on a real goalsvc."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command_line import clean_environment

CLIENT = Path(__file__).parents[2] / "clients" / "typescript"

pytestmark = [
    pytest.mark.skipif(shutil.which("npm") is None, reason="needs node and npm"),
    pytest.mark.skipif("GOALSVC_TEST_TYPESCRIPT" not in os.environ, reason="run by `make client-typescript`"),
]


def runs(*words: str, **environment: str) -> str:
    """Runs a program in the client's directory, which must succeed; what it says."""
    done = subprocess.run(
        words,
        cwd=CLIENT,
        env={**clean_environment(), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, f"{words}:\n{done.stdout}{done.stderr}"
    return done.stdout


def test_it_is_made_checked_and_plays_with_a_real_goalsvc(stack: dict[str, Any]) -> None:
    runs("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
    runs(sys.executable, str(CLIENT.parent / "python" / "generate.py"), "--document", "openapi.json")
    programs = CLIENT / "node_modules" / ".bin"
    # What has a default need not be given.
    types = ("--default-non-nullable", "false", "--output", "src/generated/schema.ts")
    runs(str(programs / "openapi-typescript"), "openapi.json", *types)
    runs(str(programs / "tsc"), "--project", "tsconfig.json")
    told = runs("node", "--test", "build/test/", GOALSVC_API_URL=stack["api_url"])
    assert "# pass 5" in told, told
    assert "# fail 0" in told, told
