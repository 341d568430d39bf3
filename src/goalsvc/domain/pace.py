"""How often clients are told the progress of one goal. Pure functions."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def slot_length(per_second: int) -> timedelta:
    """The length of a slot, in which one notice is sent: any second touches at most `per_second` slots (of 1: two)."""
    return timedelta(seconds=1 / max(1, per_second - 1))


def slot_of(instant: datetime, per_second: int) -> int:
    """The number of the slot that holds this instant."""
    return (instant - _EPOCH) // slot_length(per_second)


def slot_start(slot: int, per_second: int) -> datetime:
    """When that slot begins."""
    return _EPOCH + slot * slot_length(per_second)
