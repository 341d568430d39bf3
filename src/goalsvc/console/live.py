"""The live tail: roots of the trace as they are written, one line each, as Server-Sent Events that resume without a gap."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from starlette.datastructures import State

from goalsvc.clock import Clock
from goalsvc.console.rendering import clock_text
from goalsvc.models.trace_roots import Place, roots_after

EVERY_SECONDS = 1.0
_MOST_AT_ONCE = 200
#: Each open tail asks once a second; a process serves no more than this.
MOST_TAILS = 20


class Kind(StrEnum):
    """What a tail shows."""

    ALL = "all"
    WEBHOOK = "webhook"
    CALL = "call"
    TASK = "task"

    @property
    def root(self) -> str | None:
        """The kind of the roots; None for all."""
        return None if self is Kind.ALL else self.value


async def lines_after(place: Place, now: datetime, kind: Kind) -> list[tuple[Place, Mapping[str, str]]]:
    """Returns what follows that place, oldest first."""
    return [(there, line_of(row)) for there, row in await roots_after(place, now, _MOST_AT_ONCE, kind=kind.root)]


def line_of(segment: Mapping[str, Any]) -> Mapping[str, str]:
    """Returns a root as a line: when, what, and the goal that it is about."""
    node = segment.get("node") or {}
    words = [str(node.get("kind", "")), str(node.get("name", ""))]
    words += [str(node[name]) for name in ("channel", "user_id") if node.get(name)]
    refs = node.get("refs") or {}
    if node.get("kind") == "call":
        words += [str(refs[name]) + unit for name, unit in (("user", ""), ("amount", " tokens")) if refs.get(name)]
        words += [f"by {node['key']}"] if node.get("key") else []
    outcome = str(node.get("outcome", ""))
    words.append(outcome if not node.get("reason") else f"{outcome}: {node['reason']}")
    line = {"at": clock_text(segment["at"]), "text": " ".join(words)}
    goal_id = segment.get("goal_id")
    return {**line, "goal_id": str(goal_id)} if goal_id else line


async def follow(
    place: Place, base: str, clock: Clock, is_stopped: Callable[[], bool], kind: Kind = Kind.ALL
) -> AsyncIterator[str]:
    """Yields Server-Sent Events from that place on, until the process is told to stop."""
    here = place
    while not is_stopped():
        for here, line in await lines_after(here, clock.now(), kind):  # noqa: B020 - the reader's place moves on
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
