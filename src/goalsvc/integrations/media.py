"""Cutting clips out of a running HLS stream.

We read the playlist and fetch the segments ourselves: only then is every address checked, every size bounded and every
second found by its date. ffmpeg sees nothing but local files whose format it is told, so that a "segment" that is really
a playlist or a script cannot make it open anything else.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

import httpx

from goalsvc.clock import Clock
from goalsvc.errors import ClipImpossibleError, ExternalServiceError, GoalsvcError, ServiceDownError
from goalsvc.integrations.decoding import decoded
from goalsvc.integrations.egress import EgressRules, GuardedTransport
from goalsvc.integrations.ffmpeg import THREADS, Probe, local_input, probe, run_ffmpeg
from goalsvc.integrations.hls import (
    MasterPlaylist,
    MediaPlaylist,
    PlaylistError,
    Resource,
    parse_playlist,
)
from goalsvc.integrations.outbound import keep_signatures_out_of_logs
from goalsvc.integrations.refusals import Refusals
from goalsvc.integrations.window import Piece, choose_pieces
from goalsvc.settings import Settings


@dataclass(frozen=True, slots=True)
class CutLimits:
    """How much one clip may cost."""

    playlist_bytes: int = 4 * 1024 * 1024
    media_bytes: int = 512 * 1024 * 1024
    """All the segments of one clip together."""
    answer_seconds: float = 10.0
    """The origin's longest silence."""
    fetch_seconds: float = 120.0
    """Everything that is fetched for one clip."""
    cut_seconds: float = 180.0
    """All that ffmpeg does for one clip."""
    pieces: int = 60
    """Discontinuities within one clip."""
    longer_side: int = 1920
    """The clip's width or height in pixels; larger pictures are made smaller."""
    redirects: int = 5
    at_once: int = 2
    """Clips that are cut side by side; further ones wait."""


