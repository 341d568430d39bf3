"""The database in memory does what a real mongod does: the same histories leave the same documents."""

from collections.abc import Mapping
from typing import Any

import pytest
from bson import CodecOptions, encode
from pymongo import ASCENDING, MongoClient

from .history import play
from .invariants import violations_of
from .machine import Document
from .memory import UNIQUE, has_key_between
from .simulation import Simulation


class _Unindexed:
    """A real collection. Where an index is named it is imitated: it would change the order of what is found."""

    def __init__(self, collection: Any) -> None:
        self._collection = collection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    def find(self, where: Any, projection: Any = None, *, hint: Any = None, **more: Any) -> Any:
        if hint is None:
            return self._collection.find(where, projection, **more)
        first, end = more.pop("min"), more.pop("max")
        found = self._collection.find(where, projection, **more)
        return [document for document in found if has_key_between(document, first, end)]


class RealDatabase:
    """A real mongod behind the interface of the simulated one; slower by far.

    A database of its own, without the indexes that other tests make: these change the order of what is found.
    """

    def __init__(self, client: MongoClient[Document]) -> None:
        self._client = client
        client.drop_database("simulated")
        self._database = client.get_database("simulated", CodecOptions(tz_aware=True))
        for name, fields in UNIQUE.items():
            self._database[name].create_index([(field, ASCENDING) for field in fields], unique=True, sparse=True)
        self._seen: dict[tuple[str, Any], tuple[bytes, Document]] = {}

    def __getitem__(self, name: str) -> Any:
        return _Unindexed(self._database[name])

    def begin(self) -> Any:
        session = self._client.start_session()
        session.start_transaction()
        return session

    def commit(self, session: Any) -> None:
        session.commit_transaction()

    def abort(self, session: Any) -> None:
        session.abort_transaction()

    def peek(self, name: str) -> Mapping[Any, Document]:
        found = {}
        for document in self._database[name].find():
            known, content = self._seen.get((name, document["_id"])), encode(document)
            if known is None or known[0] != content:
                known = self._seen[name, document["_id"]] = (content, document)
            found[document["_id"]] = known[1]
        return found

    def clear(self) -> None:
        for name in self._database.list_collection_names():
            self._database[name].delete_many({})

    def saved(self) -> Mapping[str, Mapping[Any, Document]]:
        return {name: dict(self.peek(name)) for name in self._database.list_collection_names()}

    def restore(self, saved: Mapping[str, Mapping[Any, Document]]) -> None:
        self.clear()
        for name, documents in saved.items():
            if documents:
                self._database[name].insert_many(documents.values())

    def contents(self) -> dict[str, list[Document]]:
        names = sorted(self._database.list_collection_names())
        return {name: found for name in names if (found := list(self._database[name].find()))}


@pytest.mark.real
@pytest.mark.usefixtures("silence")
@pytest.mark.parametrize("seed", [0, 2, 11, 13])
def test_the_same_history_leaves_the_same_documents(seed: int, documents: MongoClient[Document]) -> None:
    in_memory = Simulation(seed)
    play(in_memory)
    real = Simulation(seed, inside=RealDatabase(documents))
    play(real)
    assert violations_of(real) == violations_of(in_memory) == []
    assert real.figures == in_memory.figures
    assert comparable(real) == comparable(in_memory)


def comparable(simulation: Simulation) -> dict[str, list[Document]]:
    """All documents in the order of their ids, without the server's own time, which is simulated in memory only."""
    contents = simulation.inside.contents()
    for record in contents.get("idempotency_keys", []):
        del record["used_at"]
    return {name: sorted(held, key=lambda document: str(document["_id"])) for name, held in contents.items()}
