"""Error codes of MongoDB that more than one module asks for, and which failures of a bulk of writes count."""

from collections.abc import Sequence

from pymongo.errors import BulkWriteError

from goalsvc.domain.documents import Stored

#: The user may not do that.
UNAUTHORIZED = 13
_DUPLICATE_KEY = 11000


def failures_of(error: BulkWriteError) -> Sequence[Stored]:
    """Returns the writes that failed, without those whose document already exists: they were written before."""
    return [fault for fault in (error.details or {}).get("writeErrors", ()) if fault.get("code") != _DUPLICATE_KEY]


def is_durable(error: BulkWriteError) -> bool:
    """Returns whether all that was written outlives the loss of the primary, as far as the server answered."""
    return not (error.details or {}).get("writeConcernErrors")
