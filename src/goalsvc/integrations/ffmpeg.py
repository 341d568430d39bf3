"""Running ffmpeg: on local files only, bounded in time, and without starving the process that runs it."""

import asyncio
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from goalsvc.errors import ExternalServiceError

THREADS = 2
NICENESS = 10

_DURATION = re.compile(r"Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)")
_PICTURE = re.compile(r"Stream #.*: Video: .*?, (\d{2,5})x(\d{2,5})")
_SOUND = re.compile(r"Stream #.*: Audio: ")


@dataclass(frozen=True, slots=True)
class Probe:
    """What a file holds."""

    duration_seconds: float
    width: int
    height: int
    """The picture's size in pixels; 0 when there is no picture."""
    has_sound: bool

    @property
    def has_picture(self) -> bool:
        """Whether there is a picture at all."""
        return self.width > 0


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


async def run_ffmpeg(arguments: Sequence[str | Path], directory: Path, *, time_limit_seconds: float) -> None:
    """Runs ffmpeg with `arguments` in `directory`, with low priority; it is killed when cancelled.

    `arguments` must be our own: nothing that comes from outside may be among them. Raises ExternalServiceError when it
    fails or takes longer than the limit.
    """
    status, errors = await _run(("-loglevel", "error", "-y", *arguments), directory, time_limit_seconds)
    if status != 0:
        reason = "; ".join(errors.split("\n")[:3]).strip("; ") or "no reason given"
        raise ExternalServiceError("ffmpeg", f"exit status {status}: {reason[:300]}")


async def probe(path: Path, container: str, *, time_limit_seconds: float = 30.0) -> Probe:
    """What the file holds, told by ffmpeg itself (there is no ffprobe beside it in the wheel).

    `container` is the name of ffmpeg's demuxer. Raises ExternalServiceError.
    """
    # Without an output ffmpeg describes its input and exits with an error.
    _, description = await _run(local_input(container, path), path.parent, time_limit_seconds)
    duration = _DURATION.search(description)
    picture = _PICTURE.search(description)
    hours, minutes, seconds = duration.groups() if duration else ("0", "0", "0")
    return Probe(
        duration_seconds=int(hours) * 3600 + int(minutes) * 60 + float(seconds),
        width=int(picture[1]) if picture else 0,
        height=int(picture[2]) if picture else 0,
        has_sound=_SOUND.search(description) is not None,
    )


async def _run(arguments: Sequence[str | Path], directory: Path, time_limit_seconds: float) -> tuple[int, str]:
    """Exit status and standard error of one run."""
    process = await asyncio.create_subprocess_exec(
        await asyncio.to_thread(find_ffmpeg),
        "-hide_banner",
        "-nostdin",
        *arguments,
        cwd=directory,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        with suppress(OSError):  # it may be through already
            os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
        async with asyncio.timeout(time_limit_seconds):
            _, errors = await process.communicate()
    except TimeoutError as error:
        raise ExternalServiceError("ffmpeg", f"took longer than {time_limit_seconds:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, errors.decode(errors="replace")
