"""The time, as something that can be handed in: production takes the system's, tests and `goalsvc dev` move their own."""

import mmap
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import time_ns
from typing import Protocol


class Clock(Protocol):
    """Tells the present instant."""

    def now(self) -> datetime:
        """Returns this instant: aware, UTC, whole milliseconds (the precision that MongoDB stores)."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Returns this instant by the machine's clock, cut to whole milliseconds."""
        # A third of the time of `whole_milliseconds(datetime.now(UTC))`; each receiver's report asks.
        return datetime.fromtimestamp(time_ns() // 1_000_000 / 1000, UTC)


#: The offset of a test clock in its file: one signed 64-bit number of milliseconds.
_OFFSET = struct.Struct("<q")


def clock_file(directory: Path) -> Path:
    """Returns where the processes of a `goalsvc dev` with that data directory share the offset of their clock."""
    return directory / "clock"


class MovableClock:
    """A test clock: the machine's clock plus an offset that all processes of one `goalsvc dev` share through a file.

    Reading costs no system call: the file is mapped into memory.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file, or makes it with an offset of zero."""
        if not path.exists():
            path.write_bytes(_OFFSET.pack(0))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), _OFFSET.size)

    @property
    def offset(self) -> timedelta:
        """How far this clock is ahead of the machine's."""
        (milliseconds,) = _OFFSET.unpack_from(self._shared)
        return timedelta(milliseconds=milliseconds)

    def now(self) -> datetime:
        """Returns this instant by the moved clock."""
        return whole_milliseconds(datetime.now(UTC) + self.offset)

    def advance(self, seconds: float) -> datetime:
        """Moves the clock of every process forward; returns the new instant. Raises ValueError for a negative number."""
        if seconds < 0:
            raise ValueError("a test clock moves forward only")
        moved = self.offset + timedelta(seconds=seconds)
        _OFFSET.pack_into(self._shared, 0, int(moved.total_seconds() * 1000))
        return self.now()


def whole_milliseconds(instant: datetime) -> datetime:
    """Returns `instant` without what is finer than a millisecond, so that it equals itself after a trip to MongoDB."""
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


def from_epoch_milliseconds(milliseconds: int) -> datetime:
    """Returns the instant that many milliseconds after 1970-01-01 UTC."""
    seconds, rest = divmod(milliseconds, 1000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest * 1000)


#: A number below this is epoch seconds, above it epoch milliseconds: seconds reach it in the year 5138.
_LEAST_MILLISECONDS = 100_000_000_000


def from_epoch(number: float) -> datetime:
    """Returns the instant that many seconds or milliseconds after 1970-01-01 UTC, whichever the number's size says."""
    return from_epoch_milliseconds(int(number if number >= _LEAST_MILLISECONDS else number * 1000))


def from_iso(text: str) -> datetime:
    """Returns the instant of an ISO 8601 text, in UTC, as which one without an offset is read. Raises ValueError."""
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def to_epoch_milliseconds(instant: datetime) -> int:
    """Returns the whole milliseconds from 1970-01-01 UTC to `instant`."""
    return int(instant.timestamp()) * 1000 + instant.microsecond // 1000
