"""Cuts a clip out of joined segments: what can be copied is copied, the rest is encoded anew.

Only the frames from the first wanted one up to the next key frame are encoded, and those after the last key frame where
the end cannot be cut off cleanly. Nothing of earlier seconds is in the file: they may have been private.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from goalsvc.errors import ExternalServiceError
from goalsvc.integrations.ffmpeg import THREADS, Packet, Probe, local_input, read_packets, run_ffmpeg
from goalsvc.integrations.h264 import ConflictingSetsError, ParameterSets, sample_of, units_of
from goalsvc.integrations.indexing import ROUNDING_SECONDS, Indexed
from goalsvc.integrations.mp4 import TICKS, Picture

#: A piece that is shorter is encoded: there is little to copy.
_LEAST_COPIED_SECONDS = 1.0
_MOST_FRAMES_PER_SECOND = 60.0
_LEVEL = "4.2"


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
        self._begun: dict[bytes, _Part] = {}
        """Beginnings of pieces that are encoded already, by a hash of what they were decoded from."""
        self._encoded: tuple[str, Probe, float, _Part] | None = None
        """A reel that is encoded already: its name, what it was taken for, where it was cut."""

    @property
    def frames(self) -> Frames:
        """What has been made so far."""
        return self._frames

    async def add(self, indexed: Indexed, position: int) -> None:
        """Adds the wanted frames of a reel, the first one shown at `position` ticks."""
        if not indexed.wanted:
            return
        if self._add_encoded(indexed, position):
            return
        plan = self._plan(indexed)
        if plan is not None:
            try:
                await self._splice(indexed, plan, position)
                return
            except ConflictingSetsError:
                pass  # the stream changes its parameters: then nothing of it can be copied
        await self._encode_all(indexed, position)

    # -- while segments are still fetched ---------------------------------------------------------------------------------

    def can_copy(self, indexed: Indexed) -> bool:
        """Whether frames of the reel can be copied, as far as its beginning shows."""
        return self._is_as_wanted(indexed.probe) and bool(indexed.clean)

    async def begin(self, beginning: Indexed) -> bool:
        """Encodes what is before the first frame that can be copied; whether there is one. `add` then takes it from here."""
        if (plan := self._plan(beginning)) is None:
            return False
        stream = self._directory / f"{beginning.reel.file.path.name}.h264"
        try:
            sets, head, _ = await asyncio.to_thread(_scan, stream, beginning.packets, plan)
            self._frames.sets.add(sets)
        except ConflictingSetsError:
            return True  # `add` will find the same
        if plan.decode_from < plan.copy_from:
            packets = beginning.packets[plan.decode_from : plan.copy_from]
            begin, end = beginning.skip_seconds - ROUNDING_SECONDS, beginning.end_seconds - ROUNDING_SECONDS
            self._begun[_hash(head)] = await self._encode_part(head, packets, begin, end, beginning.probe)
        return True

    def outputs_for_all(self, beginning: Indexed) -> list[str]:
        """ffmpeg's outputs that encode a reel of which the beginning is known; `take_all` reads what they hold."""
        probe = beginning.probe
        skip, end = beginning.skip_seconds + beginning.start_seconds, beginning.end_seconds + beginning.start_seconds
        rate = min(probe.frames_per_second, _MOST_FRAMES_PER_SECOND)
        return self._output(self._filters(probe, skip, end), probe, rate, lookahead=10)

    async def take_all(self, name: str, beginning: Indexed) -> None:
        """Reads what `outputs_for_all` has made of the reel of that name; `add` then takes it from here."""
        part = _Part(*await self._read_encoded())
        self._encoded = name, beginning.probe, beginning.skip_seconds + beginning.start_seconds, part

    def _add_encoded(self, indexed: Indexed, position: int) -> bool:
        """Adds the frames of a reel that was encoded ahead; whether it was, as it is wanted now."""
        if self._encoded is None:
            return False
        (name, probe, skip, part), self._encoded = self._encoded, None
        same = name == indexed.reel.file.path.name and probe.looks_like(indexed.probe)
        if not same or abs(indexed.skip_seconds + indexed.start_seconds - skip) > ROUNDING_SECONDS / 2:
            return False
        end = indexed.end_seconds + indexed.start_seconds - ROUNDING_SECONDS
        count = sum(moment < end for moment in part.moments)  # without B-frames: shown as they are decoded
        self._frames.encoded += count
        self._write(_Part(part.samples[:count], part.moments[:count], part.keys[:count]), skip, position)
        return True

    # -- copying -------------------------------------------------------------------------------------------------------

    def _plan(self, indexed: Indexed) -> "_Plan | None":
        """Which packets are copied and which encoded; None when there is nothing that can be copied."""
        packets = indexed.packets
        if not self.can_copy(indexed):
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

    def _is_as_wanted(self, probe: Probe) -> bool:
        shape = self._frames.shape
        return (
            (probe.width, probe.height) == (shape.width, shape.height)
            and probe.pixel_format == "yuv420p"
            and abs(probe.pixel_aspect - 1) < 0.001
            and probe.rotation == 0
            and not probe.is_interlaced
            and probe.frames_per_second <= _MOST_FRAMES_PER_SECOND + 1
        )

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
            begun = self._begun.pop(_hash(head), None)
            before = begun or await self._encode_part(head, packets, begin, end, indexed.probe)
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
        arguments = [*THREADS, "-r", "30", *local_input("h264", source)]
        samples, _, keys = await self._encode([*arguments, *self._output(pictures, probe, 30.0, lookahead=0)])
        return _Part(samples, moments[first : first + len(samples)], keys)

    # -- encoding ------------------------------------------------------------------------------------------------------

    async def _encode_all(self, indexed: Indexed, position: int) -> None:
        """Encodes the piece, cut by filters on decoded frames."""
        probe = indexed.probe
        skip, end = indexed.skip_seconds + indexed.start_seconds, indexed.end_seconds + indexed.start_seconds
        pictures = self._filters(probe, skip, end)
        arguments = ["-copyts", *THREADS, *local_input(indexed.reel.file.container, indexed.reel.file.path)]
        rate = min(probe.frames_per_second, _MOST_FRAMES_PER_SECOND)
        samples, moments, keys = await self._encode([*arguments, *self._output(pictures, probe, rate, lookahead=10)])
        self._frames.encoded += len(samples)
        self._write(_Part(samples, moments, keys), skip, position)

    def _filters(self, probe: Probe, begin: float, end: float) -> list[str]:
        """ffmpeg's filters that leave the frames between these timestamps, in the shape of the clip."""
        return [
            f"trim=start={begin - ROUNDING_SECONDS:.6f}:end={end - ROUNDING_SECONDS:.6f}",
            *(["bwdif=deint=interlaced"] if probe.is_interlaced else []),
            *([f"fps={_MOST_FRAMES_PER_SECOND:g}"] if probe.frames_per_second > _MOST_FRAMES_PER_SECOND + 1 else []),
            *self._frames.shape.filters_for(probe),
        ]

    def _output(self, pictures: Sequence[str], probe: Probe, rate: float, *, lookahead: int) -> list[str]:
        parameters = f"sps-id={self._id_for((*probe.traits, f'{rate:g}'))}:rc-lookahead={lookahead}"
        return [
            *("-map", "0:v:0", "-vf", ",".join([*pictures, "format=yuv420p"]), "-fps_mode", "passthrough"),
            *("-enc_time_base", f"1:{TICKS}", "-c:v", "libx264", "-preset", "veryfast", "-crf", "21"),
            *("-bf", "0", "-level", _LEVEL, *THREADS, "-x264-params", parameters),
            *("-f", "tee", "[f=h264]part.out.h264|[f=framecrc]part.out.txt"),
        ]

    def _id_for(self, key: tuple[str, ...]) -> int:
        """The id of the parameter sets of what is encoded with these colours and this rate."""
        if (number := self._frames.ids.get(key)) is None:
            free = self._frames.sets.free_id(list(self._frames.ids.values()))
            if free is None:
                raise ExternalServiceError("ffmpeg", "the clip has no free H.264 parameter set id: all 32 are taken")
            number = self._frames.ids[key] = free
        return number

    async def _encode(self, arguments: Sequence[str]) -> "tuple[list[bytes], list[float], list[bool]]":
        """The samples of what ffmpeg encodes, when each is shown, and which are key frames."""
        await run_ffmpeg(arguments, self._directory, time_limit_seconds=self._time_limit_seconds)
        return await self._read_encoded()

    async def _read_encoded(self) -> "tuple[list[bytes], list[float], list[bool]]":
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


def _hash(stream: bytes) -> bytes:
    return hashlib.sha256(stream).digest()
