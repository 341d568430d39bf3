"""The sound of a clip: every piece is decoded to its exact place, then all of it is encoded once.

Joining encoded sound would shift it by part of a frame at each joint (up to 21 ms).
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from goalsvc.errors import ExternalServiceError
from goalsvc.integrations.continuity import timestamp_of_packed_audio, unwrapped
from goalsvc.integrations.ffmpeg import local_input, probe, run_ffmpeg
from goalsvc.integrations.gathering import SoundReel
from goalsvc.integrations.indexing import Indexed
from goalsvc.integrations.mp4 import SoundTrack

RATE = 48_000
_SAMPLE_BYTES = 4
"""Two channels of 16 bits."""
_ENCODER_DELAY = 1024


class SoundComposer:
    """Puts the sound of a clip of `seconds` together, in one file of samples."""

    def __init__(self, directory: Path, seconds: float, time_limit_seconds: float) -> None:
        self._directory = directory
        self._samples = round(seconds * RATE)
        self._time_limit_seconds = time_limit_seconds
        self._mix = directory / "sound.pcm"
        self._heard = False
        self._starts: dict[Path, float] = {}

    async def add_own(self, indexed: Indexed, position_seconds: float) -> None:
        """Adds the sound that is in the same file as the picture."""
        if indexed.probe.has_sound:
            file, container = indexed.reel.file.path, indexed.reel.file.container
            skip = indexed.skip_seconds + indexed.start_seconds
            await self._add(file, container, skip, indexed.duration_seconds, position_seconds)

    async def add_apart(self, reels: Sequence[SoundReel], indexed: Indexed, position_seconds: float) -> None:
        """Adds what sounds during that piece of sound that is kept apart."""
        for reel in _sounding(reels, indexed):
            start = await self._start_of(reel)
            offset = (indexed.begins_at - reel.begins_at).total_seconds()
            if reel.by_timestamps:
                offset = await self._by_timestamps(reel, indexed, start, offset)
            skip, late = max(0.0, offset), max(0.0, -offset)
            length = min(indexed.duration_seconds - late, reel.seconds + 1.0 - skip)
            if length > 0:
                await self._add(reel.file.path, reel.file.container, start + skip, length, position_seconds + late)

    async def _start_of(self, reel: SoundReel) -> float:
        """The first timestamp of the file."""
        if (start := self._starts.get(reel.file.path)) is None:
            start = (await probe(reel.file.path, reel.file.container)).start_seconds
            self._starts[reel.file.path] = start
        return start

    async def _by_timestamps(self, reel: SoundReel, indexed: Indexed, start: float, guess: float) -> float:
        """Where in the sound the piece begins: renditions of a stream share their timestamps."""
        told = await asyncio.to_thread(timestamp_of_packed_audio, reel.file.path)
        apart = unwrapped(indexed.start_seconds - (start if told is None else told))
        offset = apart + indexed.skip_seconds
        # Timestamps that have nothing to do with each other lead far away from the guess.
        return offset if abs(offset - guess) < 15.0 else guess

    async def _add(self, path: Path, container: str, skip: float, length: float, position: float) -> None:
        """Decodes `length` seconds, from the timestamp `skip` on, to their place."""
        target = self._directory / "piece.pcm"
        heard = [
            "-map",
            "0:a:0",
            "-vn",
            "-af",
            ",".join(_filters(skip, length)),
            "-ac",
            "2",
            "-f",
            "s16le",
            target.name,
        ]
        arguments = ["-copyts", *local_input(container, path), *heard]
        await run_ffmpeg(arguments, self._directory, time_limit_seconds=self._time_limit_seconds)
        await asyncio.to_thread(self._place, target, round(position * RATE), round(length * RATE))

    def _place(self, piece: Path, first: int, count: int) -> None:
        count = min(count, self._samples - first)
        if count <= 0:
            return
        with piece.open("rb") as source, self._mix.open("r+b" if self._mix.exists() else "w+b") as mix:
            mix.seek(first * _SAMPLE_BYTES)
            left = count * _SAMPLE_BYTES
            while left > 0 and (chunk := source.read(min(left, 1024 * 1024))):
                mix.write(chunk)
                left -= len(chunk)
        self._heard = True

    async def finish(self) -> SoundTrack | None:
        """Encodes all of it; None when there is no sound at all."""
        if not self._heard:
            return None
        with self._mix.open("r+b") as mix:
            mix.truncate(self._samples * _SAMPLE_BYTES)
        source = ["-ar", str(RATE), "-ch_layout", "stereo", *local_input("s16le", self._mix)]
        target = self._directory / "sound.aac"
        await run_ffmpeg(
            [*source, *_encoded_as(target.name)], self._directory, time_limit_seconds=self._time_limit_seconds
        )
        return await read_sound(target)


def _filters(skip: float, length: float) -> list[str]:
    """ffmpeg's filters that leave `length` seconds of sound from the timestamp `skip` on, with silence for what is missing."""
    return [
        f"atrim=start={skip:.6f}:end={skip + length:.6f}",
        f"asetpts=PTS-{skip:.6f}/TB",
        f"aresample={RATE}:async=1:min_hard_comp=0.01:first_pts=0",
    ]


def _encoded_as(name: str) -> list[str]:
    return ["-c:a", "aac", "-b:a", "128k", "-f", "adts", name]


def output_for_all(skip: float, length: float, name: str) -> list[str]:
    """ffmpeg's output that makes the whole sound of a clip of `length` seconds, as a `SoundComposer` does of one piece."""
    samples = round(length * RATE)
    filters = [*_filters(skip, length), f"apad=whole_len={samples}", f"atrim=end_sample={samples}"]
    return ["-map", "0:a:0", "-vn", "-af", ",".join(filters), "-ac", "2", *_encoded_as(name)]


async def read_sound(path: Path) -> SoundTrack:
    """Reads sound that was encoded; raises ExternalServiceError when there is none."""
    try:
        return await asyncio.to_thread(SoundTrack.read, path, _ENCODER_DELAY)
    except ValueError as error:
        raise ExternalServiceError("ffmpeg", "the sound could not be encoded") from error


def _sounding(reels: Sequence[SoundReel], indexed: Indexed) -> Sequence[SoundReel]:
    """The sound that belongs to a piece. Each discontinuity has timestamps of its own, which say nothing of another's.

    Where dates are a guess, discontinuities are told apart by their numbers, or by what they have in common.
    """
    if not any(reel.by_timestamps for reel in reels):
        return reels
    segments = indexed.reel.piece.segments
    number = segments[0].discontinuity
    if number is not None and (same := [reel for reel in reels if reel.discontinuity == number]):
        return same
    if len(reels) == 1:
        return reels
    begins_at = indexed.reel.piece.begins_at - timedelta(seconds=indexed.reel.piece.skip_seconds)
    seconds = sum(segment.duration_seconds for segment in segments)
    shares: list[tuple[float, SoundReel]] = []
    for reel in reels:
        offset = (begins_at - reel.begins_at).total_seconds()
        common = min(reel.seconds - offset, seconds) - max(-offset, 0.0)
        shares.append((common / max(min(reel.seconds, seconds), 0.001), reel))
    likely = [reel for share, reel in shares if share >= 0.5]
    return likely or [reel for share, reel in [max(shares, key=lambda one: one[0])] if share > 0]
