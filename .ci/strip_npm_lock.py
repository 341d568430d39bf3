"""Takes out of npm's lock file what is told of packages and not needed to install them: whom to fund, what is deprecated,
and the addresses of dependencies for which package.json's `overrides` names another package anyway.

`python .ci/strip_npm_lock.py tests/e2e/package-lock.json`; `make lock` does it.
"""

import json
import sys
from pathlib import Path


def main(path: Path) -> None:
    """Writes the file anew without them; everything else stays as npm wrote it."""
    lock = json.loads(path.read_text("utf-8"))
    for package in lock["packages"].values():
        package.pop("funding", None)
        package.pop("deprecated", None)
        if not isinstance(package.get("license", ""), str):  # the old form: texts and their addresses
            del package["license"]
        wanted = package.get("dependencies", {})
        wanted.update({name: "*" for name, version in wanted.items() if "://" in version})
    path.write_text(json.dumps(lock, indent=2, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
