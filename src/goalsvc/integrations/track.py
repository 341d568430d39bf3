"""A media playlist that is followed: what has left its window stays known, and what was fetched stays on disk."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from pathlib import Path

from goalsvc.errors import ClipImpossibleError, ExternalServiceError
from goalsvc.integrations.continuity import jumps, seconds_between, timestamp_of_packed_audio, unwrapped
from goalsvc.integrations.ffmpeg import probe
from goalsvc.integrations.hls import MasterPlaylist, MediaPlaylist, Resource, Segment, dated_on, on_one_clock
from goalsvc.integrations.origin import Origin, container_of

#: How often a segment is asked for before it counts as lost.
TRIES = 3
_HEADS = 6
_MOST_JUMPS = 5
#: A segment cannot begin later than now; so much the clocks may differ.
_AHEAD_SECONDS = 1.0


class DatedBy(StrEnum):
    """What the dates of a stream's seconds rest on."""

    PROGRAM_DATE_TIME = "program_date_time"
    LAST_MODIFIED = "last_modified"
    LAG = "lag"
    """The end of the playlist, less `GOALSVC_HLS_LAG`."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Segments, joined to one local file."""

    path: Path
    container: str


class Track:
    """The segments of one media playlist: all that were seen, each with its date."""

    def __init__(
        self, origin: Origin, url: str, directory: Path, name: str, variables: Mapping[str, str] | None = None
    ) -> None:
        self.ended = False
        self.target_seconds = 0.0
        self.dated_by: DatedBy | None = None
        """What its dates rest on; None while there are none."""
        self.last_error: ExternalServiceError | None = None
        """Why the last segment that counts as lost could not be fetched."""
        self._origin = origin
        self._url = url
        self._variables = dict(variables or {})
        self._directory = directory
        self._name = name
        self._segments: list[Segment] = []
        self._files: dict[int, Path] = {}
        self._headers: dict[Resource, Path] = {}
        self._fetching_header = asyncio.Lock()
        self.on_arrival: Callable[[], None] = _nothing
        """Called when a segment has been fetched."""
        self._failures: dict[int, int] = {}
        self._renumbered = 0

    @property
    def playlist(self) -> MediaPlaylist:
        """All segments that were seen; those that are lost are gaps."""
        return MediaPlaylist(tuple(self._segments), self.target_seconds, self.ended)

    @property
    def is_told(self) -> bool:
        """Whether the playlist gives the dates, so that they are no guess."""
        return self.dated_by is DatedBy.PROGRAM_DATE_TIME

    async def load(self, now: datetime) -> None:
        """Reads the playlist (again) and adds what is new in it. Raises as `Origin.playlist` does."""
        playlist, _ = await self._origin.playlist(self._url, self._variables)
        if isinstance(playlist, MasterPlaylist):
            raise ClipImpossibleError("the stream's playlist names no segments, only further playlists")
        self.add(playlist, now)

    def add(self, playlist: MediaPlaylist, now: datetime) -> None:
        """Adds the segments of a later version of the playlist that are not known yet.

        Dates that are still to come are those of a wrong clock, and count as absent. Where the clock is set right later,
        what it says then holds for all segments.
        """
        self.ended = playlist.ended
        self.target_seconds = playlist.target_duration_seconds
        if not playlist.segments:
            return
        told = list(playlist.segments) if playlist.ended else _in_the_past(playlist.segments, now)
        if not self._segments:
            self._segments = told
            self.dated_by = DatedBy.PROGRAM_DATE_TIME if told[0].begins_at else None
            return
        last = self._segments[-1]
        window = [replace(segment, number=segment.number + self._renumbered) for segment in told]
        if window[-1].number < last.number and all(segment.media.url != last.media.url for segment in window):
            # The origin has begun to count anew: whatever it offers now comes after what it offered before.
            shift = last.number + 1 - window[0].number
            self._renumbered += shift
            window = [
                replace(segment, number=segment.number + shift, run=segment.run + 1, discontinuity=None)
                for segment in window
            ]
        new = [segment for segment in window if segment.number > last.number]
        if not new:
            return
        known = next((segment for segment in window if segment.number == last.number), None)
        if known is not None:
            shift = last.run - known.run
        else:
            # Segments were missed, or the new ones follow immediately; a new header or a break begins a run as well.
            follows = new[0].number == last.number + 1 and new[0].header == last.header and new[0].run == 0
            shift = last.run - new[0].run + (0 if follows else 1)
        if new[0].begins_at is not None and not self.is_told:
            self._forget_dates()  # they were a guess
            self.dated_by = DatedBy.PROGRAM_DATE_TIME
        self._segments = list(on_one_clock([*self._segments, *(replace(one, run=one.run + shift) for one in new)]))

    # -- dates ---------------------------------------------------------------------------------------------------------

    async def date(self, now: datetime, lag_seconds: float) -> None:
        """Gives each segment a date, if it has none yet: by `Last-Modified`, else by the lag."""
        if not self._segments or self.dated_by is not None:
            return
        if (edge := await self._edge_by_last_modified(now)) is not None:
            self._date_back_from(edge)
            self.dated_by = DatedBy.LAST_MODIFIED
        else:
            self._date_back_from(now - timedelta(seconds=lag_seconds))
            self.dated_by = DatedBy.LAG

    def date_like(self, other: "Track") -> None:
        """Gives each segment a date by those of another rendition of the same stream, if the playlist does not."""
        if not self._segments or self.is_told or other.dated_by is None:
            return
        self._forget_dates()
        self.dated_by = other.dated_by if other.dated_by is DatedBy.LAST_MODIFIED else DatedBy.LAG
        dates = {segment.number: segment for segment in other.playlist.segments}
        for index, segment in enumerate(self._segments):
            twin = dates.get(segment.number)
            if twin is not None and abs(twin.duration_seconds - segment.duration_seconds) < 0.5 and twin.begins_at:
                before = sum(earlier.duration_seconds for earlier in self._segments[:index])
                self._date_from(twin.begins_at - timedelta(seconds=before))
                return
        if dates and (edge := other.playlist.segments[-1].ends_at) is not None:
            self._date_back_from(edge)

    def _forget_dates(self) -> None:
        self._segments = [replace(segment, begins_at=None) for segment in self._segments]

    def _date_back_from(self, edge: datetime) -> None:
        self._segments = list(self.playlist.dated(edge).segments)

    def _date_from(self, begins_at: datetime) -> None:
        first, *rest = self._segments
        self._segments = list(dated_on([replace(first, begins_at=begins_at), *rest]))

    async def _edge_by_last_modified(self, now: datetime) -> datetime | None:
        """When the last segment ended, if its file and those before it were written as they were streamed.

        `Last-Modified` has whole seconds; each file narrows down when the stream began.
        """
        total = self.playlist.seconds
        ends: list[float] = []
        position = 0.0
        for segment in self._segments:
            position += segment.duration_seconds
            ends.append(position)
        begins: list[float] = []
        for segment, end in list(zip(self._segments, ends, strict=True))[-_HEADS:]:
            if segment.gap or segment.media.length is not None:
                continue
            written = await self._origin.last_modified(segment.media)
            if written is None:
                return None
            begins.append((written - now).total_seconds() - end)
        if not begins or max(begins) - min(begins) > self.target_seconds + 2.0:
            return None  # copied there later, all at once
        earliest, latest = min(begins), max(begins)
        begin = (earliest + latest + 1.0) / 2 if latest - earliest <= 1.0 else earliest + 0.5
        edge = begin + total
        if edge > 5.0:
            return None
        return now + timedelta(seconds=edge)

    async def settle_clock(self, since: datetime) -> None:
        """Judges jumps of the dates after `since`, where the playlist tells of no discontinuity, by the media's timestamps.

        Where these go on, the clock was behind and was set right: it holds for what was before, too. Where they jump as
        well, seconds are lost, and what follows cannot be joined.
        """
        if not self.is_told:
            return
        for index in list(islice(jumps(self._segments, since), _MOST_JUMPS)):
            earlier, later = self._segments[index - 1 : index + 1]
            lost = seconds_between(earlier, later)
            if await self._goes_on(earlier, later, lost / 2):
                ahead = timedelta(seconds=lost)
                before = [
                    replace(one, begins_at=one.begins_at and one.begins_at + ahead) for one in self._segments[:index]
                ]
                self._segments = [*before, *self._segments[index:]]
            else:
                after = [replace(one, run=one.run + 1) for one in self._segments[index:]]
                self._segments = [*self._segments[:index], *after]

    async def _goes_on(self, earlier: Segment, later: Segment, tolerance_seconds: float) -> bool:
        """Whether a segment's timestamps follow those of the one before it; yes for segments that cannot be had."""
        try:
            if not await self.fetch([earlier, later]):
                return True
            begins = [await self._timestamp(segment) for segment in (earlier, later)]
        except (ExternalServiceError, ClipImpossibleError):
            return True  # without EXT-X-DISCONTINUITY timestamps go on
        apart = unwrapped(begins[1] - begins[0])
        return abs(apart - earlier.duration_seconds) < tolerance_seconds

    async def _timestamp(self, segment: Segment) -> float:
        joined = await self.join([segment], self._directory / f"{self._name}-looked-at")
        told = await asyncio.to_thread(timestamp_of_packed_audio, joined.path)
        return (await probe(joined.path, joined.container)).start_seconds if told is None else told

    # -- files ---------------------------------------------------------------------------------------------------------

    async def fetch(self, segments: Sequence[Segment]) -> bool:
        """Fetches those of the segments that are not here yet; whether all are here, or lost, now.

        A segment that fails three times counts as lost. Raises ExternalServiceError when none of them can be had.
        """
        complete = True
        for segment in segments:
            if segment.number in self._files:
                continue
            path = self._directory / f"{self._name}-{segment.number}"
            try:
                with path.open("wb") as file:
                    await self._origin.append(segment.media, file)
                if segment.header is None:
                    with path.open("rb") as file:
                        container_of(file.read(189))
            except ExternalServiceError as error:
                path.unlink(missing_ok=True)
                complete = False
                tries = self._failures[segment.number] = self._failures.get(segment.number, 0) + 1
                if tries >= TRIES:
                    self._lose(segment)
                    self.last_error = error
            else:
                self._files[segment.number] = path
                self.on_arrival()
        if self.last_error is not None and not self._files:
            raise self.last_error
        return complete

    def _lose(self, segment: Segment) -> None:
        self._segments = [replace(one, gap=True) if one.number == segment.number else one for one in self._segments]

    def before(self, segment: Segment) -> Segment | None:
        """The segment before it in the same run, if there is one."""
        for index, known in enumerate(self._segments):
            if known.number == segment.number:
                earlier = self._segments[index - 1] if index else None
                fits = earlier is not None and earlier.run == segment.run and not earlier.gap
                return earlier if fits else None
        return None

    def file_of(self, segment: Segment) -> Path | None:
        """Where a segment is on disk; None while it is not."""
        return self._files.get(segment.number)

    async def header_of(self, segment: Segment) -> Path | None:
        """What a decoder must read before the segment, on disk; None where there is no such thing."""
        if (header := segment.header) is None:
            return None
        async with self._fetching_header:
            if header not in self._headers:
                path = self._directory / f"{self._name}-header-{len(self._headers)}"
                with path.open("wb") as file:
                    await self._origin.append(header, file)
                self._headers[header] = path
            return self._headers[header]

    async def join(self, segments: Sequence[Segment], path: Path) -> Joined:
        """Joins segments that were fetched to one file at `path`."""
        header = await self.header_of(segments[0])
        parts = [*([header] if header is not None else []), *(self._files[segment.number] for segment in segments)]
        with path.open("wb") as file:
            for source in parts:
                with source.open("rb") as part:
                    while chunk := part.read(1024 * 1024):
                        file.write(chunk)
        with path.open("rb") as file:
            return Joined(path, container_of(file.read(189)))


def _in_the_past(segments: Sequence[Segment], now: datetime) -> list[Segment]:
    """The segments; without dates when these are ahead of the time."""
    last = segments[-1].begins_at
    if last is None or last <= now + timedelta(seconds=_AHEAD_SECONDS):
        return list(segments)
    return [replace(segment, begins_at=None) for segment in segments]


def _nothing() -> None:
    """Does nothing."""
