"""What the law of the clock says (SPEC §4), worked out the slow and obvious way, without a look at how goalsvc does it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Kind = Literal["join", "leave"]


@dataclass(frozen=True, slots=True)
class Happening:
    """A join or a leave at an instant, in whole milliseconds."""

    kind: Kind
    at_ms: int

    @classmethod
    def at(cls, kind: Kind, instant: datetime) -> "Happening":
        return cls(kind, round(instant.timestamp() * 1000))


def milliseconds_performed(happenings: Iterable[Happening]) -> int:
    """How long the clock ran until it was paused last: what happened is sorted by time, and the time walked through.

    At one and the same instant a leave has the last word: the clock runs while it was started *later* than paused.
    """
    joins = {happening.at_ms for happening in happenings if happening.kind == "join"}
    leaves = {happening.at_ms for happening in happenings if happening.kind == "leave"}
    performed, running_since = 0, None
    for instant in sorted(joins | leaves):
        if instant in joins and running_since is None:
            running_since = instant
        if instant in leaves and running_since is not None:
            performed += instant - running_since
            running_since = None
    return performed


def seconds_counted(arrivals: Sequence[Happening]) -> int:
    """What progress must be after these arrivals, in this order: what has been counted is never taken back."""
    return max(milliseconds_performed(set(arrivals[:length])) // 1000 for length in range(len(arrivals) + 1))
