"""Documents that a periodic task handles one by one: a fault of one stops none of the others."""

import logging
from collections.abc import Awaitable
from typing import TypeVar

from goalsvc.errors import GoalsvcError
from goalsvc.models.healing import concerns_one_document

log = logging.getLogger(__name__)

T = TypeVar("T")

#: The faults that were logged last, by what was not done: one that goes on is logged once.
_LOGGED: dict[str, str] = {}
_MOST_LOGGED = 1_000


async def by_itself(what: str, work: Awaitable[T], faults: list[Exception] | None = None) -> T | None:
    """Returns what the work on one document gives; None when it fails, which is logged once for as long as it goes on so.

    `what` says what is then not done, with the document's place; `faults` takes the error. An error that concerns all
    documents is raised.
    """
    try:
        found = await work
    except Exception as error:
        if not concerns_one_document(error):
            raise
        if faults is not None:
            faults.append(error)
        fault = f"{type(error).__name__}: {error}"
        if _LOGGED.get(what) != fault:
            while len(_LOGGED) >= _MOST_LOGGED:
                del _LOGGED[next(iter(_LOGGED))]
            _LOGGED[what] = fault
            log.warning("%s: %s", what, fault, exc_info=not isinstance(error, GoalsvcError))
        return None
    _LOGGED.pop(what, None)
    return found
