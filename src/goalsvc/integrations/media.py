"""Cutting clips out of a running HLS stream.

Playlists and segments are read and fetched here: only then is every address checked, every size bounded and every second
found by its date. ffmpeg gets nothing but local files whose format it is told, so that a "segment" that is really a
playlist or a script cannot make it open anything else.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from goalsvc.clock import Clock
from goalsvc.domain.clips import Clip
from goalsvc.errors import ClipImpossibleError, ExternalServiceError
from goalsvc.integrations.ahead import Ahead, Places, Prepared
from goalsvc.integrations.breaker import Breakers
from goalsvc.integrations.cutting import Cutter, Frames, Shape
from goalsvc.integrations.egress import EgressRules
from goalsvc.integrations.ffmpeg import Probe
from goalsvc.integrations.gathering import Gathered, Gatherer, GatherLimits, Sleep, SoundReel, Wish
from goalsvc.integrations.indexing import Indexed, index
from goalsvc.integrations.mp4 import TICKS, PictureTrack, SoundTrack, write_mp4
from goalsvc.integrations.origin import FetchLimits, Origin
from goalsvc.integrations.sound import SoundComposer
from goalsvc.scratch import working_directory
from goalsvc.settings import Settings

#: How many segments before the first wanted one are looked at for its key frame.
_REACH_BACK = 3


@dataclass(frozen=True, slots=True)
class CutLimits:
    """How much one clip may cost."""

    fetch: FetchLimits = field(default_factory=FetchLimits)
    gather: GatherLimits = field(default_factory=GatherLimits)
    cut_seconds: float = 180.0
    """All that ffmpeg does for one clip."""
    longer_side: int = 1920
    """The clip's width or height in pixels; larger pictures are made smaller."""
    at_once: int = 2
    """Clips whose frames are listed, and clips that are cut, side by side; further ones wait. Fetching does not wait."""
    ahead: int = 1
    """Clips that are worked on, besides, while their segments are still fetched; further ones begin when all are there."""


