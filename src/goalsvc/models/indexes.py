"""Indexes: those that are missing are made; one with the same keys under another name is accepted as it is.

`goalsvc migrate` makes them all. A process that starts makes only those of small collections, where it takes no time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymongo import ASCENDING, IndexModel
from pymongo.errors import OperationFailure

from goalsvc.domain.documents import Query
from goalsvc.models.server_errors import UNAUTHORIZED

#: Indexes of earlier versions that later ones replaced. They cost each write, and only goalsvc gave them these names.
RETIRED: Mapping[str, Sequence[str]] = {
    "dead_letters": ("at",),
    "deliveries": ("endpoint",),
    "goals": ("expiry", "exclusive_to", "session", "performer", "promises"),
    "presence_notices": ("promises",),
    "sessions": ("promises", "open"),
    "users": ("promises",),
    "withdrawals": ("user",),
}
#: An index of a collection with at most so many documents is made by any process that finds it missing.
SMALL = 10_000
#: The name of our own indexes by which MongoDB drops old documents.
END = "end"

_NOT_FOUND = frozenset({26, 27})
_CONFLICTS = frozenset({85, 86})

Keys = tuple[tuple[str, object], ...]


@dataclass(frozen=True, slots=True)
class Ending:
    """When MongoDB drops the documents of a collection: so many days after the date in `field`; 0: never."""

    field: str
    days: int

    @property
    def keys(self) -> Keys:
        """The keys of the index."""
        return ((self.field, ASCENDING),)

    @property
    def seconds(self) -> int:
        """The age at which a document is dropped."""
        return self.days * 86_400


@dataclass(frozen=True, slots=True)
class Wanted:
    """The indexes of a collection."""

    collection: str
    indexes: Sequence[IndexModel]
    ending: Ending | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """What a collection lacks."""

    collection: str
    indexes: Sequence[IndexModel]
    ending: Ending | None
    retired: Sequence[str] = ()
    """Indexes that are there and no longer wanted."""

    def __bool__(self) -> bool:
        return bool(self.indexes) or self.ending is not None

    @property
    def names(self) -> list[str]:
        """The names of the indexes, with the collection's."""
        own = [str(index.document["name"]) for index in self.indexes] + ([END] if self.ending is not None else [])
        return [f"{self.collection}.{name}" for name in own]

    @property
    def decides(self) -> bool:
        """Whether one of them keeps two documents from being the same: nothing may be written without it."""
        return any(index.document.get("unique") for index in self.indexes)


async def what_is_missing(database: Any, wanted: Wanted) -> Missing:
    """Returns the collection's missing indexes, and its time to live where that has another value."""
    known = await _known(database[wanted.collection])
    retired = [name for name in RETIRED.get(wanted.collection, ()) if name in known]
    keys = {_keys_of(index) for name, index in known.items() if name not in retired}
    lacking = [index for index in wanted.indexes if _keys(index.document["key"]) not in keys]
    ending = wanted.ending
    return Missing(wanted.collection, lacking, None if ending is None or _ends_so(known, ending) else ending, retired)


async def is_small(database: Any, collection: str) -> bool:
    """Returns whether an index of the collection is made at once."""
    return bool(await database[collection].estimated_document_count() <= SMALL)


async def make(database: Any, wanted: Wanted) -> list[str]:
    """Makes what is missing and drops what is retired. Returns the names of what was made or changed."""
    collection = database[wanted.collection]
    missing = await what_is_missing(database, wanted)
    known = await _known(collection)
    for name in missing.retired:
        await _drop(collection, name)
    for index in missing.indexes:
        document = index.document
        if document["name"] in known:  # other keys have that name
            document = {name: value for name, value in document.items() if name != "name"}
            index = IndexModel(list(document.pop("key").items()), **document)
        try:
            await collection.create_indexes([index])
        except OperationFailure as error:
            if error.code not in _CONFLICTS:  # another process, or another service, has made it meanwhile
                raise
    if missing.ending is not None:
        await _let_end(database, collection, missing.ending, await _known(collection))
    return missing.names


async def _known(collection: Any) -> dict[str, dict[str, object]]:
    try:
        known: dict[str, dict[str, object]] = await collection.index_information()
    except OperationFailure as error:
        if error.code not in _NOT_FOUND:
            raise
        return {}
    return known


def _ends_so(known: Mapping[str, Mapping[str, object]], ending: Ending) -> bool:
    same = [index for index in known.values() if _keys_of(index) == ending.keys]
    if not ending.days:
        return not any("expireAfterSeconds" in index for index in same)
    return any(index.get("expireAfterSeconds") == ending.seconds for index in same)


async def _let_end(database: Any, collection: Any, ending: Ending, known: Mapping[str, Mapping[str, object]]) -> None:
    """Makes the index by which MongoDB drops old documents, changes its time, or drops it."""
    name = next((name for name, index in known.items() if _keys_of(index) == ending.keys), None)
    if not ending.days:
        if name is not None:
            await _drop(collection, name)
        return
    index = IndexModel([(ending.field, ASCENDING)], name=END, expireAfterSeconds=ending.seconds)
    if name is None:
        await collection.create_indexes([index])
        return
    change = {"name": name, "expireAfterSeconds": ending.seconds}
    try:
        await database.command({"collMod": collection.name, "index": change})
    except OperationFailure as error:
        if error.code != UNAUTHORIZED:
            raise
        await _drop(collection, name)  # `collMod` is not in the role readWrite
        await collection.create_indexes([index])


def _keys_of(index: Query) -> Keys:
    return tuple((str(name), _int_of(order)) for name, order in index["key"])


def _keys(key: Mapping[str, object]) -> Keys:
    return tuple((name, _int_of(order)) for name, order in key.items())


def _int_of(order: object) -> object:
    """The order of a key: another service's driver may have written 1.0 for 1."""
    return int(order) if isinstance(order, float) else order


async def _drop(collection: Any, name: str) -> None:
    try:
        await collection.drop_index(name)
    except OperationFailure as error:
        if error.code not in _NOT_FOUND:  # another process was faster
            raise
