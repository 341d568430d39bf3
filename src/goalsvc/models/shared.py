"""Documents that are read leniently, and read and changed by `_id` in round trips shared with concurrent requests."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from beanie import Document
from beanie.odm.utils.parsing import parse_obj
from bson import ObjectId, encode
from pydantic import BaseModel, ModelWrapValidatorHandler, PrivateAttr, ValidationError, model_validator
from pymongo import ASCENDING, DESCENDING, ReturnDocument, UpdateOne, WriteConcern
from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError

from goalsvc.coalescer import Coalescer
from goalsvc.database_session import DatabaseSession
from goalsvc.domain.documents import Query, RawDocument, Update
from goalsvc.domain.reading import read_leniently
from goalsvc.errors import UnusableDocumentError
from goalsvc.models.healing import healing
from goalsvc.models.inserting import NOT_ENCODED
from goalsvc.models.server_errors import failures_of, is_durable

log = logging.getLogger(__name__)


#: The primary has it, and no caller waits until it is on disk.
_SOON = WriteConcern(w=1, j=False)


@dataclass(frozen=True, slots=True)
class _Write:
    where: Query
    update: Update
    upsert: bool
    wants_document: bool


@dataclass(slots=True)
class _Asked:
    document_id: object
    write: _Write | None
    answer: "asyncio.Future[RawDocument | None]"


class SharedCollection:
    """One collection, read and changed by `_id`."""

    def __init__(self, collection: Any, model: object) -> None:
        self.collection, self._model = collection, model
        # Apart, for a write waits for the disk as a rule, and the others do not.
        self._reads = Coalescer("shared reads", self._read, _refuse)
        self._writes = Coalescer("shared writes", partial(self._write, collection), _refuse)
        soon = collection.with_options(write_concern=_SOON)
        self._writes_soon = Coalescer("shared writes soon", partial(self._write, soon), _refuse)

    async def read(self, document_id: object) -> RawDocument | None:
        """The document of that id."""
        return await _ask(self._reads, document_id, None)

    async def change(
        self,
        document_id: object,
        where: Query,
        update: Update,
        *,
        upsert: bool = False,
        wants_document: bool = True,
        lasting: bool = True,
    ) -> RawDocument | None:
        """Changes that document if the filter holds for it; the document as it then stands, changed or not.

        With `upsert` one that is missing is made. None when there is none, or none is wanted. Not `lasting` is what a crash
        of the database may undo, because it is done again then: no caller waits until it is on disk.
        """
        write = _Write({"_id": document_id, **where}, update, upsert, wants_document)
        writes = self._writes if lasting else self._writes_soon
        return await healing(self._model, document_id, lambda: _ask(writes, document_id, write))

    async def _read(self, batch: Sequence[_Asked]) -> None:
        found = await self._documents([asked.document_id for asked in batch])
        for asked in batch:
            _answer(asked, found.get(asked.document_id))

    async def _write(self, collection: Any, batch: Sequence[_Asked]) -> None:
        writes = [asked.write for asked in batch if asked.write is not None]
        if len(batch) == 1:
            _answer(batch[0], await self._write_alone(collection, batch[0].document_id, writes[0]))
            return
        refused: dict[int, PyMongoError] = {}
        try:
            ones = [UpdateOne(write.where, write.update, upsert=write.upsert) for write in writes]
            await collection.bulk_write(ones, ordered=False)
        except BulkWriteError as error:
            if not is_durable(error):
                raise
            refused = {fault["index"]: BulkWriteError({"writeErrors": [fault]}) for fault in failures_of(error)}
        except NOT_ENCODED:  # nothing was sent
            sendable = [asked for asked in batch if _is_encoded(asked)]
            if len(sendable) == len(batch):
                raise
            if sendable:
                await self._write(collection, sendable)
            return
        wanted = [asked.document_id for asked, write in zip(batch, writes, strict=True) if write.wants_document]
        found = await self._documents(wanted) if wanted else {}
        for number, asked in enumerate(batch):
            if number in refused:
                _refuse(asked, refused[number])
            else:
                _answer(asked, found.get(asked.document_id))

    async def _write_alone(self, collection: Any, document_id: object, write: _Write) -> RawDocument | None:
        changed: RawDocument | None = None
        # One that is to be made but exists already is one for which the filter does not hold.
        with suppress(DuplicateKeyError):
            if not write.wants_document:
                await collection.update_one(write.where, write.update, upsert=write.upsert)
                return None
            changed = await collection.find_one_and_update(
                write.where, write.update, upsert=write.upsert, return_document=ReturnDocument.AFTER
            )
        if changed is not None or not write.wants_document:
            return changed
        return await self.read(document_id)

    async def _documents(self, document_ids: Sequence[object]) -> dict[object, RawDocument]:
        if len(document_ids) == 1:
            found = await self.collection.find_one({"_id": document_ids[0]})
            return {} if found is None else {document_ids[0]: found}
        cursor = self.collection.find({"_id": {"$in": list(set(document_ids))}})
        return {document["_id"]: document for document in await cursor.to_list(None)}


class Lenient(Document):
    """A document that other services may have written: a field that cannot be read is treated as absent.

    All ways to a document lead through its validation: Beanie's queries, `parse`, `model_validate`.
    """

    _identity: ClassVar[type] = ObjectId
    """The type of `_id` in this collection."""
    added_to: ClassVar[tuple[str, ...]] = ()
    """The numbers that writes add to (`goalsvc.models.healing`)."""
    _faults: tuple[str, ...] = PrivateAttr(default=())

    if not TYPE_CHECKING:
        # Not Beanie's, with which Pydantic would enter the validation of each document twice: to call it, and within it.
        __init__ = BaseModel.__init__

    @property
    def faults(self) -> tuple[str, ...]:
        """Each field that was left out because it cannot be read, as `path: rule`."""
        return self._faults

    @model_validator(mode="wrap")
    @classmethod
    def _read_leniently(cls, document: object, validate: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(document, Mapping):
            return validate(document)
        if "_id" in document:
            if not isinstance(document["_id"], cls._identity):
                raise cls._unusable(document, "_id", f"must be of type {cls._identity.__name__}")
            if "id" in document:  # another service's field; ours of that name is `_id`
                document = {name: value for name, value in document.items() if name != "id"}
        try:
            return validate(document)
        except ValidationError:
            pass
        try:
            found, faults = read_leniently(validate, document)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise cls._unusable(document, ".".join(map(str, first["loc"])), first["msg"]) from None
        found._faults = faults
        return found

    @classmethod
    def usable_ids(cls) -> Mapping[str, object]:
        """The filter value for an `_id` of the type that this collection has."""
        return {"$type": "objectId" if cls._identity is ObjectId else "string"}

    @classmethod
    def is_ours(cls, document: Mapping[str, object]) -> bool:
        """Whether the document is of a class of goalsvc; a collection may hold another service's as well."""
        return True

    @classmethod
    def _unusable(cls, document: Mapping[str, object], field: str, rule: str) -> UnusableDocumentError:
        return UnusableDocumentError(f"{cls.get_settings().name}/{document.get('_id')}", field, rule)

    @classmethod
    def parse(cls, document: Mapping[str, object]) -> Self:
        """The document as an object, of the class that it names. Raises UnusableDocumentError."""
        if not cls.is_ours(document):
            raise cls._unusable(document, cls.get_settings().class_id or "_cls", "must name a class of goalsvc")
        return cast(Self, parse_obj(cls, document))

    @classmethod
    async def listed(
        cls,
        where: Mapping[str, object],
        sort: str,
        most: int,
        *,
        descending: bool = False,
        session: DatabaseSession | None = None,
        logged: set[str] | None = None,
    ) -> list[Self]:
        """The first documents that match, in that order; one that cannot be used at all is passed over.

        Such a document still counts towards `most`, so that the caller's cursor moves on. A caller that asks again and again
        passes the set of what was `logged`, so that each fault is logged once.
        """
        direction = DESCENDING if descending else ASCENDING
        cursor = cls.get_motor_collection().find(where, session=session).sort(sort, direction).limit(most)
        found = []
        for document in await cursor.to_list(None):
            try:
                found.append(cls.parse(document))
            except UnusableDocumentError as error:
                if logged is None or error.message not in logged:
                    log.warning("a document is passed over: %s", error.message)
                if logged is not None:
                    logged.add(error.message)
        return found


