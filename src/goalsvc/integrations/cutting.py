"""Cuts a clip out of joined segments: what can be copied is copied, the rest is encoded anew.

Only the frames from the first wanted one up to the next key frame are encoded, and those after the last key frame where
the end cannot be cut off cleanly. Nothing of earlier seconds is in the file: they may have been private.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from goalsvc.errors import ClipImpossibleError, ExternalServiceError
from goalsvc.integrations.ffmpeg import Packet, Probe, local_input, read_packets, run_ffmpeg
from goalsvc.integrations.ffmpeg import probe as describe
from goalsvc.integrations.gathering import Reel
from goalsvc.integrations.h264 import ConflictingSetsError, ParameterSets, sample_of, units_of
from goalsvc.integrations.mp4 import TICKS, Picture

#: Times are rounded to milliseconds by playlists and to ticks by containers.
ROUNDING_SECONDS = 0.002
#: A piece that is shorter is encoded: there is little to copy.
_LEAST_COPIED_SECONDS = 1.0
_MOST_FRAMES_PER_SECOND = 60.0
_LEVEL = "4.2"


@dataclass(frozen=True, slots=True)
class Indexed:
    """A reel and its frames, in the order in which they are decoded; times in seconds from its first frame."""

    reel: Reel
    probe: Probe
    packets: Sequence[Packet]
    start_seconds: float
    """The timestamp of the first frame. ffmpeg is made to keep timestamps: what it would count from depends on which
    streams a run uses."""
    clean: frozenset[int]
    """Which packets are key frames that split the reel: what is decoded later is shown later."""

    @property
    def skip_seconds(self) -> float:
        """Where the wanted seconds begin: not before the first frame that can be decoded."""
        skip = self.reel.piece.skip_seconds
        first = self.first_key_seconds
        frame = 1.0 / max(self.probe.frames_per_second, 10.0)
        return first if first is not None and first > skip + 1.5 * frame else skip

    @property
    def first_key_seconds(self) -> float | None:
        """When the first key frame is shown; None when there is none."""
        return min((packet.shown_at for packet in self.packets if packet.is_key), default=None)

    @property
    def begins_late(self) -> bool:
        """Whether wanted frames cannot be decoded, for their key frame was in an earlier segment."""
        return self.skip_seconds > self.reel.piece.skip_seconds

    @property
    def end_seconds(self) -> float:
        """Where the wanted seconds end."""
        return self.reel.piece.skip_seconds + self.reel.piece.duration_seconds

    @property
    def duration_seconds(self) -> float:
        """How long the piece is in the clip."""
        return max(0.0, self.end_seconds - self.skip_seconds)

    @property
    def begins_at(self) -> datetime:
        """When the first second that is taken was recorded."""
        late = self.skip_seconds - self.reel.piece.skip_seconds
        return self.reel.piece.begins_at + timedelta(seconds=late)

    @property
    def wanted(self) -> Sequence[Packet]:
        """The frames that the clip shows."""
        begin, end = self.skip_seconds - ROUNDING_SECONDS, self.end_seconds - ROUNDING_SECONDS
        return [packet for packet in self.packets if begin <= packet.shown_at < end]


async def index(reel: Reel, directory: Path, time_limit_seconds: float) -> Indexed:
    """Lists the frames of a reel. H.264 is written as a byte stream beside it, for copying.

    Raises ClipImpossibleError when there is no picture, ExternalServiceError when ffmpeg fails.
    """
    name = reel.file.path.name
    # Frames before the first key frame are listed as well: the reel begins with them.
    outputs = ["-map", "0:v:0", "-c", "copy", "-copyinkf", "-f", "framecrc", f"{name}.all.txt"]
    arguments = ["-copyts", *local_input(reel.file.container, reel.file.path), *outputs]
    try:
        told = await run_ffmpeg(arguments, directory, time_limit_seconds=time_limit_seconds, level="info")
    except ExternalServiceError as error:
        held = await describe(reel.file.path, reel.file.container)
        if held.has_sound and not held.has_picture:
            raise ClipImpossibleError("the stream has no picture") from error
        raise
    probe = Probe.of(told)
    packets = read_packets(directory / f"{name}.all.txt")
    clean: frozenset[int] = frozenset()
    if probe.codec == "h264":
        packets, clean = await _index_h264(reel, directory, time_limit_seconds)
    # Segments are cut, dated and measured by their pictures.
    start = min((packet.shown_at for packet in packets), default=probe.start_seconds)
    moved = [Packet(packet.shown_at - start, packet.size, packet.is_key) for packet in packets]
    return Indexed(reel, probe, moved, start, clean)


async def _index_h264(reel: Reel, directory: Path, time_limit_seconds: float) -> tuple[list[Packet], frozenset[int]]:
    """The frames as a byte stream, and the IDR frames: those that `filter_units` leaves when only their slices pass."""
    name = reel.file.path.name
    copy = ["-map", "0:v:0", "-c", "copy", "-copyinkf", "-bsf:v"]
    arguments = [
        *("-copyts", *local_input(reel.file.container, reel.file.path)),
        *(*copy, "h264_mp4toannexb", "-f", "framecrc", f"{name}.txt"),
        *(*copy, "h264_mp4toannexb", "-f", "h264", f"{name}.h264"),
        *(*copy, "h264_mp4toannexb,filter_units=pass_types=5", "-f", "framecrc", f"{name}.idr.txt"),
    ]
    await run_ffmpeg(arguments, directory, time_limit_seconds=time_limit_seconds)
    packets = read_packets(directory / f"{name}.txt")
    moments = {packet.shown_at for packet in read_packets(directory / f"{name}.idr.txt")}
    if sum(packet.size for packet in packets) != (directory / f"{name}.h264").stat().st_size:
        return packets, frozenset()
    earliest_after = [float("inf")] * (len(packets) + 1)
    for number in range(len(packets) - 1, -1, -1):
        earliest_after[number] = min(packets[number].shown_at, earliest_after[number + 1])
    clean: set[int] = set()
    latest_before = float("-inf")
    for number, packet in enumerate(packets):
        splits = latest_before < packet.shown_at <= earliest_after[number]
        if packet.shown_at in moments and splits:
            clean.add(number)
        latest_before = max(latest_before, packet.shown_at)
    return packets, frozenset(clean)


@dataclass(frozen=True, slots=True)
class Shape:
    """What all parts of a clip have in common."""

    width: int
    height: int

    @classmethod
    def of(cls, probe: Probe, longer_side: int) -> "Shape":
        """The size that a player shows, made to fit and even (H.264 in yuv420p knows no odd sizes)."""
        width, height = probe.shown_size
        scale = min(1.0, longer_side / max(width, height))
        even_width, even_height = (max(2, int(side * scale + 0.01) // 2 * 2) for side in (width, height))
        return cls(even_width, even_height)

    def filters_for(self, probe: Probe) -> list[str]:
        """ffmpeg's filters that bring a picture into this shape, undistorted."""
        width, height = probe.shown_size
        scale = min(self.width / width, self.height / height)
        inner = [max(2, round(side * scale / 2) * 2) for side in (width, height)]
        inner = [min(inner[0], self.width), min(inner[1], self.height)]
        if abs(inner[0] - self.width) <= 2 and abs(inner[1] - self.height) <= 2:
            return [f"scale={self.width}:{self.height}", "setsar=1"]
        return [f"scale={inner[0]}:{inner[1]}", "setsar=1", f"pad={self.width}:{self.height}:-1:-1"]


