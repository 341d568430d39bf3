"""Tries what `make release` has built: the changelog names it, the sdist makes the same wheel, and the wheel works alone.

`python .ci/release.py DIST`: exit status 1 with one sentence when something is wrong. The last step installs the wheel with the
extra `dev` in a new environment and plays `goalsvc demo` there; it needs the package index.
"""

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def version() -> str:
    """The version of the project; ends the program where the changelog's first version is another one."""
    source = ROOT / "src" / "goalsvc" / "__init__.py"
    named = re.search(r'^__version__ = "(.+)"$', source.read_text("utf-8"), re.MULTILINE)
    first = re.search(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    if named is None or first is None or first[1] != named[1]:
        found = [each[1] if each else "no version" for each in (first, named)]
        sys.exit(f"CHANGELOG.md begins with {found[0]}, src/goalsvc/__init__.py says {found[1]}")
    return named[1]


def contents(wheel: Path) -> set[tuple[str, int]]:
    """The files of a wheel with their checksums; its list of files is left out, for it has the order of the archive."""
    with zipfile.ZipFile(wheel) as archive:
        return {(each.filename, each.CRC) for each in archive.infolist() if not each.filename.endswith("/RECORD")}


def main() -> None:
    """Tries all of it."""
    dist, name = Path(sys.argv[1]), f"goalsvc-{version()}"
    wheel, sdist = dist / f"{name}-py3-none-any.whl", dist / f"{name}.tar.gz"
    with tempfile.TemporaryDirectory(prefix="goalsvc-release-") as directory:
        again, environment = Path(directory) / "again", Path(directory) / "environment"
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(again), str(sdist)], check=True)
        if differing := contents(wheel) ^ contents(again / wheel.name):
            sys.exit(f"the sdist makes another wheel: {sorted({path for path, _ in differing})}")
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        python = environment / "bin" / "python"
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", f"{wheel.resolve()}[dev]"], check=True)
        keep = ["--keep-dir", str(Path(directory) / "demo")]
        demo = subprocess.run([str(python), "-m", "goalsvc", "demo", *keep], cwd=directory, check=False)
        if demo.returncode:
            sys.exit("the demo fails in an environment that has nothing but the wheel")
    print(f"{wheel} and {sdist} are good")


if __name__ == "__main__":
    main()
