"""Inserting documents together: one that cannot be stored takes no other with it."""

from collections.abc import Mapping, Sequence
from typing import Any

from bson.errors import BSONError
from pymongo.errors import BulkWriteError, OperationFailure

from goalsvc.errors import UnusableDocumentError
from goalsvc.models.healing import is_about_a_document
from goalsvc.models.server_errors import failures_of, is_durable

#: What the driver raises for a document that it cannot encode, such as a text with half a surrogate, or that is too large.
NOT_ENCODED = (BSONError, ValueError, TypeError, OverflowError, RecursionError)
#: A document for which the server refuses the whole command: Overflow (nested too deeply), InvalidBSON.
_OF_A_COMMAND = frozenset({15, 22})


async def insert_each(collection: Any, documents: Sequence[Mapping[str, object]]) -> dict[int, UnusableDocumentError]:
    """Inserts those of these documents that are not there yet, in one round trip as a rule.

    Returns those that cannot be stored, by their places in the sequence. Raises PyMongoError when the database cannot be
    reached or takes no document.
    """
    try:
        await collection.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        if not is_durable(error):
            raise
        failed = [(int(fault["index"]), fault.get("errmsg")) for fault in failures_of(error)]
        return {number: _unusable(collection, documents[number], why) for number, why in failed}
    except (OperationFailure, *NOT_ENCODED) as error:
        if isinstance(error, OperationFailure) and not (error.code in _OF_A_COMMAND or is_about_a_document(error)):
            raise
        if len(documents) == 1:
            return {0: _unusable(collection, documents[0], error)}
        half = len(documents) // 2
        faults = await insert_each(collection, documents[:half])
        return faults | {half + n: fault for n, fault in (await insert_each(collection, documents[half:])).items()}
    return {}


def _unusable(collection: Any, document: Mapping[str, object], why: object) -> UnusableDocumentError:
    rule = f"cannot be stored ({str(why)[:300]})"
    return UnusableDocumentError(f"{collection.name}/{document.get('_id')}", "document", rule)
