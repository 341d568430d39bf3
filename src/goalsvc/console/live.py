"""The live tail: roots of the trace and attempts of deliveries as they are committed, one line each.

They are Server-Sent Events whose ids are MongoDB's resume tokens: a browser that comes back misses none.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from time import monotonic
from typing import Any
from urllib.parse import quote

from goalsvc.clock import to_epoch_milliseconds
from goalsvc.console.queries.overview import latest_roots
from goalsvc.console.rendering import clock_text
from goalsvc.console.tails import Gap, Stopping, Tail
from goalsvc.domain.call import Scope
from goalsvc.models.changes import Change
from goalsvc.models.webhooks import latest_tried

#: How often a tail says that it is there, and looks whether its reader still may read.
BEAT_SECONDS = 10.0


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

    def shows(self, change: Change) -> bool:
        """Whether it has what this change is about."""
        if change.collection == "deliveries":
            return self.deliveries
        kind = ((change.document or {}).get("node") or {}).get("kind")
        return self.roots and self.kind.root in (None, kind)


Line = Mapping[str, str]


async def latest_lines(since: datetime, view: View, most: int) -> list[Line]:
    """Returns at most so many of the latest lines since an instant, latest first."""
    roots, attempts = await asyncio.gather(
        latest_roots(since, view.kind.root) if view.roots else _nothing(),
        latest_tried(since, most) if view.deliveries else _nothing(),
    )
    lines = [(row["at"], str(row["_id"]), line_of(row)) for row in roots]
    lines += [(row["tried_at"], str(row["_id"]), line_of_delivery(row)) for row in attempts]
    return [line for *_, line in sorted(lines, key=lambda one: one[:2], reverse=True)[:most]]


async def _nothing() -> list[Any]:
    return []


def line_of_delivery(delivery: Mapping[str, Any]) -> Line:
    """Returns the last attempt of a delivery as a line: the event's type, the endpoint, its answer, the next attempt."""
    attempts, again = delivery.get("attempts") or [{}], delivery.get("next_at")
    last = attempts[-1]
    words = [f"delivery {delivery.get('type')} to {delivery.get('endpoint_id')}", str(delivery.get("state"))]
    words.append(f"{last.get('status') or last.get('error')}, {last.get('ms', 0):.0f} ms")
    words += [f"again at {clock_text(again.replace(microsecond=0))}"] if isinstance(again, datetime) else []
    path = f"/events/{quote(str(delivery.get('event_id')), safe='')}"
    at = delivery.get("tried_at")
    identity = f"{delivery['_id']}/{to_epoch_milliseconds(at) if isinstance(at, datetime) else 0}"
    return {"id": identity, "at": clock_text(at), "text": ", ".join(words), "path": path}


def line_of(segment: Mapping[str, Any]) -> Line:
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
    line = {"id": str(segment["_id"]), "at": clock_text(segment["at"]), "text": " ".join(words)}
    goal_id = segment.get("goal_id")
    return {**line, "path": f"/goals/{goal_id}"} if goal_id else line


async def follow(
    tail: Tail,
    view: View,
    base: str,
    stopping: Stopping,
    may_read: Callable[[], Awaitable[bool]],
    *,
    beat_seconds: float = BEAT_SECONDS,
) -> AsyncGenerator[str, None]:
    """Yields Server-Sent Events until the process is told to stop, or its reader may not read any more, or is too slow.

    A line is `line`, with its `id`; where lines are missing, `gap`. Between them the place alone is told now and then, so that
    a browser that comes back after a long silence asks for what is still kept.
    """
    yield ": following\n\n"
    looked_at = monotonic()
    while not stopping.stopped and not tail.behind:
        change = await stopping.unless_stopped(tail.next(beat_seconds))
        if isinstance(change, Gap):
            yield f"id: {change.place}\nevent: gap\ndata: {{}}\n\n"
        elif change is not None and view.shows(change):
            yield _event(change, base)
        elif change is None:
            yield f"id: {tail.seen}\n: still here\n\n"
        if monotonic() - looked_at >= beat_seconds:
            looked_at = monotonic()
            if not await may_read():
                return


def _event(change: Change, base: str) -> str:
    document = change.document or {}
    line = line_of_delivery(document) if change.collection == "deliveries" else line_of(document)
    shown = {name: line[name] for name in ("id", "at", "text")}
    if "path" in line:
        shown["href"] = base + line["path"]
    return f"id: {change.place}\nevent: line\ndata: {json.dumps(shown)}\n\n"
