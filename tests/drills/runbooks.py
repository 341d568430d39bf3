"""The commands of a runbook's diagnosis, run as an operator types them."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
#: `goalsvc doctor` and `goalsvc audit` say by 1 that they found something, and `timeout` by 124 that the time was over.
_FINDINGS = {"goalsvc doctor": 1, "goalsvc audit": 1, "timeout": 124}


def commands_of(alert: str) -> list[str]:
    """The commands of the diagnosis."""
    text = (RUNBOOKS / f"{alert}.md").read_text("utf-8").partition("## Diagnosis")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def is_of_the_host(command: str) -> bool:
    """Whether it asks a service of the host or of the cluster, which a drill does not run in."""
    return command.startswith(("systemctl ", "chronyc "))


def run(command: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """What it printed, and what is wrong with how it ended (nothing, as a rule)."""
    command = command.replace("GOAL_ID", environment["GOAL_ID"])
    done = subprocess.run(
        ["bash", "-c", command], env=dict(environment), capture_output=True, text=True, timeout=60, check=False
    )
    allowed = {0, *(status for word, status in _FINDINGS.items() if command.startswith(word))}
    wrong = ""
    if done.returncode not in allowed or "Traceback" in done.stderr:
        wrong = f"`{command}` ended with {done.returncode}: {(done.stdout + done.stderr)[-400:]}"
    return done.stdout + done.stderr, wrong