@dataclass(slots=True)
class Frames:
    """The frames of the clip as they are made: bytes in a file, and a table of them."""

    path: Path
    shape: Shape
    sets: ParameterSets = field(default_factory=ParameterSets)
    table: list[Picture] = field(default_factory=list)
    encoded: int = 0
    copied: int = 0
    ids: dict[tuple[str, ...], int] = field(default_factory=dict)
    """The id of the parameter sets that are ours, by what they depend on."""


class Cutter:
    """Makes the frames of a clip, piece by piece."""

    def __init__(self, frames: Frames, directory: Path, time_limit_seconds: float) -> None:
        self._frames = frames
        self._directory = directory
        self._time_limit_seconds = time_limit_seconds

    async def add(self, indexed: Indexed, position: int) -> None:
        """Adds the wanted frames of a reel, the first one shown at `position` ticks."""
        if not indexed.wanted:
            return
        plan = self._plan(indexed)
        if plan is not None:
            try:
                await self._splice(indexed, plan, position)
                return
            except ConflictingSetsError:
                pass  # the stream changes its parameters: then nothing of it can be copied
        await self._encode_all(indexed, position)

    # -- copying -------------------------------------------------------------------------------------------------------

    def _plan(self, indexed: Indexed) -> "_Plan | None":
        """Which packets are copied and which encoded; None when there is nothing that can be copied."""
        probe, packets, shape = indexed.probe, indexed.packets, self._frames.shape
        as_it_is = (
            (probe.width, probe.height) == (shape.width, shape.height)
            and probe.pixel_format == "yuv420p"
            and abs(probe.pixel_aspect - 1) < 0.001
            and probe.rotation == 0
            and not probe.is_interlaced
            and probe.frames_per_second <= _MOST_FRAMES_PER_SECOND + 1
        )
        if not as_it_is or not indexed.clean:
            return None
        begin, end = indexed.skip_seconds - ROUNDING_SECONDS, indexed.end_seconds - ROUNDING_SECONDS
        first_shown = min(packet.shown_at for packet in indexed.wanted)
        splits = sorted(indexed.clean)
        copy_from = next((number for number in splits if packets[number].shown_at >= begin), None)
        decode_from = max((number for number in splits if packets[number].shown_at <= first_shown), default=None)
        if copy_from is None or decode_from is None or packets[copy_from].shown_at >= end:
            return None
        until = _clean_end(packets, end)
        tail_until = None
        if until is None:
            last = max(number for number in splits if packets[number].shown_at < end)
            tail_until = min((number for number in splits if number > last), default=len(packets))
            until = last
        if until <= copy_from or packets[copy_from].shown_at + _LEAST_COPIED_SECONDS > end:
            return None
        return _Plan(decode_from, copy_from, until, tail_until)

    async def _splice(self, indexed: Indexed, plan: "_Plan", position: int) -> None:
        """Encodes the beginning, copies the middle, encodes the end."""
        stream = self._directory / f"{indexed.reel.file.path.name}.h264"
        sets, head, tail = await asyncio.to_thread(_scan, stream, indexed.packets, plan)
        self._frames.sets.add(sets)
        begin, end = indexed.skip_seconds - ROUNDING_SECONDS, indexed.end_seconds - ROUNDING_SECONDS
        copied = indexed.packets[plan.copy_from : plan.copy_until]
        before, after = _Part(), _Part()
        if plan.decode_from < plan.copy_from:
            packets = indexed.packets[plan.decode_from : plan.copy_from]
            before = await self._encode_part(head, packets, begin, end, indexed.probe)
        if plan.tail_until is not None:
            packets = indexed.packets[plan.copy_until : plan.tail_until]
            after = await self._encode_part(tail, packets, begin, end, indexed.probe)
        moments = [*before.moments, *(packet.shown_at for packet in copied), *after.moments]
        if sorted(moments) != sorted(packet.shown_at for packet in indexed.wanted):
            raise ConflictingSetsError  # not every frame could be decoded
        self._frames.copied += len(copied)
        self._frames.encoded += len(moments) - len(copied)
        self._write(before, indexed.skip_seconds, position)
        await asyncio.to_thread(self._copy, stream, indexed, plan, position)
        self._write(after, indexed.skip_seconds, position)

    def _copy(self, stream: Path, indexed: Indexed, plan: "_Plan", position: int) -> None:
        with stream.open("rb") as file, self._frames.path.open("ab") as frames:
            file.seek(sum(packet.size for packet in indexed.packets[: plan.copy_from]))
            for number in range(plan.copy_from, plan.copy_until):
                packet = indexed.packets[number]
                sample = sample_of(list(units_of(file.read(packet.size))))
                frames.write(sample)
                self._note(packet.shown_at - indexed.skip_seconds, position, len(sample), number in indexed.clean)

    async def _encode_part(
        self, stream: bytes, packets: Sequence[Packet], begin: float, end: float, probe: Probe
    ) -> "_Part":
        """Encodes those of the packets that are shown from `begin` to `end`; frame by frame, whatever their times are."""
        moments = sorted(packet.shown_at for packet in packets)
        first = sum(moment < begin for moment in moments)
        last = sum(moment < end for moment in moments)
        source = self._directory / "part.h264"
        await asyncio.to_thread(source.write_bytes, stream)
        pictures = [f"trim=start_frame={first}:end_frame={last}", "setpts=N/30/TB"]
        arguments = ["-threads", "2", "-r", "30", *local_input("h264", source)]
        samples, _, keys = await self._encode([*arguments, *self._output(pictures, probe, 30.0, lookahead=0)])
        return _Part(samples, moments[first : first + len(samples)], keys)

    # -- encoding ------------------------------------------------------------------------------------------------------

    async def _encode_all(self, indexed: Indexed, position: int) -> None:
        """Encodes the piece, cut by filters on decoded frames."""
        probe = indexed.probe
        skip, end = indexed.skip_seconds + indexed.start_seconds, indexed.end_seconds + indexed.start_seconds
        pictures = [
            f"trim=start={skip - ROUNDING_SECONDS:.6f}:end={end - ROUNDING_SECONDS:.6f}",
            *(["bwdif=deint=interlaced"] if probe.is_interlaced else []),
            *([f"fps={_MOST_FRAMES_PER_SECOND:g}"] if probe.frames_per_second > _MOST_FRAMES_PER_SECOND + 1 else []),
            *self._frames.shape.filters_for(probe),
        ]
        arguments = ["-copyts", "-threads", "2", *local_input(indexed.reel.file.container, indexed.reel.file.path)]
        rate = min(probe.frames_per_second, _MOST_FRAMES_PER_SECOND)
        samples, moments, keys = await self._encode([*arguments, *self._output(pictures, probe, rate, lookahead=10)])
        self._frames.encoded += len(samples)
        self._write(_Part(samples, moments, keys), skip, position)

    def _output(self, pictures: Sequence[str], probe: Probe, rate: float, *, lookahead: int) -> list[str]:
        parameters = f"sps-id={self._id_for((*probe.traits, f'{rate:g}'))}:rc-lookahead={lookahead}"
        return [
            *("-map", "0:v:0", "-vf", ",".join([*pictures, "format=yuv420p"]), "-fps_mode", "passthrough"),
            *("-enc_time_base", f"1:{TICKS}", "-c:v", "libx264", "-preset", "veryfast", "-crf", "21"),
            *("-bf", "0", "-level", _LEVEL, "-threads", "2", "-x264-params", parameters),
            *("-f", "tee", "[f=h264]part.out.h264|[f=framecrc]part.out.txt"),
        ]

    def _id_for(self, key: tuple[str, ...]) -> int:
        """The id of the parameter sets of what is encoded with these colours and this rate."""
        if (number := self._frames.ids.get(key)) is None:
            free = self._frames.sets.free_id(list(self._frames.ids.values()))
            if free is None:
                raise ExternalServiceError("ffmpeg", "the stream changes its parameters too often")
            number = self._frames.ids[key] = free
        return number

    async def _encode(self, arguments: Sequence[str]) -> "tuple[list[bytes], list[float], list[bool]]":
        """The samples of what ffmpeg encodes, when each is shown, and which are key frames."""
        await run_ffmpeg(arguments, self._directory, time_limit_seconds=self._time_limit_seconds)
        packets = read_packets(self._directory / "part.out.txt")

        def read() -> list[bytes]:
            samples: list[bytes] = []
            with (self._directory / "part.out.h264").open("rb") as file:
                for packet in packets:
                    units = list(units_of(file.read(packet.size)))
                    self._frames.sets.add(units)
                    samples.append(sample_of(units))
            return samples

        samples = await asyncio.to_thread(read)
        return samples, [packet.shown_at for packet in packets], [packet.is_key for packet in packets]

    def _write(self, part: "_Part", skip_seconds: float, position: int) -> None:
        with self._frames.path.open("ab") as file:
            for sample, moment, key in zip(part.samples, part.moments, part.keys, strict=True):
                file.write(sample)
                self._note(moment - skip_seconds, position, len(sample), key)

    def _note(self, seconds: float, position: int, size: int, key: bool) -> None:
        """Notes a frame; the first one is shown from the clip's beginning on."""
        shown_at = max(position, position + round(seconds * TICKS)) if self._frames.table else 0
        self._frames.table.append(Picture(shown_at, size, key))


