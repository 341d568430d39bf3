"""Fakes of the services that goalsvc calls, in memory: each keeps what it was asked for, and refuses when it is told to."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from goalsvc.context import Telling
from goalsvc.domain.clips import Clip
from goalsvc.domain.documents import Stored
from goalsvc.errors import ClipImpossibleError, ExternalServiceError, GoalsvcError, RetryableError
from goalsvc.integrations.pusher import checked_channel, encode_notice, hundreds
from goalsvc.integrations.rtc import checked_id
from goalsvc.scratch import working_directory


class Refusals:
    """A number of calls to come that fail as the real service would. Fakes inherit from it."""

    service = "fake"

    def __init__(self) -> None:
        self._refusals_left = 0

    def refuse(self, times: int = 1) -> None:
        """Makes the next `times` calls raise ExternalServiceError; later ones succeed again."""
        self._refusals_left = times

    def _refuse_if_told(self) -> None:
        if self._refusals_left > 0:
            self._refusals_left -= 1
            raise ExternalServiceError(self.service, "refused, as it was told to")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What is stored under a key."""

    content: bytes
    content_type: str


class MemoryStore(Refusals):
    """Stands in for S3: keeps objects in memory."""

    service = "s3"

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, StoredObject] = {}

    async def upload(self, key: str, path: Path, content_type: str) -> None:
        """Keeps the file's bytes under `key`; the same key again replaces them."""
        self._refuse_if_told()
        content = await asyncio.to_thread(path.read_bytes)
        self.objects[key] = StoredObject(content, content_type)

    async def link(self, key: str, seconds: int) -> str:
        """An address that names the object."""
        self._refuse_if_told()
        return f"https://s3.invalid/{key}?expires={seconds}"


@dataclass(frozen=True, slots=True)
class RtcCall:
    """One call as BytePlus would have got it."""

    action: str
    room_id: str
    task_id: str


class RecordedRtc(Refusals):
    """Stands in for BytePlus: keeps what it was told, in order, and which recordings run."""

    service = "byteplus"

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[RtcCall] = []
        self.recording: set[tuple[str, str]] = set()

    async def start_record(self, room_id: str, task_id: str) -> None:
        """Keeps the call; (room, task) is in `recording` from now on."""
        self._keep("StartRecord", room_id, task_id)
        self.recording.add((room_id, task_id))

    async def stop_record(self, room_id: str, task_id: str) -> None:
        """Keeps the call; (room, task) is in `recording` no more."""
        self._keep("StopRecord", room_id, task_id)
        self.recording.discard((room_id, task_id))

    async def start_snapshot(self, room_id: str, task_id: str) -> None:
        """Keeps the call."""
        self._keep("StartSnapshot", room_id, task_id)

    def _keep(self, action: str, room_id: str, task_id: str) -> None:
        checked_id("room_id", room_id)
        checked_id("task_id", task_id)
        self._refuse_if_told()
        self.calls.append(RtcCall(action, room_id, task_id))


@dataclass(frozen=True, slots=True)
class Notice:
    """One event as clients would have received it."""

    channels: tuple[str, ...]
    event: str
    data: Stored


Trigger = Callable[[Sequence[str], str, Mapping[str, object]], Awaitable[None]]


async def each_singly(trigger: Trigger, tellings: Sequence[Telling]) -> dict[int, GoalsvcError]:
    """Does what `Notifier.trigger_each` does by one call for each, one after another."""
    refused: dict[int, GoalsvcError] = {}
    for place, telling in enumerate(tellings):
        try:
            await trigger([telling.channel], telling.event, telling.data)
        except RetryableError:
            raise
        except GoalsvcError as error:
            refused[place] = error
    return refused


class RecordedNotifier(Refusals):
    """Stands in for Pusher: keeps what it was told, in order, and who it was told is where."""

    service = "pusher"

    def __init__(self) -> None:
        super().__init__()
        self.notices: list[Notice] = []
        self.users: dict[str, list[str]] = {}
        self.counts = True

    async def trigger(self, channels: Sequence[str], event: str, data: Mapping[str, object]) -> None:
        """Keeps one Notice for each call that Pusher would have got; refuses what Pusher would refuse."""
        encoded = encode_notice(channels, event, data)
        for hundred in hundreds(channels):
            self._refuse_if_told()
            self.notices.append(Notice(tuple(hundred), event, json.loads(encoded)))

    async def trigger_each(self, tellings: Sequence[Telling]) -> Mapping[int, GoalsvcError]:
        """Hands over each by `trigger`, one after another."""
        return await each_singly(self.trigger, tellings)

    async def users_in(self, channel: str) -> list[str]:
        """Those that a test put into `users`."""
        checked_channel(channel)
        self._refuse_if_told()
        return list(self.users.get(channel, []))

    async def occupied(self, prefix: str) -> dict[str, int] | None:
        """How many users a test put into each channel; None while it says that the server does not count."""
        self._refuse_if_told()
        if not self.counts:
            return None
        return {name: len(users) for name, users in self.users.items() if users and name.startswith(prefix)}

    def named(self, event: str) -> list[Notice]:
        """The notices with that event's name, in order."""
        return [notice for notice in self.notices if notice.event == event]


@dataclass(frozen=True, slots=True)
class Cut:
    """A clip that was asked for."""

    hls_url: str
    begins_at: datetime
    duration_seconds: float
    latest_begin: datetime | None = None


class RecordedCutter(Refusals):
    """Stands in for ffmpeg: keeps what it was asked for, in order, and yields a tiny file.

    `troubles` are errors that the next calls raise, in order, NotYetError for example; then calls succeed.
    """

    service = "hls"

    def __init__(self, content: bytes = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp42") -> None:
        super().__init__()
        self.content = content
        self.cuts: list[Cut] = []
        self.troubles: list[GoalsvcError] = []
        self.late_seconds = 0.0
        """How much later than wanted the clips begin."""

    @asynccontextmanager
    async def cut(
        self, hls_url: str, begins_at: datetime, duration_seconds: float, *, latest_begin: datetime | None = None
    ) -> AsyncIterator[Clip]:
        """Yields a file of `content`, which is deleted on leaving; it begins and lasts as wanted."""
        self.cuts.append(Cut(hls_url, begins_at, duration_seconds, latest_begin))
        self._refuse_if_told()
        if self.troubles:
            raise self.troubles.pop(0)
        if not hls_url.startswith(("http://", "https://")):
            raise ClipImpossibleError("the stream's address must be an http or https URL")
        with working_directory("clip") as directory:
            clip = directory / "clip.mp4"
            begins = begins_at.astimezone(UTC) + timedelta(seconds=self.late_seconds)
            clip.write_bytes(self.content)
            yield Clip(clip, begins, duration_seconds, "program_date_time")
