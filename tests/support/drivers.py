"""The documents of a story in another driver's hand: written so before each of goalsvc's turns, and read back after it.

`InTheHandOf` wraps a turn: what goalsvc finds is what another service has saved again, with every whole number, every field
that has no value and every map as that service's driver writes them. `clock` and `promises` are goalsvc's own, and stay.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import bson
from bson import Decimal128, Int64
from pymongo import ReplaceOne
from pymongo.database import Database

from tests.support.documents import WRITERS, Document

OURS = frozenset({"_id", "_cls", "clock", "promises"})
#: Fields that need not be there: what some drivers write as null, others as the zero time.
OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "goals": ("exp", "triggerer", "breakdown_id"),
    "sessions": ("karaoke_goal",),
    "earnings": ("settled_at",),
}
#: Maps, of which an empty one is an empty array in PHP.
MAPS = frozenset({"context", "conditions", "viewers", "exclusive_goal_pairs", "status", "rtc"})
EXTRA: Document = {"theirs": {"deep": [1, None, {"a": Decimal128("1.5")}]}, "__v": 0}


def _written(writer: str, collection: str, document: Document) -> Document:
    missing = dict.fromkeys(name for name in OPTIONAL[collection] if name not in document)
    changed = {name: value for name, value in {**document, **missing}.items() if name not in OURS}
    changed = WRITERS[writer](changed) | EXTRA
    if writer == "Doctrine":
        changed |= {name: [] for name, value in changed.items() if name in MAPS and value == {}}
        changed = dict(reversed(changed.items()))
    return {**changed, **{name: value for name, value in document.items() if name in OURS}}


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
        self._database, self._writer = database, writer
        self._turns = 0
        self.saved: Counter[str] = Counter()
        """How often that driver saved a document, by collection."""

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """One turn."""
        self._turns += 1
        if self._turns == 1:
            self.saved += self._replace_all(lambda name, document: _written(self._writer, name, document))
        try:
            yield
        finally:
            self._turns -= 1
            if not self._turns:
                self._replace_all(lambda _, document: _plain(document))

    def _replace_all(self, change: Callable[[str, Document], Document]) -> Counter[str]:
        replaced: Counter[str] = Counter()
        for name in OPTIONAL:
            collection = self._database[name]
            pairs = [(document, change(name, document)) for document in collection.find()]
            changes = [
                ReplaceOne({"_id": new["_id"]}, new) for old, new in pairs if bson.encode(new) != bson.encode(old)
            ]
            if changes:
                collection.bulk_write(changes, ordered=False)
            replaced[name] = len(changes)
        return replaced
