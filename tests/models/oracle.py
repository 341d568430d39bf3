"""What the law of performed time says, computed the slow and obvious way, without a look at how goalsvc does it.

Presence is walked through millisecond by millisecond in meaning, instant by instant in fact: at each instant at which
something happened, who is there after it; performed is the time between two instants while those are there who must be.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Kind = Literal["join", "leave"]
Who = Literal["performer", "viewer", "nobody"]
Mode = Literal["alone", "auto", "both", "performer"]

#: An unowned leave within this time before any join is none.
RECONNECT_MS = 10_000


@dataclass(frozen=True, slots=True)
class Happening:
    """A join or a leave at an instant, in whole milliseconds; of whom, where that is known."""

    kind: Kind
    at_ms: int
    who: Who = "performer"

    @classmethod
    def at(cls, kind: Kind, instant: datetime, who: Who = "performer") -> "Happening":
        return cls(kind, round(instant.timestamp() * 1000), who)


def milliseconds_performed(
    happenings: Iterable[Happening], mode: Mode = "alone", end_ms: int | None = None, *, closed: bool = False
) -> int:
    """How long there was performance that a leave, or with `closed` the end, has ended. What is after the end is not seen.

    At one and the same instant a leave has the last word: the clock runs while it was started *later* than paused.
    """
    seen = {happening for happening in happenings if end_ms is None or happening.at_ms <= end_ms}
    if mode == "alone":
        seen = {Happening(happening.kind, happening.at_ms) for happening in seen}
        mode = "performer"
    if mode == "performer":
        seen = {happening for happening in seen if happening.who != "viewer"}
    owned = any(happening.who != "nobody" for happening in seen)
    viewer_joined = any(happening.who == "viewer" and happening.kind == "join" for happening in seen)
    needed: tuple[Who, ...] = ("performer",) if owned else ("nobody",)
    if mode == "both" or viewer_joined:
        needed = ("performer", "viewer")
    joins = [happening.at_ms for happening in seen if happening.kind == "join"]
    there: dict[Who, int] = {}  # since when
    performed, since = 0, None
    for instant in sorted({happening.at_ms for happening in seen}):
        now = [happening for happening in seen if happening.at_ms == instant]
        for happening in now:
            if happening.kind == "join":
                there.setdefault(happening.who, instant)
        gone = {happening.who for happening in now if happening.kind == "leave"}
        if "nobody" in gone:
            gone -= {"nobody"}
            if not any(instant < join <= instant + RECONNECT_MS for join in joins):
                gone = {"performer", "viewer", "nobody"}
        for who in gone:
            there.pop(who, None)
        on = all(who in there for who in needed)
        if since is not None and not on:
            performed += instant - since
            since = None
        elif since is None and on:
            since = instant
    if closed and since is not None and end_ms is not None:
        performed += end_ms - since
    return performed


def seconds_counted(
    arrivals: Sequence[Happening], mode: Mode = "alone", end_ms: int | None = None, *, closed: bool = False
) -> int:
    """What progress must be after these arrivals, in this order: what has been counted is never taken back.

    With `closed`, what still ran at the end is counted after the last arrival.
    """
    prefixes = [arrivals[:length] for length in range(len(arrivals) + 1)]
    counted = max(milliseconds_performed(prefix, mode, end_ms) // 1000 for prefix in prefixes)
    return max(counted, milliseconds_performed(arrivals, mode, end_ms, closed=closed) // 1000)
