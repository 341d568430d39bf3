"""The documents of a story in another driver's hand: written so before each of goalsvc's turns, and read back after it.

`save_all` is that other service: it reads every document that others may write and saves it again, with every whole number,
every field that has no value and every map as its driver writes them. What another process has changed meanwhile is left, as
by a service that compares versions. `InTheHandOf` wraps a turn of a story. `clock` and `promises` are goalsvc's own, and stay.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event
from typing import Any

import bson
from bson import CodecOptions, Decimal128, Int64
from bson.codec_options import DatetimeConversion
from pymongo import MongoClient, ReplaceOne
from pymongo.database import Database

from tests.support.documents import WRITERS, Document

OURS = frozenset({"_id", "_cls", "clock", "promises"})
#: Fields that need not be there, as dotted paths (`*`: each item): what some drivers write as null, others as the zero time.
OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "goals": (
        "exp", "triggerer", "breakdown_id", "begin_by",
        "context.started", "context.paused", "context.last_updated",
        "conditions.exclusive_to", "conditions.trigger_goal_id", "metadata.viewer_id", "metadata.funding_goal_id",
    ),
    "sessions": (
        "karaoke_goal", "statuses.ended", "status.exclusive_to", "rtc.room_id", "rtc.record_task_id",
        "show_goal_pairs.*.show_started", "show_goal_pairs.*.show_ended",
        "exclusive_goal_pairs.*.trigger_goal", "exclusive_goal_pairs.*.exclusive_goal_started",
        "exclusive_goal_pairs.*.exclusive_goal_ended", "viewers.*.exp", "viewers.*.duration",
    ),
    "users": ("last_seen", "erased_at", "byteplus.hls_url"),
    "earnings": ("settled_at", "state"),
}  # fmt: skip
#: A service with a closed schema: it knows what the contract names, and drops every other field on saving, for good.
CLOSED = "a closed schema"
CONTRACT: Mapping[str, frozenset[str]] = {
    "goals": frozenset(
        {"active", "progress", "levels", "conditions", "context", "metadata", "breakdown_id", "exp", "triggerer"}
        | {"promises", "clock"}
    ),
    "sessions": frozenset(
        {"user_id", "statuses", "status", "show_goal_pairs", "exclusive_goal_pairs", "viewers", "karaoke_goal", "rtc"}
        | {"promises"}
    ),
    "users": frozenset({"username", "tags", "online", "last_seen", "byteplus", "promises"}),
    "earnings": frozenset({"user_id", "from_user_id", "amount", "created_at"}),
}
#: Maps, of which an empty one is an empty array in PHP.
MAPS = frozenset({"context", "conditions", "viewers", "exclusive_goal_pairs", "status", "rtc", "byteplus"})
EXTRA: Document = {"kept_by_theirs": {"deep": [1, None, {"a": Decimal128("1.5")}]}, "__v": 0}

#: How long the other service rests.
_EVERY_SECONDS = 0.1

Change = Callable[[str, Document], Document]


def written_by(writer: str) -> Change:
    """Returns how that driver writes a document of a collection."""

    def write(collection: str, document: Document) -> Document:
        if writer == CLOSED:
            known = CONTRACT[collection] | {"_id", "_cls"}
            return {
                name: value for name, value in document.items() if name in known or name.startswith("_show_funding:")
            }
        changed = {name: value for name, value in document.items() if name not in OURS}
        for path in OPTIONAL[collection]:
            changed = _with_null(changed, path.split("."))
        changed = WRITERS[writer](changed) | EXTRA
        if writer == "Doctrine":
            changed |= {name: [] for name, value in changed.items() if name in MAPS and value == {}}
            changed = dict(reversed(changed.items()))
        return {**changed, **{name: value for name, value in document.items() if name in OURS}}

    return write


def _with_null(value: Any, path: list[str]) -> Any:
    """That value with a null at the path, where the path is not taken and what it leads through is there."""
    step, rest = path[0], path[1:]
    if step == "*":
        if isinstance(value, list):
            return [_with_null(item, rest) for item in value]
        return {name: _with_null(item, rest) for name, item in value.items()} if isinstance(value, Mapping) else value
    if not isinstance(value, Mapping) or (rest and step not in value):
        return value
    return {**value, step: _with_null(value[step], rest) if rest else value.get(step)}


def save_all(database: Database[Document], change: Change) -> Counter[str]:
    """Saves each document as `change` writes it, unless it was changed meanwhile; how many were saved, by collection."""
    saved: Counter[str] = Counter()
    exact: CodecOptions[Document] = CodecOptions(
        tz_aware=True, tzinfo=UTC, datetime_conversion=DatetimeConversion.DATETIME_AUTO
    )
    for name in OPTIONAL:
        collection = database[name].with_options(exact)
        pairs = [(document, change(name, document)) for document in collection.find()]
        changes = [
            ReplaceOne({"_id": old["_id"], "$expr": {"$eq": ["$$ROOT", {"$literal": old}]}}, new)
            for old, new in pairs
            if bson.encode(new) != bson.encode(old)
        ]
        if changes:
            saved[name] = collection.bulk_write(changes, ordered=False).matched_count
    return saved


def _plain(value: Any, name: str = "") -> Any:
    if isinstance(value, Mapping):
        kept = {key: _plain(item, key) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item is not None and key not in EXTRA}
    if isinstance(value, list):
        return {} if name in MAPS and not value else [_plain(item) for item in value]
    if isinstance(value, Decimal128):
        value = value.to_decimal()
    if isinstance(value, datetime):
        return None if value.replace(tzinfo=UTC) == datetime(1, 1, 1, tzinfo=UTC) else value
    is_number = isinstance(value, Int64 | float) or type(value).__name__ == "Decimal"
    return int(value) if is_number and value == int(value) else value


class InTheHandOf:
    """Wraps goalsvc's turns; turns that overlap are wrapped together."""

    def __init__(self, database: Database[Document], writer: str) -> None:
        self._database, self._write = database, written_by(writer)
        self._turns = 0
        self.saved: Counter[str] = Counter()
        """How often that driver saved a document, by collection."""

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """One turn."""
        self._turns += 1
        if self._turns == 1:
            self.saved += save_all(self._database, self._write)
        try:
            yield
        finally:
            self._turns -= 1
            if not self._turns:
                save_all(self._database, lambda _, document: _plain(document))


class TheirService:
    """Another service: a thread that saves every document again and again, beside a goalsvc that works meanwhile."""

    def __init__(self, mongodb_url: str, writer: str) -> None:
        self._url, self._write = mongodb_url, written_by(writer)
        self._over = Event()
        self.saved: Counter[str] = Counter()
        """How often it saved a document, by collection."""

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Saves until the end of the block, where it raises what it met."""
        with ThreadPoolExecutor(1) as threads:
            running = threads.submit(self._run)
            try:
                yield
            finally:
                self._over.set()
            running.result()

    def _run(self) -> None:
        with MongoClient[Document](self._url) as client:
            while not self._over.wait(_EVERY_SECONDS):
                self.saved += save_all(client.get_default_database(), self._write)
