"""The directory in which `goalsvc dev` keeps its data, its logs, and what it must remember from one run to the next."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from goalsvc.devstack.ports import free_port, is_free
from goalsvc.devstack.process import birth_of, end_group
from goalsvc.devstack.waiting import holds_within
from goalsvc.errors import GoalsvcError


class DataDirectoryError(GoalsvcError):
    """The data directory cannot be used; the message says why."""

    code = "data_directory"


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


def _read(path: Path) -> dict[str, Any]:
    # What cannot be read is as good as not there: a new port is chosen, and the database told about it.
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content, indent=2) + "\n")
    new.replace(path)
