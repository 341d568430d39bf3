"""Gathers the segments of a clip while the stream goes on: each is fetched before the window moves past it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from goalsvc.clock import Clock
from goalsvc.errors import ClipImpossibleError, ExternalServiceError, NotYetError, ServiceDownError
from goalsvc.integrations.hls import MediaPlaylist, Segment
from goalsvc.integrations.origin import Origin
from goalsvc.integrations.track import DatedBy, Joined, Track
from goalsvc.integrations.window import LEAST_SECONDS, Piece, Selection, not_yet, select

Sleep = Callable[[float], Awaitable[None]]
Watch = Callable[[Track, Track | None, Selection], None]
"""Is told which segments of the picture and of sound apart from it are about to be fetched, each time anew."""

#: A playlist whose window reaches so much further back than needed is left alone until all has been streamed.
_SPARE_SECONDS = 60.0
_MOST_VARIANTS = 6
_MOST_FAILED_LOADS = 5


@dataclass(frozen=True, slots=True)
class GatherLimits:
    """How long the seconds of a clip are waited for, and how much a clip may consist of."""

    wait_seconds: float = 600.0
    """How long one run waits for seconds to be streamed; 0: not at all."""
    lag_seconds: float = 120.0
    """How long after it was due the last second is waited for."""
    round_seconds: float = 120.0
    """How long the fetching of what is there may take."""
    pieces: int = 120
    """Discontinuities within one clip."""
    longer_side: int = 1920
    """Of several variants, one that is not larger is preferred."""


@dataclass(frozen=True, slots=True)
class Wish:
    """The clip that is asked for."""

    hls_url: str
    begins_at: datetime
    duration_seconds: float
    latest_begin: datetime | None = None
    lag_seconds: float = 0.0
    """How far the end of an undated playlist is behind."""
    timeshift_url: str = ""
    """Where the past of the stream is, with `{url}`, `{start}`, `{end}`."""


@dataclass(frozen=True, slots=True)
class Reel:
    """A piece of the clip on disk."""

    file: Joined
    piece: Piece


@dataclass(frozen=True, slots=True)
class SoundReel:
    """Sound that the stream keeps apart from the picture, on disk."""

    file: Joined
    begins_at: datetime
    seconds: float
    by_timestamps: bool
    """Whether its dates are a guess, so that its timestamps say more."""
    discontinuity: int | None = None
    """Its discontinuity sequence number, where the playlist numbers them."""


class Gathered:
    """All that a clip is made of."""

    def __init__(self, picture: Track, sound: Track | None, selection: Selection) -> None:
        self.pieces = list(selection.pieces)
        self.dated_by = picture.dated_by or DatedBy.LAG
        self.picture = picture
        self._sound = sound
        self._sound_is_dated = sound is None or sound.is_told

    async def reach_back(self, number: int) -> bool:
        """Adds the segment before a piece, which may hold the key frame that it needs; whether there is one."""
        piece = self.pieces[number]
        earlier = self.picture.before(piece.segments[0])
        if earlier is None or not await self.picture.fetch([earlier]):
            return False
        skip = piece.skip_seconds + earlier.duration_seconds
        self.pieces[number] = replace(piece, segments=(earlier, *piece.segments), skip_seconds=skip)
        return True

    async def reel(self, number: int, directory: Path) -> Reel:
        """The piece of that number, joined."""
        piece = self.pieces[number]
        return Reel(await self.picture.join(piece.segments, directory / f"reel-{number}"), piece)

    async def sounds(self, directory: Path) -> Sequence[SoundReel]:
        """The sound of all pieces, joined, where the stream keeps it apart."""
        if self._sound is None:
            return ()
        reels: list[SoundReel] = []
        margin = 0.0 if self._sound_is_dated else self._sound.target_seconds
        for number, run in enumerate(_heard(self._sound, self.pieces, margin)):
            begins_at = run[0].begins_at
            if begins_at is None:
                continue
            file = await self._sound.join(run, directory / f"sound-{number}")
            seconds = sum(segment.duration_seconds for segment in run)
            guessed = not self._sound_is_dated
            reels.append(SoundReel(file, begins_at, seconds, guessed, run[0].discontinuity))
        return reels


class Gatherer:
    """Gathers one clip, by one origin, into one directory."""

    def __init__(
        self,
        origin: Origin,
        clock: Clock,
        limits: GatherLimits,
        sleep: Sleep,
        directory: Path,
        watch: Watch = lambda *_: None,
    ) -> None:
        self._origin = origin
        self._watch = watch
        self._clock = clock
        self._limits = limits
        self._sleep = sleep
        self._directory = directory
        self._tracks = 0

    async def gather(self, wish: Wish) -> Gathered:
        """Fetches the segments of the clip, those to come as they appear.

        Raises NotYetError when it is better to come back later, ClipImpossibleError when the seconds cannot be had,
        ExternalServiceError when the origin fails.
        """
        if wish.timeshift_url:
            try:
                return await self._gather_from(wish.hls_url, wish, only_whole=True)
            except (_WindowMovedOnError, ClipImpossibleError, ExternalServiceError):
                pass  # the past is asked for where it is kept
            try:
                return await self._gather_from(timeshifted(wish), wish)
            except (ClipImpossibleError, ExternalServiceError):
                pass  # not kept there either: what the live window holds is all there is
        return await self._gather_from(wish.hls_url, wish)

    async def _gather_from(self, url: str, wish: Wish, *, only_whole: bool = False) -> Gathered:
        async with self._in_time():
            playlist, source = await self._origin.playlist(url)
        if isinstance(playlist, MediaPlaylist):
            return await self._follow(url, playlist, None, {}, wish, only_whole)
        error: ExternalServiceError | None = None
        for variant in playlist.in_order(self._limits.longer_side)[:_MOST_VARIANTS]:
            try:
                return await self._follow(variant.url, None, variant.audio_url, playlist.variables, wish, only_whole)
            except ExternalServiceError as failed:
                error = error or failed  # the next variant may be served
        raise error or ExternalServiceError("hls", f"{source.partition('?')[0][-40:]} offers no variant")

    async def _follow(
        self,
        url: str,
        loaded: MediaPlaylist | None,
        sound_url: str | None,
        variables: Mapping[str, str],
        wish: Wish,
        only_whole: bool,
    ) -> Gathered:
        self._tracks += 1
        picture = Track(self._origin, url, self._directory, f"picture-{self._tracks}", variables)
        async with self._in_time():
            if loaded is not None:
                picture.add(loaded, self._clock.now())
            else:
                await picture.load(self._clock.now())
            sound = await self._open_sound(sound_url, variables)
            await picture.date(self._clock.now(), wish.lag_seconds)
            await picture.settle_clock(wish.begins_at)
            if sound is not None:
                await sound.settle_clock(wish.begins_at)
                sound.date_like(picture)
        first = picture.playlist.segments[0].begins_at if picture.playlist.segments else None
        if only_whole and first is not None and first > wish.begins_at:
            raise _WindowMovedOnError
        selection = await self._wait(picture, sound, wish)
        if len(selection.pieces) > self._limits.pieces:
            raise ClipImpossibleError(f"the stream breaks off {len(selection.pieces)} times within the clip")
        return Gathered(picture, sound, selection)

    async def _open_sound(self, url: str | None, variables: Mapping[str, str]) -> Track | None:
        if url is None:
            return None
        track = Track(self._origin, url, self._directory, f"heard-{self._tracks}", variables)
        await track.load(self._clock.now())
        return track

    async def _wait(self, picture: Track, sound: Track | None, wish: Wish) -> Selection:
        """Fetches what there is, waits, fetches what has come, until all is there."""
        waited, failed_loads = 0.0, 0
        late = 0.0
        while True:
            selection, pause = self._look(picture, wish)
            if selection is not None:
                open_end = not selection.is_nearly_complete and not picture.ended and not self._is_late(selection, wish)
                if waited == 0 and open_end and self._can_wait(picture, selection):
                    raise not_yet(selection)
                if len(selection.pieces) > self._limits.pieces:
                    return selection
                self._watch(picture, sound, selection)
                async with self._in_time():
                    fetched = await picture.fetch(selection.segments)
                    heard = sound is None or await self._fetch_sound(sound, selection)
                if fetched and (selection.is_nearly_complete or picture.ended):
                    # The last frame, or the end of the sound, may be in segments that follow at once.
                    if late > 2 * picture.target_seconds + 2 or (heard and (selection.is_complete or picture.ended)):
                        return selection
                    if self._limits.wait_seconds <= 0 and heard:
                        return selection
                    late += pause
                elif fetched and (waited >= self._limits.wait_seconds or self._is_late(selection, wish)):
                    return self._what_there_is(selection)
            elif waited >= self._limits.wait_seconds:
                raise NotYetError("the stream holds no seconds yet", pause)
            await self._sleep(pause)
            waited += pause
            try:
                async with self._in_time():
                    await self._reload(picture, sound, wish)
                failed_loads = 0
            except ExternalServiceError:
                failed_loads += 1
                if failed_loads >= _MOST_FAILED_LOADS:
                    raise

    def _look(self, picture: Track, wish: Wish) -> tuple[Selection | None, float]:
        """What is to be fetched, if anything is there, and how long to wait for more."""
        pause = min(max(picture.target_seconds / 2, 0.5), 3.0)
        try:
            return select(picture.playlist, wish.begins_at, wish.duration_seconds, wish.latest_begin), pause
        except NotYetError:
            return None, pause
        except ClipImpossibleError:
            if picture.last_error is not None:
                raise picture.last_error from None
            raise

    def _can_wait(self, picture: Track, selection: Selection) -> bool:
        """Whether nothing is lost by coming back when all has been streamed."""
        if self._limits.wait_seconds <= 0:
            return True
        known = picture.playlist.segments
        first, wanted = known[0].begins_at, selection.segments[0].begins_at if selection.segments else known[-1].ends_at
        spare = (wanted - first).total_seconds() if first and wanted else 0.0
        return spare >= selection.missing_seconds + _SPARE_SECONDS

    def _is_late(self, selection: Selection, wish: Wish) -> bool:
        """Whether the last second should have come long ago."""
        begins_at = max([wish.begins_at, *(piece.begins_at for piece in selection.pieces[:1])])
        due = begins_at + timedelta(seconds=wish.duration_seconds + self._limits.lag_seconds)
        return self._clock.now() > due

    def _what_there_is(self, selection: Selection) -> Selection:
        seconds = selection.duration_seconds - selection.missing_seconds
        if seconds < min(LEAST_SECONDS, selection.duration_seconds):
            raise ClipImpossibleError("the stream has not gone on")
        return selection

    async def _fetch_sound(self, track: Track, selection: Selection) -> bool:
        """Fetches the sound of what was selected; whether it is all there."""
        pieces = selection.pieces
        margin = 0.0 if track.is_told else track.target_seconds
        segments = [segment for run in _heard(track, pieces, margin) for segment in run]
        fetched = await track.fetch(segments)
        edge = track.playlist.segments[-1].ends_at if track.playlist.segments else None
        last = pieces[-1].begins_at + timedelta(seconds=pieces[-1].duration_seconds - 0.1) if pieces else None
        return fetched and (track.ended or edge is None or last is None or edge >= last)

    async def _reload(self, picture: Track, sound: Track | None, wish: Wish) -> None:
        began = [segment.begins_at for segment in picture.playlist.segments[:1]]
        if not picture.ended:
            await picture.load(self._clock.now())
            await picture.date(self._clock.now(), wish.lag_seconds)
            await picture.settle_clock(wish.begins_at)
        if sound is None:
            return
        if not sound.ended:
            await sound.load(self._clock.now())
            await sound.settle_clock(wish.begins_at)
        if sound.dated_by is None or began != [segment.begins_at for segment in picture.playlist.segments[:1]]:
            sound.date_like(picture)  # the picture has other dates now

    def _in_time(self) -> "_Round":
        return _Round(self._limits.round_seconds)


class _Round:
    """Bounds the time of what is fetched in one go."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *raised: object) -> None:
        try:
            await self._timeout.__aexit__(*raised)  # type: ignore[arg-type]
        except TimeoutError as error:
            raise ServiceDownError("hls", f"not fetched within {self._seconds:g} s") from error


