"""Reading traces: a page of a goal's trees, complete, with what is still to come named by a cursor."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from pymongo import ASCENDING

from goalsvc.domain.documents import RawDocument, Stored
from goalsvc.domain.trace import Node, assemble
from goalsvc.errors import InvalidError
from goalsvc.models.records import TraceSegment

#: How many segments one page reads at most; a root with more goes on on the next page.
MOST_SEGMENTS = 2000
#: How far up a node's causes are looked for where they belong to another goal's trace.
_HIGHEST = 12

_ORDER = [("root", ASCENDING), ("at", ASCENDING), ("_id", ASCENDING)]


@dataclass(frozen=True, slots=True)
class TraceCursor:
    """The last segment of a page; as a text it is opaque to callers."""

    root: str | None
    at: datetime
    segment: str

    def __str__(self) -> str:
        parts = [self.root, self.at.isoformat(), self.segment]
        return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The cursor that this text is; raises InvalidError."""
        try:
            root, at, segment = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            if not isinstance(segment, str) or not isinstance(root, str | None):
                raise ValueError
            return cls(root, datetime.fromisoformat(at), segment)
        except (ValueError, TypeError, RecursionError):
            raise InvalidError("cursor", "is not one that this list gave out") from None

    @classmethod
    def of(cls, segment: Stored) -> Self:
        """The cursor behind that segment."""
        return cls(segment.get("root"), segment["at"], str(segment["_id"]))

    @property
    def rest(self) -> dict[str, object]:
        """The filter of what comes after it."""
        later_root: dict[str, object] = {"root": {"$ne": None} if self.root is None else {"$gt": self.root}}
        same = {"root": self.root}
        later = {**same, "at": {"$gt": self.at}}
        return {"$or": [later_root, later, {**same, "at": self.at, "_id": {"$gt": self.segment}}]}


@dataclass(frozen=True, slots=True)
class TracePage:
    """Trees of a trace. `truncated`: the last root goes on on the next page, where it is repeated with the rest."""

    events: Sequence[Node]
    next: TraceCursor | None
    truncated: bool


async def read_page(goal_id: str, cursor: TraceCursor | None, roots: int, segments: int = MOST_SEGMENTS) -> TracePage:
    """A page of the goal's trace: at most that many roots, and that many segments."""
    where: RawDocument = {"goal_id": goal_id, **(cursor.rest if cursor is not None else {})}
    found = await TraceSegment.get_motor_collection().find(where).sort(_ORDER).limit(segments + 1).to_list(None)
    kept, more = found[:segments], len(found) > segments
    within = _of_first_roots(kept, roots)
    more, kept = more or len(within) < len(kept), within
    truncated = more and len(within) < len(found) and _root_of(found[len(within)]) == _root_of(within[-1])
    ancestors = await _ancestors_of(kept)
    for segment in ancestors:
        if segment.get("goal_id") == goal_id:  # shown on another page already; here for what hangs below it
            segment["node"]["repeated"] = True
    return TracePage(assemble([*ancestors, *kept]), TraceCursor.of(kept[-1]) if more else None, truncated)


def _root_of(segment: Stored) -> str:
    root = segment.get("root")
    return str(segment["_id"] if root is None else root)


def _of_first_roots(segments: Sequence[Any], roots: int) -> list[Any]:
    seen: set[str] = set()
    kept = []
    for segment in segments:
        seen.add(_root_of(segment))
        if len(seen) > roots:
            break
        kept.append(segment)
    return kept


async def _ancestors_of(segments: Sequence[Stored]) -> list[Any]:
    """The segments of other pages, or of other traces, that these ones hang below."""
    known = {str(segment["_id"]) for segment in segments}
    waiting: Sequence[Mapping[str, object]] = segments
    ancestors: list[object] = []
    for _ in range(_HIGHEST):
        parents = {str(segment["parent"]).partition("#")[0] for segment in waiting if segment.get("parent")} - known
        if not parents:
            break
        waiting = await TraceSegment.get_motor_collection().find({"_id": {"$in": sorted(parents)}}).to_list(None)
        known |= parents
        ancestors += waiting
    return ancestors


async def summary_of(goal_id: str) -> dict[str, int]:
    """How many nodes the goal's whole trace has, how many of them made a transfer, and how many failed."""
    totals: dict[str, Any] = {
        name: {"$sum": {"$ifNull": [f"$counts.{name}", least]}}
        for name, least in (("nodes", 1), ("transfers", 0), ("failures", 0))
    }
    pipeline = [{"$match": {"goal_id": goal_id}}, {"$group": {"_id": None, **totals}}]
    found = await TraceSegment.get_motor_collection().aggregate(pipeline).to_list(None)
    return {name: int(found[0][name]) if found else 0 for name in totals}
