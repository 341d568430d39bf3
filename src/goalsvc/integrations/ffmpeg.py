"""Running ffmpeg: on local files only, bounded in time, and without starving the process that runs it."""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from goalsvc.errors import ExternalServiceError

#: With how many threads one ffmpeg decodes, and encodes.
THREADS = ("-threads", "2")
NICENESS = 10
_CHUNK_BYTES = 256 * 1024

_DURATION = re.compile(r"Duration: (\d{2,6}):(\d\d):(\d\d(?:\.\d+)?)")
_START = re.compile(r"Duration: [^\n]{0,40}, start: (-?\d{1,12}(?:\.\d{1,9})?)")
_PICTURE = re.compile(r"^ {1,4}Stream #[^\n]{1,40}: Video: ([^\n]{1,400})$", re.MULTILINE)
_SOUND = re.compile(r"^ {1,4}Stream #[^\n]{1,40}: Audio: ", re.MULTILINE)
_SIZE = re.compile(r", (\d{2,5})x(\d{2,5})")
_ASPECT = re.compile(r"\[SAR (\d{1,6}):(\d{1,6})")
_RATE = re.compile(r", (\d{1,6}(?:\.\d{1,3})?)(k?) fps")
_FORMAT = re.compile(r", (yuvj?4\d\dp\w{0,8}|\w{2,16})(?:\(([^)]{0,80})\))?, \d{2,5}x")
_ROTATION = re.compile(r"rotation of (-?\d{1,4}(?:\.\d+)?) degrees")


@dataclass(frozen=True, slots=True)
class Probe:
    """What a file holds."""

    duration_seconds: float
    width: int
    height: int
    """The picture's size in pixels as it is encoded; 0 when there is no picture."""
    has_sound: bool
    start_seconds: float = 0.0
    """The first timestamp."""
    codec: str = ""
    pixel_format: str = ""
    traits: tuple[str, ...] = ()
    """What is told of colours and fields, as in `tv`, `bt709`, `progressive`."""
    pixel_aspect: float = 1.0
    """Width of a pixel by its height."""
    rotation: int = 0
    """In degrees; a multiple of 90."""
    frames_per_second: float = 0.0

    @property
    def has_picture(self) -> bool:
        """Whether there is a picture at all."""
        return self.width > 0

    @property
    def is_interlaced(self) -> bool:
        """Whether a frame consists of two fields."""
        return any(trait.startswith(("top", "bottom")) for trait in self.traits)

    @property
    def shown_size(self) -> tuple[float, float]:
        """Width and height as a player shows them: upright, in square pixels."""
        width, height = self.width * self.pixel_aspect, float(self.height)
        return (height, width) if self.rotation % 180 == 90 else (width, height)

    def looks_like(self, other: "Probe") -> bool:
        """Whether what was made for one picture is right for the other: size, form, colours, rate."""

        def key(probe: Probe) -> tuple[object, ...]:
            look = (probe.codec, probe.pixel_format, probe.traits, probe.rotation, probe.frames_per_second)
            return probe.width, probe.height, probe.pixel_aspect, *look

        return key(self) == key(other)

    @classmethod
    def of(cls, description: str) -> "Probe":
        """Reads what ffmpeg writes of its first input."""
        description = description.partition("Stream mapping:")[0].partition("Output #")[0]
        duration, start = _DURATION.search(description), _START.search(description)
        hours, minutes, seconds = duration.groups() if duration else ("0", "0", "0")
        found = _PICTURE.search(description)
        picture = found[1] if found else ""
        size, aspect, rate = _SIZE.search(picture), _ASPECT.search(picture), _RATE.search(picture)
        form = _FORMAT.search(picture)
        turned = _ROTATION.search(description)
        horizontal, vertical = (int(aspect[1]), int(aspect[2])) if aspect else (1, 1)
        return cls(
            duration_seconds=int(hours) * 3600 + int(minutes) * 60 + float(seconds),
            width=int(size[1]) if size else 0,
            height=int(size[2]) if size else 0,
            has_sound=_SOUND.search(description) is not None,
            start_seconds=float(start[1]) if start else 0.0,
            codec=picture.split(" ", 1)[0].rstrip(","),
            pixel_format=form[1] if form else "",
            traits=tuple(trait.strip() for trait in (form[2] or "").split(",")) if form else (),
            pixel_aspect=horizontal / vertical if horizontal and vertical else 1.0,
            rotation=round(float(turned[1]) / 90) * 90 % 360 if turned else 0,
            frames_per_second=float(rate[1]) * (1000 if rate[2] else 1) if rate else 0.0,
        )


@dataclass(frozen=True, slots=True)
class Packet:
    """A coded frame: when it is shown, in seconds, its size in bytes, whether decoding can begin with it."""

    shown_at: float
    size: int
    is_key: bool