class _WindowMovedOnError(Exception):
    """The live window begins later than the clip."""


def _heard(track: Track, pieces: Sequence[Piece], margin_seconds: float) -> Sequence[Sequence[Segment]]:
    """The segments that sound during the pieces, in runs that can be joined."""
    margin = timedelta(seconds=margin_seconds)
    spans = [
        (piece.begins_at - margin, piece.begins_at + timedelta(seconds=piece.duration_seconds) + margin)
        for piece in pieces
    ]
    wanted: list[tuple[int, Segment]] = []
    for index, segment in enumerate(track.playlist.segments):
        begins_at, ends_at = segment.begins_at, segment.ends_at
        if segment.gap or begins_at is None or ends_at is None:
            continue
        if any(ends_at > begin and begins_at < end for begin, end in spans):
            wanted.append((index, segment))
    numbered = ((index - position, segment) for position, (index, segment) in enumerate(wanted))
    return [
        [segment for _, segment in members] for _, members in groupby(numbered, key=lambda one: (one[0], one[1].run))
    ]


def timeshifted(wish: Wish) -> str:
    """The address of the wanted seconds, in the form of `GOALSVC_HLS_TIMESHIFT_URL`.

    `{start}` and `{end}` are UTC times in ISO 8601, in whole seconds that include the wanted ones.
    """
    ends_at = wish.begins_at + timedelta(seconds=wish.duration_seconds + 0.999999)
    template = wish.timeshift_url
    # At the beginning the address stands for itself; elsewhere it is a value, in a query for example.
    url = wish.hls_url if template.startswith("{url}") else quote(wish.hls_url, safe="")
    for name, value in (
        ("{start}", wish.begins_at.strftime("%Y-%m-%dT%H:%M:%SZ")),
        ("{end}", ends_at.strftime("%Y-%m-%dT%H:%M:%SZ")),
        ("{url}", url),
    ):
        template = template.replace(name, value)
    return template
