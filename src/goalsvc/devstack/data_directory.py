"""The directory in which `goalsvc dev` keeps its data, its logs, and what it must remember from one run to the next."""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from goalsvc.devstack.ports import free_port, is_free
from goalsvc.devstack.process import birth_of, end_group
from goalsvc.devstack.waiting import holds_within
from goalsvc.errors import GoalsvcError


class DataDirectoryError(GoalsvcError):
    """The data directory cannot be used; the message says why."""

    code = "data_directory"


#: All that a `goalsvc dev` makes in its data directory; the lock comes last.
_ENTRIES = ("mongod", "valkey", "logs", "clock", "ports.json", "running.json", ".gitignore", "lock")


class DataDirectory:
    """`ports.json` remembers the parts' ports, `running.json` the processes of the run that holds `lock`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs = path / "logs"
        self._ports = path / "ports.json"
        self._running = path / "running.json"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Makes the directory and holds it for this process alone; raises DataDirectoryError if it cannot be had.

        The lock is the kernel's: it is gone when its holder is, however that ended.
        """
        try:
            if not self.path.exists():
                self.path.mkdir(parents=True)
                (self.path / ".gitignore").write_text("*\n")
            self.logs.mkdir(exist_ok=True)
            lock = (self.path / "lock").open("a+")
        except OSError as error:
            raise DataDirectoryError(f"the data directory {self.path} cannot be used: {error.strerror}") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.seek(0)
                holder = lock.read().strip() or "unknown"
                raise DataDirectoryError(
                    f"another `goalsvc dev` (process {holder}) uses the data directory {self.path}: "
                    "stop it, or choose another with --data-dir"
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def remove(self, ask: Callable[[int], None]) -> list[str]:
        """Removes dev's data, and the directory if nothing else is in it; returns the names of what else there is.

        Before, `ask` is told how many bytes it is, and may raise. Raises DataDirectoryError for a directory that is not one of
        dev's, and while a `goalsvc dev` runs on it.
        """
        self._insist_that_it_is_devs()
        with self.held():
            ask(sum(file.lstat().st_size for entry in _ENTRIES for file in _files(self.path / entry)))
            self.end_what_was_left_behind()
            try:
                for entry in _ENTRIES:
                    _remove(self.path / entry)
                left = sorted(path.name for path in self.path.iterdir())
                if not left:
                    self.path.rmdir()
            except OSError as error:
                raise DataDirectoryError(f"{self.path} cannot be removed: {error.strerror}") from None
        return left

    def _insist_that_it_is_devs(self) -> None:
        if not self.path.is_dir():
            raise DataDirectoryError(f"there is no directory {self.path}: nothing is to be removed")
        if not ((self.path / "lock").is_file() and self.logs.is_dir() and self._ports.is_file()):
            raise DataDirectoryError(f"{self.path} is not a data directory of `goalsvc dev`: nothing was removed")

    def ports_for(self, names: Iterable[str], besides: Iterable[int] = ()) -> dict[str, int]:
        """A free port for each part, the one that it had last time if that can be had, and remembers them."""
        remembered = _read(self._ports)
        taken = set(besides)
        chosen: dict[str, int] = {}
        for name in names:
            last = remembered.get(name)
            usable = isinstance(last, int) and last not in taken and is_free(last)
            chosen[name] = last if usable and isinstance(last, int) else free_port(besides=taken)
            taken.add(chosen[name])
        _write(self._ports, {**remembered, **chosen})
        return chosen

    def remember_running(self, pids: Mapping[str, int]) -> None:
        """Records the processes of this run, so that the next can end what this one may leave behind."""
        _write(self._running, {name: {"pid": pid, "birth": birth_of(pid)} for name, pid in pids.items()})

    def end_what_was_left_behind(self) -> list[str]:
        """Kills the processes of an earlier run that was killed itself, and gives their names.

        A process is told by its id and its birth, so that nothing else that has got the same id is touched.
        """
        left = {
            name: entry["pid"]
            for name, entry in _read(self._running).items()
            if isinstance(entry, dict) and entry.get("birth") and birth_of(entry["pid"]) == entry["birth"]
        }
        for pid in left.values():
            end_group(pid)
        holds_within(10, lambda: all(birth_of(pid) is None for pid in left.values()))
        self._running.unlink(missing_ok=True)
        return sorted(left)


def _files(path: Path) -> Iterator[Path]:
    """The file at that path, or all files below it."""
    return (found for found in (path, *path.rglob("*")) if found.is_file() and not found.is_symlink())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, object]:
    # What cannot be read is as good as not there: a new port is chosen, and the database told about it.
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(path: Path, content: Mapping[str, object]) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content, indent=2) + "\n")
    new.replace(path)
