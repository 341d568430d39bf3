"""An hour of a live stream whose playlist holds three segments of three seconds."""

import random
from pathlib import Path

import pytest

from .conftest import Cutting
from .studio import Origin, Show, after, film


@pytest.mark.media
async def test_twenty_clips_of_an_hour(origin: Origin, cut: Cutting, tmp_path: Path) -> None:
    """Each is asked for when its performance is over, and holds what the window held, or what came."""
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
