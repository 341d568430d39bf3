"""What is in a clip, as a player would see it."""

import re
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from goalsvc.devstack.livestream import read_seconds
from goalsvc.integrations.ffmpeg import find_ffmpeg, local_input

_DURATION = re.compile(r"Duration: (\d+):(\d\d):(\d\d\.\d+)")
_CODEC = re.compile(r"Stream #.*?: (?:Video|Audio): (\w+)")


@dataclass(frozen=True, slots=True)
class ClipContent:
    """The seconds that a clip shows, and its form."""

    seconds: tuple[datetime, ...]
    """Read from the picture itself."""
    duration_seconds: float
    codecs: tuple[str, ...]
    fast_start: bool
    """Whether its index comes first, so that it plays while it is being fetched."""


def look_into(clip: Path) -> ClipContent:
    """Looks into the clip. Raises subprocess.CalledProcessError, ValueError when it is not one of a Livestream."""
    # Without an output ffmpeg describes its input and exits with an error.
    command = [find_ffmpeg(), "-hide_banner", "-nostdin", *local_input("mp4", clip)]
    done = subprocess.run(command, cwd=clip.parent, capture_output=True, check=False)  # noqa: S603
    description = done.stderr.decode(errors="replace")
    duration = _DURATION.search(description)
    hours, minutes, seconds = duration.groups() if duration else ("0", "0", "0")
    content = clip.read_bytes()
    return ClipContent(
        seconds=tuple(read_seconds(clip)),
        duration_seconds=int(hours) * 3600 + int(minutes) * 60 + float(seconds),
        codecs=tuple(_CODEC.findall(description)),
        fast_start=0 <= content.find(b"moov") < content.find(b"mdat"),
    )