class FfmpegCutter:
    """Cuts clips with ffmpeg; each cut has its own connections and its own temporary directory, and leaves nothing."""

    def __init__(self, rules: EgressRules, clock: Clock, limits: CutLimits | None = None) -> None:
        self._rules = rules
        self._clock = clock
        self._limits = limits or CutLimits()
        self._free = asyncio.Semaphore(self._limits.at_once)

    @classmethod
    def from_settings(cls, settings: Settings, clock: Clock) -> "FfmpegCutter":
        """A cutter that may fetch what the settings allow."""
        rules = EgressRules(hosts=tuple(settings.hls_allow_hosts), private=settings.hls_allow_private)
        return cls(rules, clock)

    @asynccontextmanager
    async def cut(self, hls_url: str, begins_at: datetime, duration_seconds: float) -> AsyncIterator[Path]:
        """Yields a playable mp4 (H.264/AAC, fast start) of the stream's seconds from `begins_at` on; deleted on leaving.

        The seconds are found by EXT-X-PROGRAM-DATE-TIME; a playlist without it is taken to end at this moment. When the
        stream began later than `begins_at`, or its window has moved on, the clip begins with the first second that there
        is, and keeps its length; of a stream that has ended it holds what is left, a second at least. A stream without
        sound makes a clip without sound.

        Raises NotYetError while the seconds have not all been streamed; ClipImpossibleError when they never will be had:
        no http(s) address, one that the rules forbid, seconds before the window or after the end, encrypted segments,
        no picture, too much data; ExternalServiceError when the origin or ffmpeg fails.
        """
        if duration_seconds <= 0:
            raise ClipImpossibleError("a clip must last longer than that")
        with tempfile.TemporaryDirectory(prefix="goalsvc-clip-") as name:
            directory = Path(name)
            async with self._free:
                reels = await self._fetch(hls_url, begins_at, duration_seconds, directory)
                clip = await self._make(reels, directory)
            yield clip

    async def _fetch(
        self, hls_url: str, begins_at: datetime, duration_seconds: float, directory: Path
    ) -> "list[_Reel]":
        """Everything that the clip is made of, as local files."""
        try:
            async with asyncio.timeout(self._limits.fetch_seconds), _Origin(self._rules, self._limits) as origin:
                return await self._join_pieces(origin, hls_url, begins_at, duration_seconds, directory)
        except TimeoutError as error:
            raise ServiceDownError("hls", f"not fetched within {self._limits.fetch_seconds:g} s") from error

    async def _join_pieces(
        self, origin: "_Origin", hls_url: str, begins_at: datetime, duration_seconds: float, directory: Path
    ) -> "list[_Reel]":
        picture, sound = await origin.playlists(hls_url)
        now = self._clock.now()
        pieces = choose_pieces(picture.dated(now), begins_at, duration_seconds)
        if len(pieces) > self._limits.pieces:
            raise ClipImpossibleError(f"the stream breaks off {len(pieces)} times within the clip")
        reels: list[_Reel] = []
        for number, piece in enumerate(pieces):
            reel = _Reel(await origin.join(piece, directory / f"picture-{number}"), piece)
            if sound is not None:
                # Where a discontinuity falls within, the rest of this piece is silent.
                heard, *_ = choose_pieces(sound.dated(now), piece.begins_at, piece.duration_seconds)
                reel = _Reel(reel.picture, piece, await origin.join(heard, directory / f"sound-{number}"), heard)
            reels.append(reel)
        return reels

    async def _make(self, reels: "Sequence[_Reel]", directory: Path) -> Path:
        try:
            async with asyncio.timeout(self._limits.cut_seconds):
                return await self._assemble(reels, directory)
        except TimeoutError as error:
            raise ExternalServiceError("ffmpeg", f"took longer than {self._limits.cut_seconds:g} s") from error

    async def _assemble(self, reels: "Sequence[_Reel]", directory: Path) -> Path:
        """The clip, made of the reels one after the other."""
        described = [await self._describe(reel) for reel in reels]
        shape = _Shape.of(described, self._limits.longer_side)
        clip = directory / "clip.mp4"
        if len(reels) == 1:
            await self._encode(reels[0], described[0], shape, clip)
        else:
            parts = [directory / f"part-{number}.mp4" for number in range(len(reels))]
            for reel, description, part in zip(reels, described, parts, strict=True):
                await self._encode(reel, description, shape, part)
            listing = directory / "parts.txt"
            listing.write_text("".join(f"file '{part.name}'\n" for part in parts))
            joining = [*local_input("concat", listing), "-c", "copy", "-movflags", "+faststart", clip.name]
            await run_ffmpeg(joining, directory, time_limit_seconds=self._limits.cut_seconds)
        made = await probe(clip, "mp4")
        if not made.has_picture or made.duration_seconds < sum(reel.piece.duration_seconds for reel in reels) / 2:
            raise ExternalServiceError("hls", "the segments hold less than their playlist says")
        return clip

    async def _describe(self, reel: "_Reel") -> Probe:
        description = await probe(reel.picture.path, reel.picture.container)
        if not description.has_picture:
            raise ClipImpossibleError("the stream has no picture")
        if reel.sound is None:
            return description
        heard = await probe(reel.sound.path, reel.sound.container)
        return Probe(description.duration_seconds, description.width, description.height, heard.has_sound)

    async def _encode(self, reel: "_Reel", description: Probe, shape: "_Shape", target: Path) -> None:
        await run_ffmpeg(
            _encoding(reel, description, shape, target), target.parent, time_limit_seconds=self._limits.cut_seconds
        )


@dataclass(frozen=True, slots=True)
class _Joined:
    """Segments, joined to one local file."""

    path: Path
    container: str


@dataclass(frozen=True, slots=True)
class _Reel:
    """A piece of the clip on disk; its sound is a file of its own where the stream keeps it apart."""

    picture: _Joined
    piece: Piece
    sound: _Joined | None = None
    heard: Piece | None = None


