"""Transactions that a killed process left open: they are ended, so that no other process waits for them.

MongoDB keeps such a transaction, and every document that it wrote, for `transactionLifetimeLimitSeconds` (60 s by default,
up to 90 s until it looks). One that was killed in the middle of a deposit would stop every deposit for so long. A transaction
of a process that works makes its next call within milliseconds. One that made none for `IDLE_SECONDS` belongs to a process
that is gone or stands still: if it only stood still, its next call is refused and the whole transaction is run again.
"""

import logging
from typing import Any

from pymongo.errors import PyMongoError

log = logging.getLogger(__name__)

#: The name under which goalsvc's processes are known to MongoDB; transactions of others are left alone.
APP_NAME = "goalsvc"
#: A transaction that made no call for so long is ended.
IDLE_SECONDS = 2.0

#: Open transactions of this user that no call is using. Without `allUsers` this asks for no privilege.
_IDLE: list[dict[str, object]] = [
    {"$currentOp": {"allUsers": False, "idleSessions": True}},
    {
        "$match": {
            "appName": APP_NAME,
            "type": "idleSession",
            "transaction.timeInactiveMicros": {"$gte": IDLE_SECONDS * 1_000_000},
        }
    },
    {"$project": {"lsid.id": 1}},
]


async def end_abandoned(client: Any) -> int:
    """Ends the transactions that processes of goalsvc left open; how many. Raises PyMongoError when MongoDB does not let it."""
    sessions = [found["lsid"] async for found in client.admin.aggregate(_IDLE) if "lsid" in found]
    if sessions:
        await client.admin.command({"killSessions": [{"id": session["id"]} for session in sessions]})
        log.warning("%d transactions of a process that is gone were ended", len(sessions))
    return len(sessions)


class Abandoned:
    """Looks for abandoned transactions when a transaction is held up, at most once per `IDLE_SECONDS / 2`."""

    def __init__(self, client: object) -> None:
        self._client = client
        self._next_look = 0.0
        self._refused = False

    async def end(self, now: float) -> None:
        """Ends them, unless that was just tried. `now`: the loop's time, in seconds. Never raises."""
        if now < self._next_look:
            return
        self._next_look = now + IDLE_SECONDS / 2
        try:
            await end_abandoned(self._client)
        except PyMongoError as error:
            if not self._refused:
                log.warning("abandoned transactions cannot be ended: %s", error)
            self._refused = True