class Sharing(Lenient):
    """A document whose collection is read and changed together by those who do so at the same time."""

    _shared: ClassVar[tuple[object, SharedCollection] | None] = None

    @classmethod
    def shared(cls) -> SharedCollection:
        """The collection, with the round trips that are under way in this process."""
        collection = cls.get_motor_collection()
        if cls._shared is None or cls._shared[0] is not collection:  # Beanie has been bound to another database
            cls._shared = collection, SharedCollection(collection, cls)
        return cls._shared[1]


async def _ask(trips: Coalescer[_Asked], document_id: object, write: _Write | None) -> RawDocument | None:
    asked = _Asked(document_id, write, asyncio.get_running_loop().create_future())
    trips.take(asked)
    return await asked.answer


def _answer(asked: _Asked, document: RawDocument | None) -> None:
    if not asked.answer.done():  # who asked may have been cancelled
        asked.answer.set_result(document)


def _is_encoded(asked: _Asked) -> bool:
    """Returns whether the driver can encode the write; if not, who asked is told."""
    try:
        encode({"write": [asked.write.where, asked.write.update] if asked.write else []})
    except NOT_ENCODED as error:
        _refuse(asked, error)
        return False
    return True


def _refuse(asked: _Asked, error: Exception) -> None:
    if not asked.answer.done():
        asked.answer.set_exception(error)