@dataclass(slots=True)
class _Part:
    """Frames in the order in which they are decoded."""

    samples: list[bytes] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    keys: list[bool] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Packets by number: decoded from `decode_from`, copied from `copy_from` to `copy_until`, decoded to `tail_until`."""

    decode_from: int
    copy_from: int
    copy_until: int
    tail_until: int | None


def _clean_end(packets: Sequence[Packet], end: float) -> int | None:
    """How many packets there are before `end`, if those are all that come first."""
    count = sum(packet.shown_at < end for packet in packets)
    return count if all(packet.shown_at < end for packet in packets[:count]) else None


def _scan(stream: Path, packets: Sequence[Packet], plan: _Plan) -> tuple[list[bytes], bytes, bytes]:
    """The parameter sets of the packets that are used, and the byte streams of the ends that are to be decoded.

    Raises ConflictingSetsError when a set changes on the way.
    """
    sizes = [packet.size for packet in packets]
    until = plan.tail_until if plan.tail_until is not None else plan.copy_until
    found = ParameterSets()
    ends: list[list[bytes]] = [[], []]
    with stream.open("rb") as file:
        for number in range(until):
            content = file.read(sizes[number])
            if number == 0 or number >= plan.decode_from:
                found.add([unit for unit in units_of(content) if unit[0] & 31 in (7, 8)])
            if plan.decode_from <= number < plan.copy_from:
                ends[0].append(content)
            elif number >= plan.copy_until:
                ends[1].append(content)
    sets = found.units
    known = b"".join(b"\x00\x00\x00\x01" + unit for unit in sets)
    return sets, known + b"".join(ends[0]), known + b"".join(ends[1])
