"""The frames of joined segments, as a list: when each is shown, and where decoding can begin."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from goalsvc.errors import ClipImpossibleError, ExternalServiceError
from goalsvc.integrations.ffmpeg import Packet, Probe, local_input, read_packets, run_ffmpeg
from goalsvc.integrations.ffmpeg import probe as describe
from goalsvc.integrations.gathering import Reel

#: Times are rounded to milliseconds by playlists and to ticks by containers.
ROUNDING_SECONDS = 0.002


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
        """Seconds of the reel before the clip begins; the clip begins with a frame that can be decoded."""
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
    source = ["-copyts", *local_input(reel.file.container, reel.file.path)]
    try:
        told = await run_ffmpeg(
            [*source, *listing(name, "")], directory, time_limit_seconds=time_limit_seconds, level="info"
        )
    except ExternalServiceError as error:
        held = await describe(reel.file.path, reel.file.container)
        if held.has_sound and not held.has_picture:
            raise ClipImpossibleError("the stream has no picture") from error
        raise
    probe = Probe.of(told)
    if probe.codec == "h264":
        await run_ffmpeg([*source, *listing(name, "h264")], directory, time_limit_seconds=time_limit_seconds)
    return read_listing(reel, probe, directory)


def listing(name: str, codec: str) -> list[str]:
    """ffmpeg's outputs that list the frames of its first input; H.264 is written as a byte stream as well.

    Of H.264 also the IDR frames are listed: those that `filter_units` leaves when only their slices pass.
    """
    # Frames before the first key frame are listed as well: the reel begins with them.
    copy = ["-map", "0:v:0", "-c", "copy", "-copyinkf"]
    if codec != "h264":
        return [*copy, "-f", "framecrc", f"{name}.all.txt"]
    copy.append("-bsf:v")
    return [
        *(*copy, "h264_mp4toannexb", "-f", "framecrc", f"{name}.txt"),
        *(*copy, "h264_mp4toannexb", "-f", "h264", f"{name}.h264"),
        *(*copy, "h264_mp4toannexb,filter_units=pass_types=5", "-f", "framecrc", f"{name}.idr.txt"),
    ]


def read_listing(reel: Reel, probe: Probe, directory: Path) -> Indexed:
    """Reads what ffmpeg has listed of a reel; raises ExternalServiceError when a frame has no time."""
    name = reel.file.path.name
    if probe.codec == "h264":
        packets, clean = _read_h264(name, directory)
    else:
        packets, clean = read_packets(directory / f"{name}.all.txt"), frozenset[int]()
    # Segments are cut, dated and measured by their pictures.
    start = min((packet.shown_at for packet in packets), default=probe.start_seconds)
    moved = [Packet(packet.shown_at - start, packet.size, packet.is_key) for packet in packets]
    return Indexed(reel, probe, moved, start, clean)


def _read_h264(name: str, directory: Path) -> tuple[list[Packet], frozenset[int]]:
    """The frames, and which of them are IDR frames that split the stream."""
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
