"""An hour of a live stream whose playlist holds three segments of three seconds."""

import random
import resource
import tempfile
from pathlib import Path
from typing import Any

import pytest

from goalsvc.integrations.mp4 import write_mp4

from .conftest import Cutting
from .studio import Origin, Show, after, film

#: Ten or eleven segments, their frames, and the clip.
LARGEST_DIRECTORY = 2 * 1024 * 1024
MOST_GROWTH_MEBIBYTES = 16


def resident_mebibytes() -> float:
    """What this process holds in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024 / 1024


@pytest.mark.media
async def test_twenty_clips_of_an_hour(
    origin: Origin, cut: Cutting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is asked for when its performance is over, and holds what the window held, or what came.

    No clip leaves anything on disk or in memory.
    """
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    on_disk: list[int] = []
    in_memory: list[float] = []

    def write(clip: Path, *arguments: Any) -> None:
        write_mp4(clip, *arguments)
        on_disk.append(sum(path.stat().st_size for path in clip.parent.rglob("*")))

    monkeypatch.setattr("goalsvc.integrations.media.write_mp4", write)
    reel = film(tmp_path, 3600, rate="10", gop=30, segment=3, sound=False)
    url = origin.add("/live.m3u8", Show(reel, "a/", window=3))
    dice = random.Random(18)
    for moment in sorted(dice.sample(range(20, 3500), 20)):
        origin.clock.at = after(moment)
        rewind = dice.choice([0, 3, 7.5, 60])
        clip, seen = await cut(url, after(moment - rewind), 30, latest_begin=after(moment))
        begins = (clip.begins_at - after(0)).total_seconds()
        assert begins == pytest.approx(max(moment - rewind, moment // 3 * 3 - 9), abs=0.001)
        first = round(begins * 10 + 0.49)
        assert seen.numbers == list(range(first, first + 300))
        assert not list(temporary.glob("goalsvc-clip-*"))
        in_memory.append(resident_mebibytes())
    assert len(on_disk) == 20
    assert max(on_disk) < LARGEST_DIRECTORY
    assert in_memory[-1] - in_memory[2] < MOST_GROWTH_MEBIBYTES
