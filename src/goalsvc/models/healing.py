"""Healing: what keeps a write from its place is removed, and the write is tried once more.

MongoDB refuses to set `a.b` where `a` is `null` or a text, to push to what is not an array, to add to what is not a number.
For readers such a value is absent; here it becomes absent, by one conditional write, only when a write has met it.
"""

import types
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError

from goalsvc.domain.reading import dotted, whole_part
from goalsvc.errors import ExternalServiceError, UnusableDocumentError

T = TypeVar("T")
Path = tuple[str, ...]

#: BadValue, FailedToParse, TypeMismatch, PathNotViable, DollarPrefixedFieldName, EmptyFieldName, BSONObjectTooLarge …
_ABOUT_A_DOCUMENT = frozenset({2, 9, 14, 28, 52, 56, 57, 10334})
#: … and the errors of expressions and of documents that would become too large.
_OF_EXPRESSIONS = range(16_000, 100_000)


def is_about_a_document(error: OperationFailure) -> bool:
    """Whether a write failed for what the document holds, and not for the state of the server."""
    codes = {error.code}
    if isinstance(error, BulkWriteError):
        codes = {fault.get("code") for fault in (error.details or {}).get("writeErrors", [])}
    return bool(codes) and all(code in _ABOUT_A_DOCUMENT or code in _OF_EXPRESSIONS for code in codes)


def concerns_one_document(error: Exception) -> bool:
    """Returns whether something failed for one document, and not because the database or another service does not answer."""
    if isinstance(error, OperationFailure):
        return is_about_a_document(error)
    return not isinstance(error, (PyMongoError, ExternalServiceError, OSError))


async def healing(model: Any, document_id: object, write: Callable[[], Awaitable[T]]) -> T:
    """Returns what `write()` does; when a value in that document was in its way, that value is removed and it is tried again.

    Raises UnusableDocumentError when the document refuses the write nevertheless.
    """
    for healed in (False, True):
        try:
            return await write()
        except OperationFailure as error:
            if not is_about_a_document(error):
                raise
            if healed or not await heal(model, document_id):
                where = f"{model.get_settings().name}/{document_id}"
                raise UnusableDocumentError(where, "document", f"refuses a change ({_told(error)})") from error
    raise AssertionError("unreachable")


def _told(error: OperationFailure) -> str:
    details = error.details or {}
    first = next(iter(details.get("writeErrors", [])), details)
    return str(first.get("errmsg", error))[:300]


async def heal(model: Any, document_id: object) -> bool:
    """Removes what is in the way of writes to that document; whether there was anything.

    `model.added_to` names the numbers that writes add to. Each value goes only if it is still the one that was read.
    """
    collection = model.get_motor_collection()
    document = await collection.find_one({"_id": document_id})
    if document is None:
        return False
    obstacles = list(_obstacles(model, document, ()))
    for path, value in obstacles:
        name = dotted(path)
        await collection.update_one({"_id": document_id, name: {"$eq": value}}, {"$unset": {name: True}})
    return bool(obstacles)


def _obstacles(model: type[BaseModel], document: Mapping[str, object], within: Path) -> Iterator[tuple[Path, object]]:
    """Each value that stands where writes need a subdocument, an array or a number."""
    for name, field in model.model_fields.items():
        name = field.alias or name
        if name in document:
            yield from _of_value(field.annotation, document[name], (*within, name))
    for name in getattr(model, "added_to", ()):
        if name in document and whole_part(document[name]) is None:
            yield (*within, name), document[name]


def _of_value(annotation: object, value: object, path: Path) -> Iterator[tuple[Path, object]]:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        annotation = next(each for each in get_args(annotation) if each is not type(None))
        origin = get_origin(annotation)
    if origin is list:
        if not isinstance(value, list):
            yield path, value
    elif origin is dict:
        if not isinstance(value, Mapping):
            yield path, value
        else:
            inner = get_args(annotation)[1]
            for key, item in value.items():
                yield from _of_value(inner, item, (*path, key))
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not isinstance(value, Mapping):
            yield path, value
        else:
            yield from _obstacles(annotation, value, path)
