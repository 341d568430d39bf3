"""Promises and jobs: work that a document says must still be done, and one run of it in the queue.

The document holds the promise; the job in Redis is only a hint.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId
from pydantic import BaseModel, ConfigDict

from goalsvc.domain.documents import RawDocument
from goalsvc.domain.origin import NOWHERE, Origin
from goalsvc.domain.reading import Instant, Name, Text, WholePart

#: The collections with promises whose `_id` is an ObjectId.
BY_OBJECT_ID = frozenset({"goals", "sessions"})


class Promise(BaseModel):
    """A task that this document owes, with its arguments, since `at` (or not before, when that is in the future)."""

    model_config = ConfigDict(frozen=True)

    id: Name
    task: Name
    arguments: dict[str, Any]
    at: Instant
    parent: Text | None = None
    """Where in the trace the follow-up was made (`Origin.parent`)."""
    cause: object = None
    """What the follow-up goes back to (`Cause.document`)."""
    progress: WholePart | None = None
    """The goal's progress right after this promise's amount was added; absent until it is."""
    closed: bool = False
    """Whether the announcement of contributions that this promises has begun: later ones are another promise."""

    @classmethod
    def of(cls, promise_id: str, task: str, arguments: Mapping[str, object], at: datetime, origin: Origin) -> "Promise":
        """A promise that is made now; of our own making, so that nothing in it is to be validated."""
        return cls.model_construct(
            id=promise_id,
            task=task,
            arguments=dict(arguments),
            at=at,
            parent=origin.parent,
            cause=origin.cause.document(),
        )

    @property
    def origin(self) -> Origin:
        """Where the follow-up was made, and what it goes back to."""
        return Origin.read(self.parent, self.cause)

    def document(self) -> RawDocument:
        """The promise as a document holds it."""
        return {
            "id": self.id,
            "task": self.task,
            "arguments": self.arguments,
            "at": self.at,
            "parent": self.parent,
            "cause": self.cause,
        }


@dataclass(frozen=True, slots=True)
class PromiseRef:
    """Where a promise is kept; as text `goals/68143584d6945d32e732cc21/{promise id}`."""

    collection: str
    document_id: object
    promise_id: str

    def __str__(self) -> str:
        return f"{self.collection}/{self.document_id}/{self.promise_id}"

    @classmethod
    def parse(cls, text: str) -> "PromiseRef":
        """The reference written as that text."""
        collection, document_id, promise_id = text.split("/", 2)
        # Ids of users are texts, also one of 24 hexadecimal digits.
        by_object_id = collection in BY_OBJECT_ID and ObjectId.is_valid(document_id)
        return cls(collection, ObjectId(document_id) if by_object_id else document_id, promise_id)


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a task that is to be. While a job of the same id waits it is not taken; while one runs, it is run after it."""

    id: str
    task: str
    arguments: Mapping[str, Any]
    due_at: datetime | None = None
    promise: str | None = None
    """The promise on whose behalf it is run (`goalsvc.models.promise.PromiseRef` as text)."""
    fulfils: bool = True
    """Whether that promise is fulfilled when this job is done; not, when the job is one of many."""
    origin: Origin = NOWHERE
    """Where in the trace it belongs, and what it goes back to."""
    then: Sequence[Mapping[str, Any]] = ()
    """The rest of its chain: `{"task", "arguments"}` of each step that follows when this one is done."""
