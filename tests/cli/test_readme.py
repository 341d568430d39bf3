"""What the README tells a reader to type works, to the letter."""

import re
import subprocess
from pathlib import Path
from typing import Any

import httpx

README = Path(__file__).parents[2] / "README.md"
TRIED = re.compile(r"<!-- tried by tests/cli/test_readme\.py -->\n```sh\n(.*?)```", re.DOTALL)


def test_the_first_webhook(stack: dict[str, Any], api: httpx.Client) -> None:
    blocks = TRIED.findall(README.read_text())
    assert len(blocks) == 2
    script = "\n".join(["set -eu", f"api={stack['api_url']}", *blocks, 'echo; echo "goal=$goal"'])
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("HTTP/1.1 200 OK")
    goal = api.get(f"/v1/goals/{done.stdout.rpartition('goal=')[2].strip()}").json()
    assert "started" in goal["context"]
    assert "paused" not in goal["context"]