def read_packets(listing: Path) -> list[Packet]:
    """Reads what ffmpeg's `framecrc` format lists; raises ExternalServiceError when a frame has no time."""
    unit = 0.0
    packets: list[Packet] = []
    for line in listing.read_text().splitlines():
        if line.startswith("#tb 0:"):
            numerator, _, denominator = line.partition(":")[2].strip().partition("/")
            unit = int(numerator) / int(denominator)
        elif not line.startswith("#"):
            fields = [field.strip() for field in line.split(",")]
            try:
                shown_at, size = int(fields[2]) * unit, int(fields[4])
            except (ValueError, IndexError) as error:
                raise ExternalServiceError("hls", "the segments hold frames without a time") from error
            if abs(shown_at) > 1e9:  # what a missing time looks like
                raise ExternalServiceError("hls", "the segments hold frames without a time")
            flags = next((field for field in fields[6:] if field.startswith("F=0x")), "F=0x1")
            packets.append(Packet(shown_at, size, bool(int(flags[4:], 16) & 1)))
    return packets


def find_ffmpeg() -> str:
    """The ffmpeg to run: that of `$PATH`, else the one inside the wheel `imageio-ffmpeg` (extra `dev`).

    Raises ExternalServiceError when there is neither: once one is installed, trying again succeeds.
    """
    if found := shutil.which("ffmpeg"):
        return found
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise ExternalServiceError("ffmpeg", "there is none on $PATH: install ffmpeg, or goalsvc[dev]") from error


def local_input(container: str, path: Path) -> list[str]:
    """The arguments that make `path`, named from its own directory, an input of that format.

    With the format told, ffmpeg does not guess, and a file made to look like a playlist is not followed; should a format
    refer to other files all the same, they must be local ones.
    """
    return ["-protocol_whitelist", "file,pipe", "-f", container, "-i", path.name]


def piped_input(container: str) -> list[str]:
    """As `local_input`, of what `feed_ffmpeg` writes to standard input."""
    return ["-protocol_whitelist", "file,pipe", "-f", container, "-i", "pipe:0"]


async def run_ffmpeg(
    arguments: Sequence[str | Path], directory: Path, *, time_limit_seconds: float, level: str = "error"
) -> str:
    """Runs ffmpeg with `arguments` in `directory`, with low priority; what it wrote at that level. Killed when cancelled.

    `arguments` must be our own: nothing that comes from outside may be among them. Raises ExternalServiceError when it
    fails or takes longer than the limit.
    """
    status, errors = await _run(("-loglevel", level, "-y", *arguments), directory, time_limit_seconds)
    if status != 0:
        raise _failed(status, errors, level)
    return errors


def _failed(status: int, errors: str, level: str) -> ExternalServiceError:
    lines = errors.strip().split("\n")
    reason = "; ".join(lines[:3] if level == "error" else lines[-3:]).strip("; ") or "no reason given"
    return ExternalServiceError("ffmpeg", f"exit status {status}: {reason[:300]}")


async def feed_ffmpeg(
    arguments: Sequence[str | Path], directory: Path, files: AsyncIterator[Path], *, time_limit_seconds: float
) -> str:
    """Runs ffmpeg as `run_ffmpeg` does, at level `info`, and writes the files to its standard input as they come.

    The time limit begins when the last of them is written. Raises ExternalServiceError when it fails.
    """
    process = await _start(("-loglevel", "info", "-nostats", "-y", *arguments), directory, asyncio.subprocess.PIPE)
    told = asyncio.create_task(_read(process.stderr))
    try:
        with suppress(ConnectionError):  # it has ended: its status says why
            await _write(process.stdin, files)
        async with asyncio.timeout(time_limit_seconds):
            status, errors = await process.wait(), (await told).decode(errors="replace")
    except TimeoutError as error:
        raise ExternalServiceError("ffmpeg", f"took longer than {time_limit_seconds:g} s") from error
    finally:
        await _end(process)
        told.cancel()
    if status != 0:
        raise _failed(status, errors, "info")
    return errors


async def probe(path: Path, container: str, *, time_limit_seconds: float = 30.0) -> Probe:
    """What the file holds, told by ffmpeg itself (there is no ffprobe beside it in the wheel).

    `container` is the name of ffmpeg's demuxer. Raises ExternalServiceError.
    """
    # Without an output ffmpeg describes its input and exits with an error.
    _, description = await _run(local_input(container, path), path.parent, time_limit_seconds)
    return Probe.of(description)


async def _run(arguments: Sequence[str | Path], directory: Path, time_limit_seconds: float) -> tuple[int, str]:
    """Exit status and standard error of one run."""
    process = await _start(arguments, directory, asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(time_limit_seconds):
            _, errors = await process.communicate()
    except TimeoutError as error:
        raise ExternalServiceError("ffmpeg", f"took longer than {time_limit_seconds:g} s") from error
    finally:
        await _end(process)
    return process.returncode or 0, errors.decode(errors="replace")


async def _start(arguments: Sequence[str | Path], directory: Path, stdin: int) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        await asyncio.to_thread(find_ffmpeg),
        "-hide_banner",
        "-nostdin",
        *arguments,
        cwd=directory,
        stdin=stdin,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    with suppress(OSError):  # it may be through already
        os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
    return process


async def _read(stream: asyncio.StreamReader | None) -> bytes:
    return await stream.read() if stream is not None else b""


async def _write(stream: asyncio.StreamWriter | None, files: AsyncIterator[Path]) -> None:
    """Writes the files as they come, not faster than they are read, and closes the stream."""
    if stream is None:
        return
    async for path in files:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                stream.write(chunk)
                await stream.drain()
    stream.close()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kills it unless it has ended."""
    if process.returncode is None:
        process.kill()
        await process.wait()
