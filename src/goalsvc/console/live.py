"""The live tail: roots of the trace and attempts of deliveries as they are written, one line each.

They are Server-Sent Events that resume without a gap.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from starlette.datastructures import State

from goalsvc.clock import Clock
from goalsvc.console.queries.overview import latest_roots
from goalsvc.console.rendering import clock_text
from goalsvc.domain.call import Scope
from goalsvc.models.trace_roots import SETTLES, Place, roots_after
from goalsvc.models.webhooks import tried_after

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
    DELIVERY = "delivery"

    @property
    def plural(self) -> str:
        """What a page calls it."""
        return {Kind.ALL: "all", Kind.DELIVERY: "deliveries"}.get(self, f"{self.value}s")

    @property
    def root(self) -> str | None:
        """The kind of the roots; None for all."""
        return None if self is Kind.ALL else self.value


@dataclass(frozen=True, slots=True)
class View:
    """What one reader sees: a kind, and deliveries only with the scope that the API requires for them."""

    kind: Kind = Kind.ALL
    scopes: frozenset[Scope] = frozenset()

    @property
    def kinds(self) -> list[Kind]:
        """The kinds that this reader may choose."""
        return [kind for kind in Kind if kind is not Kind.DELIVERY or Scope.ADMIN in self.scopes]

    @property
    def roots(self) -> bool:
        """Whether it has roots of the trace."""
        return self.kind is not Kind.DELIVERY

    @property
    def deliveries(self) -> bool:
        """Whether it has deliveries."""
        return self.kind in (Kind.ALL, Kind.DELIVERY) and Scope.ADMIN in self.scopes


Lines = list[tuple[Place, Mapping[str, str]]]


async def lines_after(place: Place, now: datetime, view: View) -> Lines:
    """Returns what follows that place, oldest first. Roots and attempts of the last second are left for the next call."""
    roots, attempts = await asyncio.gather(
        roots_after(place, now, _MOST_AT_ONCE, kind=view.kind.root) if view.roots else _nothing(),
        tried_after(place.at, place.segment, now - SETTLES, _MOST_AT_ONCE) if view.deliveries else _nothing(),
    )
    lines = [(there, line_of(row)) for there, row in roots]
    lines += [(Place(row["tried_at"], str(row["_id"])), line_of_delivery(row)) for row in attempts]
    # Each list is whole up to its last row, so what is cut off here is read by the next call.
    return sorted(lines, key=_order)[:_MOST_AT_ONCE]


async def latest_lines(since: datetime, now: datetime, view: View, most: int) -> Lines:
    """Returns at most so many of the latest lines since an instant, latest first."""
    roots, attempts = await asyncio.gather(
        latest_roots(since, view.kind.root) if view.roots else _nothing(),
        tried_after(since, "", now, most, latest_first=True) if view.deliveries else _nothing(),
    )
    lines = [(Place(row["at"], str(row["_id"])), line_of(row)) for row in roots]
    lines += [(Place(row["tried_at"], str(row["_id"])), line_of_delivery(row)) for row in attempts]
    return sorted(lines, key=_order, reverse=True)[:most]


async def _nothing() -> list[Any]:
    return []


def _order(line: tuple[Place, Mapping[str, str]]) -> tuple[datetime, str]:
    return line[0].at, line[0].segment


def line_of_delivery(delivery: Mapping[str, Any]) -> Mapping[str, str]:
    """Returns the last attempt of a delivery as a line: the event's type, the endpoint, its answer, the next attempt."""
    attempts, again = delivery.get("attempts") or [{}], delivery.get("next_at")
    last = attempts[-1]
    words = [f"delivery {delivery.get('type')} to {delivery.get('endpoint_id')}", str(delivery.get("state"))]
    words.append(f"{last.get('status') or last.get('error')}, {last.get('ms', 0):.0f} ms")
    words += [f"again at {clock_text(again.replace(microsecond=0))}"] if isinstance(again, datetime) else []
    path = f"/events/{quote(str(delivery.get('event_id')), safe='')}"
    return {"at": clock_text(delivery["tried_at"]), "text": ", ".join(words), "path": path}


def line_of(segment: Mapping[str, Any]) -> Mapping[str, str]:
    """Returns a root as a line: when, what, and the page of the goal that it is about."""
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
    return {**line, "path": f"/goals/{goal_id}"} if goal_id else line


async def follow(
    place: Place, base: str, clock: Clock, is_stopped: Callable[[], bool], view: View
) -> AsyncIterator[str]:
    """Yields Server-Sent Events from that place on, until the process is told to stop."""
    here = place
    while not is_stopped():
        for here, line in await lines_after(here, clock.now(), view):  # noqa: B020 - the reader's place moves on
            shown = {"at": line["at"], "text": line["text"]}
            if "path" in line:
                shown["href"] = base + line["path"]
            yield f"id: {here}\nevent: line\ndata: {json.dumps(shown)}\n\n"
        yield ": still here\n\n"
        await asyncio.sleep(EVERY_SECONDS)


def open_tails(state: State) -> set[object]:
    """Returns the tails that this app serves at the moment."""
    if not hasattr(state, "console_tails"):
        state.console_tails = set()
    tails: set[object] = state.console_tails
    return tails
