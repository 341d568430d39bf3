"""The time, as something that can be handed in: production takes the system's, tests set their own."""

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the present instant."""

    def now(self) -> datetime:
        """This instant: aware, UTC, whole milliseconds (the precision that MongoDB stores)."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """This instant by the machine's clock, cut to whole milliseconds."""
        return whole_milliseconds(datetime.now(UTC))


def whole_milliseconds(instant: datetime) -> datetime:
    """`instant` without what is finer than a millisecond, so that it equals itself after a trip to MongoDB."""
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


def from_epoch_milliseconds(milliseconds: int) -> datetime:
    """The instant that many milliseconds after 1970-01-01 UTC."""
    seconds, rest = divmod(milliseconds, 1000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest * 1000)


def to_epoch_milliseconds(instant: datetime) -> int:
    """Whole milliseconds from 1970-01-01 UTC to `instant`."""
    return int(instant.timestamp()) * 1000 + instant.microsecond // 1000
