"""Asks OSV which of the packages in the lock files have known vulnerabilities: `python .ci/advisories.py`.

One in what production installs is exit status 1; one in what only development and the tests install is told. Where the
database cannot be reached, that is told, and nothing fails: a machine without the internet can run everything else.
https://google.github.io/osv.dev/post-v1-querybatch/
"""

import http.client
import json
import os
import re
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OSV = os.environ.get("OSV_URL", "https://api.osv.dev")
PATIENCE_SECONDS = 15
#: The most that OSV takes in one call.
MOST_QUERIES = 1000

#: Advisories that do not concern us, each with the reason.
ACCEPTED: Mapping[str, str] = {}


@dataclass(frozen=True, order=True)
class Package:
    """One version of a package."""

    ecosystem: str
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def in_requirements(lock: Path) -> set[Package]:
    """The packages that a requirements file pins."""
    pinned = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", lock.read_text(), re.MULTILINE)
    return {Package("PyPI", name.lower(), version) for name, version in pinned}


def in_npm(lock: Path) -> set[Package]:
    """The packages that a package-lock.json pins; one that goes by another name there is known by its own."""
    packages: dict[str, dict[str, Any]] = json.loads(lock.read_text())["packages"]
    return {
        Package("npm", entry.get("name", place.rpartition("node_modules/")[2]), entry["version"])
        for place, entry in packages.items()
        if place
    }


def advisories(packages: list[Package]) -> dict[Package, list[str]]:
    """Ids of the advisories about each package that has any. Raises OSError when OSV cannot be asked."""
    known: dict[Package, list[str]] = {}
    for start in range(0, len(packages), MOST_QUERIES):
        asked = packages[start : start + MOST_QUERIES]
        queries = [{"package": {"name": p.name, "ecosystem": p.ecosystem}, "version": p.version} for p in asked]
        request = urllib.request.Request(  # noqa: S310 - the address is a constant, or the user's own
            f"{OSV}/v1/querybatch",
            data=json.dumps({"queries": queries}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:  # noqa: S310
            results = json.load(answer)["results"]
        for package, result in zip(asked, results, strict=True):
            ids = [each["id"] for each in result.get("vulns", []) if each["id"] not in ACCEPTED]
            if ids:
                known[package] = ids
    return known


def main() -> int:
    """Prints what is known, and gives the exit status."""
    production = in_requirements(ROOT / "requirements.lock")
    others = in_requirements(ROOT / "requirements-dev.lock") | in_requirements(ROOT / "requirements-build.lock")
    everything = sorted(production | others | in_npm(ROOT / "tests/e2e/package-lock.json"))
    try:
        known = advisories(everything)
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(f"advisories: not checked, {OSV} cannot be asked ({error})")
        return 0
    for package, ids in known.items():
        where = "production" if package in production else "development only"
        print(f"{package} ({package.ecosystem}, {where}): {', '.join(ids)}")
    print(f"advisories: {len(everything)} packages, {len(known)} with known vulnerabilities")
    return 1 if production & known.keys() else 0


if __name__ == "__main__":
    sys.exit(main())