class FfmpegCutter:
    """Cuts clips with ffmpeg; each cut has its own connections and its own temporary directory, and leaves nothing."""

    def __init__(
        self,
        rules: EgressRules,
        clock: Clock,
        limits: CutLimits | None = None,
        *,
        lag_seconds: float = 0.0,
        timeshift_url: str = "",
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._rules = rules
        self._clock = clock
        self._limits = limits or CutLimits()
        self._lag_seconds = lag_seconds
        self._timeshift_url = timeshift_url
        self._sleep = sleep
        self._free = asyncio.Semaphore(self._limits.at_once)
        # Of its own: a key frame that is missing is fetched between two looks, and must not wait behind an encoding.
        self._looking = asyncio.Semaphore(self._limits.at_once)
        # Of its own as well: who waits for an origin must not keep those waiting that have all.
        self._ahead = Places(self._limits.ahead)

    @classmethod
    def from_settings(cls, settings: Settings, clock: Clock) -> "FfmpegCutter":
        """A cutter that may fetch what the settings allow."""
        rules = EgressRules(hosts=tuple(settings.hls_allow_hosts), private=settings.hls_allow_private)
        return cls(rules, clock, lag_seconds=settings.hls_lag, timeshift_url=settings.hls_timeshift_url)

    @asynccontextmanager
    async def cut(
        self, hls_url: str, begins_at: datetime, duration_seconds: float, *, latest_begin: datetime | None = None
    ) -> AsyncIterator[Clip]:
        """Yields a playable mp4 (H.264/AAC, fast start) of the stream's seconds from `begins_at` on; deleted on leaving.

        The seconds are found by EXT-X-PROGRAM-DATE-TIME, else by the segments' `Last-Modified`, else by the setting
        `GOALSVC_HLS_LAG`. Segments to come are fetched as they appear. When the stream began later than `begins_at`, or its
        window has moved on, the clip begins with the first second that there is, if that is before `latest_begin`, and keeps
        its length; of a stream that has ended it holds what is left, a second at least. A stream without sound makes a
        clip without sound.

        Raises NotYetError when it is better to come back later; ClipImpossibleError when the seconds cannot be had: no
        http(s) address, one that the rules forbid, seconds before the window or after the end, an encryption that cannot be
        read, no picture, too much data; ExternalServiceError when the origin or ffmpeg fails.
        """
        if duration_seconds <= 0:
            raise ClipImpossibleError("a clip must last longer than that")
        wish = Wish(hls_url, begins_at, duration_seconds, latest_begin, self._lag_seconds, self._timeshift_url)
        with working_directory("clip") as directory:
            ahead = Ahead(
                directory, lambda probe: self._cutter(probe, directory), self._ahead, self._limits.cut_seconds
            )
            async with Origin(self._rules, self._limits.fetch) as origin, aclosing(ahead):
                gatherer = Gatherer(origin, self._clock, self._limits.gather, self._sleep, directory, watch=ahead.watch)
                gathered = await gatherer.gather(wish)
                prepared = await ahead.finish(gathered)
                indexed = await self._index(gathered, prepared, directory)
                sounds = await gathered.sounds(directory)
            async with self._free, _within(self._limits.cut_seconds):
                sound = await prepared.sound_of(indexed) if prepared is not None else None
                if sound is None:
                    sound = await self._compose(indexed, sounds, directory)
                cutter = prepared.cutter if prepared is not None else self._cutter(indexed[0].probe, directory)
                clip = await self._assemble(indexed, sound, cutter, directory)
            yield Clip(
                path=clip,
                begins_at=indexed[0].begins_at,
                duration_seconds=round(_seconds_of(indexed), 3),
                dated_by=gathered.dated_by.value,
            )

    async def _index(self, gathered: Gathered, prepared: Prepared | None, directory: Path) -> list[Indexed]:
        """Joins the pieces and lists their frames; where a key frame is missing, it is looked for in earlier segments."""
        indexed: list[Indexed] = []
        for number in range(len(gathered.pieces)):
            if number == 0 and prepared is not None:
                piece = prepared.indexed(await gathered.reel(number, directory))
            else:
                piece = await self._look_into(gathered, number, directory)
            for _ in range(_REACH_BACK):
                if not piece.begins_late or not await gathered.reach_back(number):
                    break
                piece = await self._look_into(gathered, number, directory)
            if piece.duration_seconds > 0:
                indexed.append(piece)
        wanted = sum(piece.duration_seconds for piece in gathered.pieces)
        shown = sum(len(piece.wanted) for piece in indexed)
        if not indexed or not shown or _covered(indexed) < wanted / 2:
            raise ExternalServiceError("hls", "the segments hold less than their playlist says")
        return indexed

    async def _look_into(self, gathered: Gathered, number: int, directory: Path) -> Indexed:
        """The frames of a piece; ffmpeg lists those of few clips at a time."""
        reel = await gathered.reel(number, directory)
        async with self._looking:
            return await index(reel, directory, self._limits.cut_seconds)

    def _cutter(self, probe: Probe, directory: Path) -> Cutter:
        frames = Frames(directory / "frames.bin", Shape.of(probe, self._limits.longer_side))
        return Cutter(frames, directory, self._limits.cut_seconds)

    async def _compose(
        self, indexed: Sequence[Indexed], sounds: Sequence[SoundReel], directory: Path
    ) -> SoundTrack | None:
        """The sound of all pieces; None when there is none."""
        composer = SoundComposer(directory, _seconds_of(indexed), self._limits.cut_seconds)
        position = 0.0
        for piece in indexed:
            await composer.add_apart(sounds, piece, position)
            if not sounds:
                await composer.add_own(piece, position)
            position += piece.duration_seconds
        return await composer.finish()

    async def _assemble(
        self, indexed: Sequence[Indexed], sound: SoundTrack | None, cutter: Cutter, directory: Path
    ) -> Path:
        """The clip, made of the pieces one after the other."""
        position = 0.0
        for piece in indexed:
            await cutter.add(piece, round(position * TICKS))
            position += piece.duration_seconds
        frames = cutter.frames
        if not frames.table:
            raise ExternalServiceError("hls", "the segments hold no frame that can be decoded")
        shape = frames.shape
        picture = PictureTrack(frames.path, frames.table, shape.width, shape.height, frames.sets.configuration())
        clip = directory / "clip.mp4"
        await asyncio.to_thread(write_mp4, clip, picture, sound, round(position * TICKS))
        return clip


@asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise ExternalServiceError("ffmpeg", f"took longer than {seconds:g} s") from error


def _seconds_of(indexed: Sequence[Indexed]) -> float:
    return sum(piece.duration_seconds for piece in indexed)


def _covered(indexed: Sequence[Indexed]) -> float:
    """How many of the wanted seconds have frames, as far as the first and the last frame of each piece show."""
    seconds = 0.0
    for piece in indexed:
        if moments := [packet.shown_at for packet in piece.wanted]:
            seconds += max(moments) - min(moments) + 1.0 / max(piece.probe.frames_per_second, 1.0)
    return seconds


class GuardedCutter:
    """Cuts clips by a FfmpegCutter, behind a breaker for each origin of streams: one that fails is not asked for a while."""

    def __init__(self, cutter: FfmpegCutter, breakers: Breakers) -> None:
        self._cutter, self._breakers = cutter, breakers

    @classmethod
    def from_settings(cls, settings: Settings, clock: Clock, breakers: Breakers) -> "GuardedCutter":
        """A cutter that may fetch what the settings allow."""
        return cls(FfmpegCutter.from_settings(settings, clock), breakers)

    @asynccontextmanager
    async def cut(
        self, hls_url: str, begins_at: datetime, duration_seconds: float, *, latest_begin: datetime | None = None
    ) -> AsyncIterator[Clip]:
        """See `FfmpegCutter.cut`; raises ServiceDownError at once while the stream's origin does not work."""
        async with AsyncExitStack() as stack:
            with self._breakers.of(f"hls {_host_of(hls_url)}").call():
                cutting = self._cutter.cut(hls_url, begins_at, duration_seconds, latest_begin=latest_begin)
                clip = await stack.enter_async_context(cutting)
            yield clip


def _host_of(url: str) -> str:
    """Returns the host that the URL names; nothing where it names none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
