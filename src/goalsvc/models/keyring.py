"""The API keys, held in memory and kept fresh: by a change stream, and by reading them all now and then."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Protocol

from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from goalsvc.clock import Clock
from goalsvc.domain.call import Caller
from goalsvc.models.api_key import MARK, ApiKey, key_digest

log = logging.getLogger(__name__)

#: How often all keys are read anew, whatever the change stream says.
POLL_SECONDS = 5.0
#: How often the change stream is asked. One that waits for a change is woken by each write of the whole database: measured, a
#: twentieth of MongoDB's time for each process that had one.
_LOOK_SECONDS = 0.25
#: `last_used_at` is written at most this often for each key and process.
NOTED_EVERY = timedelta(seconds=60)
#: How many keys that are not in memory are looked for in the database in one second; a flood of wrong keys costs no more.
LOOKUPS_PER_SECOND = 20


class _Changes(Protocol):
    """An open change stream."""

    async def try_next(self) -> object:
        """Returns the next change, or None when there is none by now."""


class Keyring:
    """Every key that is not revoked, by its SHA-256."""

    def __init__(self, clock: Clock, poll_seconds: float = POLL_SECONDS) -> None:
        self._clock, self._poll_seconds = clock, poll_seconds
        self._keys: dict[str, ApiKey] = {}
        self._noting: set[asyncio.Task[None]] = set()
        self._logged: set[str] = set()
        self._lookups = 0
        self._second = 0

    @asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator["Keyring"]:
        """Reads the keys, and follows their changes until it is left."""
        await self.refresh()
        following = [asyncio.create_task(self._poll(), name="keys: poll")]
        following.append(asyncio.create_task(self._follow(), name="keys: change stream"))
        try:
            yield self
        finally:
            for task in (*following, *self._noting):
                task.cancel()
            await asyncio.gather(*following, *self._noting, return_exceptions=True)

    async def refresh(self) -> None:
        """Reads all keys anew; a revoked one is gone when this returns."""
        self._keys = {key.sha256: key for key in await ApiKey.all_valid(self._logged)}

    async def caller_of(self, given: str) -> Caller | None:
        """Who calls with that key; None when there is no such key, or it is revoked or expired."""
        if not given.startswith(MARK):
            return None
        digest = key_digest(given)
        key = self._keys.get(digest)
        if key is None and self._may_look_up():
            key = await ApiKey.by_digest(digest)  # created by another process a moment ago
            if key is not None and key.revoked_at is None:
                self._keys[digest] = key
        now = self._clock.now()
        if key is None or not key.valid_at(now):
            return None
        self._note(key)
        return key.caller

    def _may_look_up(self) -> bool:
        second = int(self._clock.now().timestamp())
        if second != self._second:
            self._second, self._lookups = second, 0
        self._lookups += 1
        return self._lookups <= LOOKUPS_PER_SECOND

    def _note(self, key: ApiKey) -> None:
        now, noted = self._clock.now(), key.last_used_at
        if noted is not None and now - noted < NOTED_EVERY:
            return
        key.last_used_at = now
        task = asyncio.create_task(self._write_use(key.id), name=f"key {key.id} used")
        self._noting.add(task)
        task.add_done_callback(self._noting.discard)

    async def _write_use(self, key_id: str) -> None:
        with suppress(PyMongoError):  # the next use tries again
            await ApiKey.used(key_id, self._clock.now())

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_seconds)
            try:
                await self.refresh()
            except PyMongoError as error:
                log.warning("API keys could not be read: %s; those in memory are used", type(error).__name__)

    async def _follow(self) -> None:
        while True:
            try:
                keys = ApiKey.get_motor_collection().with_options(read_concern=ReadConcern("majority"))
                # The server has no change stream of another read concern; a question does not wait for a change.
                async with keys.watch(max_await_time_ms=1) as changes:
                    await changes.try_next()  # the stream begins with its first question; what is older is read now
                    stale = True
                    while True:
                        if stale:
                            await self.refresh()
                        await asyncio.sleep(_LOOK_SECONDS)
                        stale = await _is_changed(changes)
            except PyMongoError as error:
                log.debug("API keys are polled: no change stream (%s)", error)
            await asyncio.sleep(self._poll_seconds)


async def _is_changed(changes: _Changes) -> bool:
    """Reads what the stream has by now; whether any key is another one than before."""
    changed = False
    while (change := await changes.try_next()) is not None:
        changed = changed or not _only_a_use(change)
    return changed


def _only_a_use(change: object) -> bool:
    """Whether a change is no more than a note of a key's last use."""
    if not isinstance(change, dict):
        return False
    updated = (change.get("updateDescription") or {}).get("updatedFields")
    return isinstance(updated, dict) and set(updated) == {"last_used_at"}
