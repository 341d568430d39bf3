"""Child processes: how they are started so that none outlives us, told apart, and ended."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from goalsvc.devstack import launch
from goalsvc.errors import GoalsvcError


class PartFailedError(GoalsvcError):
    """A part could not be started, or kept dying; the message is one clear sentence and may be followed by its log."""

    code = "part_failed"


def bound_to_this_process(command: Sequence[str]) -> list[str]:
    """The command, changed so that what it starts keeps its process id and dies together with this process.

    Linux ties it to the *thread* that starts it: start it from one that lives as long as the process does.
    """
    return [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), *command]


def birth_of(pid: int) -> str | None:
    """What tells this process from a later one that was given the same id; None if there is none (or a zombie)."""
    if sys.platform == "linux":
        try:
            # The name (2nd field) is in parentheses and may hold anything; state and start time are fields 3 and 22.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return None
        return None if fields[0] == "Z" else f"{boot}/{fields[19]}"
    listing = subprocess.run(  # noqa: S603
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listing.stdout.strip() or None


def end_group(pid: int, how: signal.Signals = signal.SIGKILL) -> None:
    """Signals what is left of the process group of a child of ours (each is the leader of its own)."""
    try:
        os.killpg(pid, how)
    except (ProcessLookupError, PermissionError):  # gone; macOS says the latter of zombies
        return


def holds_connection_to(pid: int, port: int) -> bool | None:
    """Whether the process has an open TCP connection to that port; None where the system does not tell (not Linux)."""
    if sys.platform != "linux":
        return None
    try:
        sockets = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}
        connections = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    except OSError:
        return False
    established, remote = "01", f":{port:04X}"
    return any(
        fields[2].endswith(remote) and fields[3] == established and f"socket:[{fields[9]}]" in sockets
        for fields in map(str.split, connections)
    )


class PartLog:
    """The file that takes all that a part's process prints, from its latest start on."""

    _TOO_LARGE = 16 * 1024 * 1024

    def __init__(self, path: Path) -> None:
        self.path = path
        self._start = 0
        self._read_up_to = 0

    def open_for_start(self) -> int:
        """A file descriptor for the process that is about to be started; the caller closes it."""
        if self.path.exists() and self.path.stat().st_size > self._TOO_LARGE:
            self.path.replace(self.path.with_suffix(".log.1"))
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._start = os.fstat(descriptor).st_size
        self._read_up_to = min(self._read_up_to, self._start) if self._read_up_to else self._start
        return descriptor

    def tail(self, lines: int = 12) -> str:
        """The last lines since the latest start."""
        return "\n".join(self._text_from(max(self._start, self._size() - 16_384)).splitlines()[-lines:])

    def new_lines(self) -> list[str]:
        """The whole lines that have been added since the last call."""
        text = self._text_from(self._read_up_to)
        whole = text[: text.rfind("\n") + 1]
        self._read_up_to += len(whole.encode(errors="surrogateescape"))
        return whole.splitlines()

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def _text_from(self, position: int) -> str:
        if not self.path.exists():
            return ""
        with self.path.open("rb") as file:
            file.seek(position)
            return file.read().decode(errors="surrogateescape")


def why_it_ended(name: str, status: int, tail: str) -> str:
    """One sentence on why a process ended, from its exit status (negative: the signal) and the last lines it printed."""
    if missing := re.search(r"error while loading shared libraries: ([^\s:]+)", tail):
        return f"{name} cannot run on this machine: the system library {missing[1]} is missing"
    if missing := re.search(r"version [`'](\S+?)' not found", tail):
        return f"{name} cannot run on this machine: its system library is older than {missing[1]}"
    if status == -signal.SIGILL:
        return f"{name} cannot run on this machine: the processor lacks instructions that it needs (AVX)"
    if re.search(r"address already in use|SocketException.*in use", tail, re.IGNORECASE):
        return f"{name} found its port taken by another program"
    if re.search(r"no space left on device", tail, re.IGNORECASE):
        return f"{name} ended because the disk is full"
    if status < 0:
        return f"{name} was ended by {signal.Signals(-status).name}"
    return f"{name} ended with exit status {status}"
