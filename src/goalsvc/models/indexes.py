"""Indexes: those that are missing are made; one with the same keys under another name is accepted as it is."""

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo import IndexModel
from pymongo.errors import OperationFailure

#: Indexes of earlier versions that later ones replaced. They cost each write, and only goalsvc gave them these names.
RETIRED: Mapping[str, Sequence[str]] = {
    "goals": ("expiry", "exclusive_to", "session", "performer", "promises"),
    "sessions": ("promises", "open"),
    "users": ("promises",),
}

_NOT_FOUND = frozenset({26, 27})
_CONFLICTS = frozenset({85, 86})


async def ensure_indexes(collection: Any, wanted: Sequence[IndexModel]) -> None:
    """Makes those of the wanted indexes whose keys no index of the collection has."""
    try:
        known = await collection.index_information()
    except OperationFailure as error:
        if error.code not in _NOT_FOUND:
            raise
        known = {}
    keys = {tuple((str(name), int_of(order)) for name, order in index["key"]) for index in known.values()}
    for name in RETIRED.get(collection.name, ()):
        if name in known:
            await _drop(collection, name)
            keys.discard(tuple((str(field), int_of(order)) for field, order in known[name]["key"]))
    for index in wanted:
        document = index.document
        if tuple((name, int_of(order)) for name, order in document["key"].items()) in keys:
            continue
        if document["name"] in known:  # other keys have that name
            document = {name: value for name, value in document.items() if name != "name"}
            index = IndexModel(list(document.pop("key").items()), **document)
        try:
            await collection.create_indexes([index])
        except OperationFailure as error:
            if error.code not in _CONFLICTS:  # another process, or another service, has made it meanwhile
                raise


def int_of(order: object) -> object:
    """The order of a key: another service's driver may have written 1.0 for 1."""
    return int(order) if isinstance(order, float) else order


async def _drop(collection: Any, name: str) -> None:
    try:
        await collection.drop_index(name)
    except OperationFailure as error:
        if error.code not in _NOT_FOUND:  # another process was faster
            raise
