"""Readiness: MongoDB takes a transaction and Redis a write; if not, why, in one line each."""

import asyncio
from collections.abc import Awaitable

from pymongo.errors import OperationFailure, ServerSelectionTimeoutError
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, BusyLoadingError, OutOfMemoryError, ReadOnlyError

from goalsvc.models.database import TRANSACTIONS_MISSING, Database
from goalsvc.models.server_errors import UNAUTHORIZED

#: Readiness is asked for every few seconds; it must not hang where a database does.
_PATIENCE_SECONDS = 2.0

_ILLEGAL_OPERATION, _AUTHENTICATION_FAILED = 20, 18


async def mongodb_state(database: Database) -> str:
    """Returns `ok`, or why no transaction can be committed."""
    return await _state(database.commits())


async def redis_state(redis: Redis) -> str:
    """Returns `ok`, or why nothing can be written."""
    return await _state(redis.set("goalsvc:ready", "1", ex=60))


async def _state(question: Awaitable[object]) -> str:
    asked = asyncio.ensure_future(question)
    await asyncio.wait([asked], timeout=_PATIENCE_SECONDS)
    if not asked.done():
        # Not waited for: to abort a transaction takes as long as the server hangs.
        asked.cancel()
        asked.add_done_callback(_forget)
        return reason_of(TimeoutError())
    error = asked.exception()
    return "ok" if error is None else reason_of(error)


def _forget(asked: "asyncio.Future[object]") -> None:
    """Takes the error of a question whose answer came too late."""
    if not asked.cancelled():
        asked.exception()


def reason_of(error: BaseException) -> str:
    """Returns what an error of MongoDB or Redis means for readiness."""
    match error:
        case ReadOnlyError():
            return "is a read-only replica"
        case BusyLoadingError():
            return "loads its data"
        case OutOfMemoryError():
            return "full (maxmemory is reached: jobs in it are run, new ones wait for the sweep)"
        case AuthenticationError():
            return "refuses the credentials"
        case OperationFailure(code=code) if code == _ILLEGAL_OPERATION:
            return TRANSACTIONS_MISSING
        case OperationFailure(code=code) if code in (UNAUTHORIZED, _AUTHENTICATION_FAILED):
            return "refuses the credentials"
        case ServerSelectionTimeoutError() if "No primary" in str(error):
            return "has no primary"
        case _:
            return f"unreachable ({type(error).__name__})"
