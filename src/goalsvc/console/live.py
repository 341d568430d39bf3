"""The live tail: roots of the trace as they are written, one line each, as Server-Sent Events that resume without a gap."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from starlette.datastructures import State

from goalsvc.clock import Clock, from_epoch_milliseconds, to_epoch_milliseconds
from goalsvc.console.queries import rows
from goalsvc.console.rendering import clock_text

EVERY_SECONDS = 1.0
#: Traces are written in batches: what is dated a moment ago may still appear.
_SETTLES = timedelta(seconds=1)
_MOST_AT_ONCE = 200
#: Each open tail asks once a second; a process serves no more than this.
MOST_TAILS = 20


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reader is in the tail; as text, the id of a Server-Sent Event."""

    at: datetime
    segment: str = ""

    @classmethod
    def read(cls, text: str, otherwise: datetime) -> "Place":
        """Returns the place of that text; a text that is none is a place at `otherwise`."""
        milliseconds, _, segment = text.partition("-")
        if milliseconds.isdecimal() and len(milliseconds) < 15:
            return cls(from_epoch_milliseconds(int(milliseconds)), segment[:64])
        return cls(otherwise)

    def __str__(self) -> str:
        return f"{to_epoch_milliseconds(self.at)}-{self.segment}"


async def lines_after(place: Place, now: datetime) -> list[tuple[Place, Mapping[str, str]]]:
    """Returns what follows that place, oldest first."""
    beside = {"at": place.at, "_id": {"$gt": place.segment}}
    after = {"at": {"$gt": place.at, "$lte": now - _SETTLES}}
    where = {"$or": [beside, after], "at": {"$gte": place.at}, "parent": {"$exists": False}}
    found = await rows("traces", where, sort=[("at", 1), ("_id", 1)], limit=_MOST_AT_ONCE)
    return [(Place(row["at"], str(row["_id"])), line_of(row)) for row in found]


def line_of(segment: Mapping[str, Any]) -> Mapping[str, str]:
    """Returns a root as a line: when, what, and the goal that it is about."""
    node = segment.get("node") or {}
    words = [str(node.get("kind", "")), str(node.get("name", ""))]
    words += [str(node[name]) for name in ("channel", "user_id") if node.get(name)]
    outcome = str(node.get("outcome", ""))
    words.append(outcome if not node.get("reason") else f"{outcome}: {node['reason']}")
    line = {"at": clock_text(segment["at"]), "text": " ".join(words)}
    goal_id = segment.get("goal_id")
    return {**line, "goal_id": str(goal_id)} if goal_id else line


async def follow(place: Place, base: str, clock: Clock, is_stopped: Callable[[], bool]) -> AsyncIterator[str]:
    """Yields Server-Sent Events from that place on, until the process is told to stop."""
    here = place
    while not is_stopped():
        for here, line in await lines_after(here, clock.now()):  # noqa: B020 - the reader's place moves on
            shown = {"at": line["at"], "text": line["text"]}
            if "goal_id" in line:
                shown["href"] = f"{base}/goals/{line['goal_id']}"
            yield f"id: {here}\nevent: line\ndata: {json.dumps(shown)}\n\n"
        yield ": still here\n\n"
        await asyncio.sleep(EVERY_SECONDS)


def open_tails(state: State) -> set[object]:
    """Returns the tails that this app serves at the moment."""
    if not hasattr(state, "console_tails"):
        state.console_tails = set()
    tails: set[object] = state.console_tails
    return tails