@dataclass(frozen=True, slots=True)
class _Shape:
    """What all parts of a clip have in common, so that they can be joined."""

    width: int
    height: int
    has_sound: bool

    @classmethod
    def of(cls, parts: Sequence[Probe], longer_side: int) -> "_Shape":
        """The first part's size, made to fit and even (H.264 in yuv420p knows no odd sizes); sound, if any part has some."""
        width, height = parts[0].width, parts[0].height
        scale = min(1.0, longer_side / max(width, height))
        even_width, even_height = (max(2, int(side * scale) // 2 * 2) for side in (width, height))
        return cls(even_width, even_height, any(part.has_sound for part in parts))


def _encoding(reel: _Reel, description: Probe, shape: _Shape, target: Path) -> list[str]:
    """ffmpeg's arguments to cut and encode one reel.

    Cut by filters on decoded frames, so that the first frame is the right one wherever the key frames are. `fps` repeats
    the first frame back to the very beginning and fills holes, `aresample` does the same with silence: picture and sound
    stay together and the clip is as long as it should be.
    """
    skip, length = reel.piece.skip_seconds, reel.piece.duration_seconds
    arguments = local_input(reel.picture.container, reel.picture.path)
    heard_skip, late, source = skip, 0.0, "0:a:0"
    if reel.sound is not None and reel.heard is not None:
        arguments += local_input(reel.sound.container, reel.sound.path)
        heard_skip, source = reel.heard.skip_seconds, "1:a:0"
        late = (reel.heard.begins_at - reel.piece.begins_at).total_seconds()
    elif shape.has_sound and not description.has_sound:
        arguments += ["-f", "lavfi", "-i", "anullsrc=channel_layout=stereo:sample_rate=48000"]
        heard_skip, source = 0.0, "1:a:0"
    fit = f"{shape.width}:{shape.height}"
    pictures = (
        f"trim=start={skip:.6f}:end={skip + length:.6f}",
        f"setpts=PTS-{skip:.6f}/TB",
        "fps=fps='min(source_fps,60)':start_time=0",
        f"scale={fit}:force_original_aspect_ratio=decrease",
        f"pad={fit}:-1:-1",
        "setsar=1",
        "format=yuv420p",
    )
    arguments += ["-map", "0:v:0", "-vf", ",".join(pictures)]
    if shape.has_sound:
        sounds = (
            f"atrim=start={heard_skip:.6f}:end={heard_skip + length:.6f}",
            f"asetpts=PTS+({late - heard_skip:.6f})/TB",
            "aresample=48000:async=1:first_pts=0",
        )
        arguments += ["-map", source, "-af", ",".join(sounds), "-c:a", "aac", "-b:a", "128k", "-ac", "2"]
    return [
        *arguments,
        *("-c:v", "libx264", "-preset", "veryfast", "-threads", str(THREADS), "-video_track_timescale", "90000"),
        *("-t", f"{length:.6f}", "-map_metadata", "-1", "-movflags", "+faststart", "-f", "mp4", target.name),
    ]


class _Origin:
    """Where the stream comes from: fetches its playlists and segments, within the limits."""

    def __init__(self, rules: EgressRules, limits: CutLimits) -> None:
        self._limits = limits
        self._bytes_left = limits.media_bytes
        keep_signatures_out_of_logs()  # a stream's address may hold a token
        self._client = httpx.AsyncClient(
            transport=GuardedTransport(rules),
            timeout=limits.answer_seconds,
            headers={"Accept-Encoding": "identity"},  # media is compressed already, and sizes are what they seem
            follow_redirects=True,
            max_redirects=limits.redirects,
            trust_env=False,
        )

    async def __aenter__(self) -> "_Origin":
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def playlists(self, hls_url: str) -> tuple[MediaPlaylist, MediaPlaylist | None]:
        """The picture's playlist, and the sound's where it has one of its own."""
        playlist = await self._playlist(hls_url)
        if isinstance(playlist, MediaPlaylist):
            return playlist, None
        best = playlist.best
        picture = await self._playlist(best.url)
        sound = await self._playlist(best.audio_url) if best.audio_url else None
        if isinstance(picture, MasterPlaylist) or isinstance(sound, MasterPlaylist):
            raise ClipImpossibleError("the stream's playlist names no segments, only further playlists")
        return picture, sound

    async def join(self, piece: Piece, path: Path) -> _Joined:
        """Fetches the piece's segments, one after the other, into the file at `path`."""
        with path.open("wb") as file:
            if (header := piece.segments[0].header) is not None:
                await self._append(header, file)
            for segment in piece.segments:
                await self._append(segment.media, file)
        with path.open("rb") as file:
            return _Joined(path, _container_of(file.read(189)))

    async def _playlist(self, url: str) -> MasterPlaylist | MediaPlaylist:
        content = bytearray()
        async with self._get(url) as answer:
            async for chunk in decoded(answer, self._limits.playlist_bytes):
                content += chunk
        try:
            # Not on the event loop: megabytes take a while.
            return await asyncio.to_thread(parse_playlist, content.decode(errors="replace"), str(answer.url))
        except PlaylistError as error:
            raise ExternalServiceError("hls", f"the playlist {error}") from error

    async def _append(self, resource: Resource, file: IO[bytes]) -> None:
        if resource.key is not None:
            raise ClipImpossibleError(f"the segments are encrypted ({resource.key.refusal or 'AES-128'})")
        async with self._get(resource.url, resource) as answer:
            async for chunk in decoded(answer, self._bytes_left):
                self._bytes_left -= len(chunk)
                file.write(chunk)

    @asynccontextmanager
    async def _get(self, url: str, part: Resource | None = None) -> AsyncIterator[httpx.Response]:
        """An answer that succeeded. Errors name the host only: the rest of the address may hold a token."""
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise ClipImpossibleError("the stream's address is not one") from error
        headers = {}
        if part is not None and part.length is not None:
            headers["Range"] = f"bytes={part.offset}-{part.offset + part.length - 1}"
        try:
            async with self._client.stream("GET", parsed, headers=headers) as answer:
                if not answer.is_success:
                    refused = ServiceDownError if answer.status_code >= 500 else ExternalServiceError
                    raise refused("hls", f"HTTP {answer.status_code} from {answer.url.host}")
                if headers and answer.status_code != httpx.codes.PARTIAL_CONTENT:
                    raise ExternalServiceError("hls", f"{answer.url.host} does not serve byte ranges")
                yield answer
        except httpx.TimeoutException as error:
            raise ServiceDownError("hls", f"no answer in time from {parsed.host}") from error
        except httpx.UnsupportedProtocol as error:
            raise ClipImpossibleError("the stream's address is not one of http or https") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServiceDownError("hls", f"{parsed.host} cannot be reached ({type(error).__name__})") from error


def _container_of(beginning: bytes) -> str:
    """ffmpeg's name for the format of segments that begin so."""
    if beginning[:1] == b"\x47" and (len(beginning) < 189 or beginning[188:189] == b"\x47"):
        return "mpegts"
    if beginning[4:8] in (b"ftyp", b"styp", b"moof", b"sidx"):
        return "mp4"
    if beginning[:3] == b"ID3" or (beginning[:1] == b"\xff" and beginning[1:2] >= b"\xf0"):
        return "aac"
    raise ExternalServiceError("hls", "a segment is neither MPEG-TS, MP4 nor AAC")


@dataclass(frozen=True, slots=True)
class Cut:
    """A clip that was asked for."""

    hls_url: str
    begins_at: datetime
    duration_seconds: float


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

    @asynccontextmanager
    async def cut(self, hls_url: str, begins_at: datetime, duration_seconds: float) -> AsyncIterator[Path]:
        """Yields a file of `content`; it is deleted on leaving."""
        self.cuts.append(Cut(hls_url, begins_at, duration_seconds))
        self._refuse_if_told()
        if self.troubles:
            raise self.troubles.pop(0)
        if not hls_url.startswith(("http://", "https://")):
            raise ClipImpossibleError("the stream's address is not one of http or https")
        with tempfile.TemporaryDirectory(prefix="goalsvc-clip-") as name:
            clip = Path(name) / "clip.mp4"
            clip.write_bytes(self.content)
            yield clip
