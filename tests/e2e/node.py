"""The node programs of these tests: soketi and pusher-js, as `package-lock.json` says, installed when first needed."""

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
SOKETI = MODULES / "@soketi/soketi/bin/server.js"
CLIENT = HERE / "client.mjs"

_INSTALLED = MODULES / ".installed-from"
_LONGEST_INSTALLATION_SECONDS = 300


def missing_programs() -> list[str]:
    """What of node and npm this machine does not have."""
    return [name for name in ("node", "npm") if shutil.which(name) is None]


def node() -> str:
    """The `node` on `$PATH`."""
    found = shutil.which("node")
    assert found is not None
    return found


def install() -> None:
    """Installs what the lock file names, unless that has been done; two test runs at a time take turns."""
    wanted = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    with (HERE / "package.json").open() as turn:  # not a file in node_modules: npm empties that
        fcntl.flock(turn, fcntl.LOCK_EX)
        if _INSTALLED.is_file() and _INSTALLED.read_text() == wanted:
            return
        # No package's script is run. soketi's peer (a version of uWebSockets.js on GitHub) is replaced in package.json.
        options = (
            "--prefer-offline",
            "--ignore-scripts",
            "--omit=peer",
            "--legacy-peer-deps",
            "--no-audit",
            "--no-fund",
        )
        done = subprocess.run(
            ["npm", "ci", *options],
            cwd=HERE,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_LONGEST_INSTALLATION_SECONDS,
        )
        if done.returncode != 0:
            raise RuntimeError(f"npm cannot install soketi and pusher-js:\n{done.stdout}{done.stderr}")
        _INSTALLED.write_text(wanted)
