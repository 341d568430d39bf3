"""Where an effect comes from: the node of the trace that made it necessary, and the webhook or call behind it.

An origin is handed down as a value: by the webhook or the call to the bus, by the bus to each receiver, by a promise and its
job to the task. Effects that last (transfers, assets, events, …) store its cause in their own document.
"""

import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from datetime import datetime
from hashlib import blake2b
from typing import Self

from bson import ObjectId

from goalsvc.domain.documents import RawDocument

#: W3C Trace Context, version 00; ids of zeros alone are not valid.
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

#: The sender part of the place of a task in the trace, where a receiver's place has the sender of its signal.
TASK = "task"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """What an effect goes back to: an event of a webhook, a call of the API, or a periodic task. Absent fields are None."""

    goal_id: str | None = None
    event_id: str | None = None
    """The webhook's event."""
    call: str | None = None
    """The API operation."""
    key: str | None = None
    """The name of the API key; never the key."""
    request_id: str | None = None
    task: str | None = None
    """The periodic task."""
    happened_at: datetime | None = None
    root: str | None = None
    """The id of the trace's root: the segment of that webhook, call or run."""
    traceparent: str | None = None
    """The span of the caller below which that root belongs (W3C Trace Context)."""

    @property
    def trace_id(self) -> str:
        """The id of the trace, 32 hexadecimal digits; empty where there is no trace.

        It is the caller's own, if the call came with a `traceparent`; else the root's id behind zeros.
        """
        if self.traceparent is not None:
            return self.traceparent[3:35]
        return f"{self.root:0>32}" if self.root else ""

    def document(self) -> RawDocument:
        """The cause as a document stores it; without the fields that are absent."""
        return {name: value for name in _FIELDS if (value := getattr(self, name)) is not None}

    @classmethod
    def read(cls, value: object) -> Self:
        """The cause that a document or a job holds; a field that is missing or of another type is absent."""
        if not isinstance(value, Mapping):
            return cls()
        texts = {name: found for name in _TEXTS if isinstance(found := value.get(name), str)}
        happened_at = value.get("happened_at")
        return cls(**texts, happened_at=happened_at if isinstance(happened_at, datetime) else None)

    def about(self, goal_id: str) -> Self:
        """The same cause, of an effect on that goal; a cause that names a goal already keeps it."""
        return self if self.goal_id is not None else replace(self, goal_id=goal_id)


_FIELDS = tuple(field.name for field in fields(Cause))
_TEXTS = tuple(name for name in _FIELDS if name != "happened_at")

NO_CAUSE = Cause()


@dataclass(frozen=True, slots=True)
class Origin:
    """A place in the trace, and the cause of everything below it."""

    segment: str = ""
    """The segment's id; empty where there is no trace."""
    place: str = ""
    """`{sender}/{receiver}` or `task/{task}` within the segment; empty at its root."""
    cause: Cause = NO_CAUSE

    @classmethod
    def new(cls, cause: Cause = NO_CAUSE, place: str = "") -> Self:
        """A place in a segment that begins now."""
        segment = str(ObjectId())
        return cls(segment, place, replace(cause, root=segment))

    @classmethod
    def read(cls, parent: object, cause: object) -> Self:
        """The origin that a document or a job holds as a text and a cause; unreadable parts are empty."""
        segment, _, place = parent.partition("#") if isinstance(parent, str) else ("", "", "")
        return cls(segment, place, Cause.read(cause))

    @property
    def parent(self) -> str:
        """The place as a text, `{segment}#{place}`; empty where there is no trace."""
        return f"{self.segment}#{self.place}" if self.segment else ""

    @property
    def traceparent(self) -> str:
        """The span of the place as `traceparent` names it; empty where there is no trace."""
        if not self.segment or not self.cause.trace_id:
            return ""
        flags = self.cause.traceparent[-2:] if self.cause.traceparent is not None else "01"
        return f"00-{self.cause.trace_id}-{span_id(self.segment, self.place)}-{flags}"

    def at(self, sender: str, receiver: str) -> "Origin":
        """Another place in the same segment, with the same cause."""
        return Origin(self.segment, f"{sender}/{receiver}", self.cause)

    def of_task(self, name: str) -> "Origin":
        """The place of that task in a segment of its own, which begins now; with the same cause."""
        segment = str(ObjectId())
        cause = self.cause if self.cause.root is not None else replace(self.cause, root=segment)
        return Origin(segment, f"{TASK}/{name}", cause)


def span_id(segment: str, place: str) -> str:
    """The id of the span of a place, 16 hexadecimal digits."""
    return blake2b(f"{segment}#{place}".encode(), digest_size=8).hexdigest()


def accepted_traceparent(given: str | None) -> str | None:
    """The value of a `traceparent` header, if it is a valid one of version 00."""
    return given if given is not None and _TRACEPARENT.fullmatch(given) else None


NOWHERE = Origin()

#: The task, or the delivery, that is being done at this moment; the headers of outgoing calls say so (decision 0075).
CURRENT: ContextVar[Origin] = ContextVar("goalsvc_origin", default=NOWHERE)
