"""Looks for what must not be in this repository: `python .ci/repository.py`. Prints where it is; exit status 1 if anywhere.

Looked at is every file that git tracks or would add.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from goalsvc.settings import Settings

ROOT = Path(__file__).resolve().parent.parent

#: A line that holds this is looked at by nobody here; it says why behind it.
ALLOWED = "repository: allowed"

SECRETS = {
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "an AWS access key id": r"\b(AKIA|ASIA)[A-Z0-9]{16}\b",
    "a GitHub token": r"\b(gh[oprsu]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{50})",
    "a GitLab token": r"\bglpat-[A-Za-z0-9_-]{20}",
    "a PyPI token": r"\bpypi-AgE[A-Za-z0-9_-]{40}",
    "an npm token": r"\bnpm_[A-Za-z0-9]{36}\b|:_authToken\s*=",
    "a Slack token": r"\bxox[abeoprs]-[A-Za-z0-9-]{10}",
    "a Stripe key": r"\b[rs]k_live_[A-Za-z0-9]{16}",
    "a Google API key": r"\bAIza[A-Za-z0-9_-]{35}\b",
    "a password in an address": r"\b[a-z][a-z0-9+.-]*://[^\s:/@$<{'\"]*:(?!pass(word)?@|secret@)[^\s:/@$<{'\"]+@",
}
MACHINE_PATH = re.compile(r"(?<![\w.~*{}/-])/(?:work|root|home|Users)/[\w.-]")
REGISTRY_ADDRESS = re.compile(r'://|^\s*--(?:extra-)?index-url|^\s*--find-links|"resolved"\s*:')


def files() -> list[Path]:
    """Every file that git tracks or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    paths = (ROOT / name for name in listed.stdout.decode().split("\0") if name)
    return sorted(path for path in paths if path.is_file())


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """The numbered lines of a text file; none of any other."""
    content = path.read_bytes()
    if b"\0" not in content:
        yield from enumerate(content.decode(errors="replace").splitlines(), start=1)


def found_in(path: Path) -> Iterator[str]:
    """What is wrong with one file."""
    name = path.relative_to(ROOT)
    is_lock = name.suffix == ".lock" or name.name == "package-lock.json"
    for number, line in lines_of(path):
        if ALLOWED in line:
            continue
        place = f"{name}:{number}"
        for what, pattern in SECRETS.items():
            if re.search(pattern, line):
                yield f"{place}: {what}"
        if MACHINE_PATH.search(line):
            yield f"{place}: a path of one machine"
        if is_lock and REGISTRY_ADDRESS.search(line):
            yield f"{place}: an address in a lock file"


def settings_left_out() -> Iterator[str]:
    """Settings that the production-like stack does not spell out, and those that it does but nobody reads."""
    spelt_out = set(re.findall(r"^\s+(GOALSVC_[A-Z0-9_]+):", (ROOT / "compose.yaml").read_text(), re.MULTILINE))
    known = {f"GOALSVC_{name.upper()}" for name in Settings.model_fields}
    yield from (f"compose.yaml: does not spell out {name}" for name in sorted(known - spelt_out))
    yield from (f"compose.yaml: {name} is no setting" for name in sorted(spelt_out - known))


def main() -> int:
    """Prints what was found, and gives the exit status."""
    looked_at = files()
    findings = [finding for path in looked_at for finding in found_in(path)]
    findings.extend(settings_left_out())
    for finding in findings:
        print(finding)
    print(f"{len(looked_at)} files looked at: {f'{len(findings)} findings' if findings else 'nothing found'}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
