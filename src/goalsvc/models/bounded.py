"""Queries that are bounded in time and number, for pages and operations that look at documents as they are stored."""

from typing import Any

from goalsvc.database_session import DatabaseSession
from goalsvc.models.goal import Goal

#: No page and no operation waits longer for one of these queries.
MOST_MILLISECONDS = 3_000


def collection(name: str) -> Any:
    """Returns a collection of the database that the documents are bound to."""
    return Goal.get_motor_collection().database[name]


async def rows(
    name: str, where: object, *, sort: object = None, limit: int = 200, fields: object = None
) -> list[dict[str, Any]]:
    """Returns documents as they are stored. Raises PyMongoError, also when the database takes too long."""
    cursor = collection(name).find(where, fields).max_time_ms(MOST_MILLISECONDS)
    if sort is not None:
        cursor = cursor.sort(sort)
    found: list[dict[str, object]] = await cursor.limit(limit).to_list(limit)
    return found


async def total(
    name: str, pipeline: list[dict[str, Any]], session: DatabaseSession | None = None
) -> list[dict[str, Any]]:
    """Returns the rows of an aggregation over an indexed match."""
    cursor = collection(name).aggregate(pipeline, maxTimeMS=MOST_MILLISECONDS, session=session)
    found: list[dict[str, object]] = await cursor.to_list(None)
    return found
