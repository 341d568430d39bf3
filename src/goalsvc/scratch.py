"""Working directories that do not outlive their process, however it ends.

Each is locked by its process for as long as that lives. What a killed one leaves behind, which for a clip may be hundreds of
megabytes, is removed by the next process of goalsvc that starts on the machine.
"""

import fcntl
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)

_LOCK = ".lock"
_PURPOSES = ("clip", "metrics")


@contextmanager
def working_directory(purpose: str) -> Iterator[Path]:
    """Yields an empty directory for `clip` or `metrics`; it is removed on leaving, or after this process's death."""
    if purpose not in _PURPOSES:
        raise ValueError(f"no process would remove a directory for {purpose}")
    with ExitStack() as stack:
        locked: Path | None = None
        while locked is None:  # another process may take it for abandoned before it is locked
            made = tempfile.TemporaryDirectory(prefix=f"goalsvc-{purpose}-", ignore_cleanup_errors=True)
            directory = Path(stack.enter_context(made))
            with suppress(FileNotFoundError):
                lock = stack.enter_context((directory / _LOCK).open("wb"))
                fcntl.flock(lock, fcntl.LOCK_EX)
                locked = directory if (directory / _LOCK).exists() else None
        yield locked


def remove_abandoned() -> int:
    """Removes the working directories whose processes are gone; how many. Never raises."""
    removed = 0
    for purpose in _PURPOSES:
        for directory in Path(tempfile.gettempdir()).glob(f"goalsvc-{purpose}-*"):
            # Without a lock it is being made at this moment; one of another user is not ours to open.
            with suppress(OSError), (directory / _LOCK).open("r+b") as lock:
                if _is_free(lock):
                    shutil.rmtree(directory)
                    removed += 1
    if removed:
        log.warning("%d working directories of processes that were killed were removed", removed)
    return removed


def _is_free(lock: BinaryIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
