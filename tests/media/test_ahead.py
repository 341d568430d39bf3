"""Encoding begins while later segments are still fetched."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from goalsvc.integrations.ahead import Ahead
from goalsvc.integrations.cutting import Cutter
from goalsvc.integrations.ffmpeg import feed_ffmpeg
from goalsvc.integrations.media import CutLimits
from tests.support.waiting import comes_to_hold

from .conftest import B_FRAMES, Cutting
from .studio import Origin, Reel, Show, after, film
from .test_streams import assert_in_step, frames_from

#: What no clip can be copied from.
NOT_COPIED = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv444p")


@pytest.fixture(scope="session")
def not_copied(directory: Callable[[str], Path]) -> Reel:
    return film(directory("not-copied"), 24, coder=NOT_COPIED)


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each clip, whether what was made ahead is part of it."""
    found: list[bool] = []
    finish = Ahead.finish

    async def noted(self: Ahead, *arguments: Any) -> Any:
        found.append((made := await finish(self, *arguments)) is not None)
        return made

    monkeypatch.setattr(Ahead, "finish", noted)
    return found


async def test_the_beginning_is_encoded_before_the_end_is_fetched(
    origin: Origin, cut: Cutting, plain: Reel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last segment comes when the frames before the first key frame are encoded."""
    encoded = origin.held[f"/a/{plain.segments[9]}"] = asyncio.Event()
    begin = Cutter.begin

    async def noted(self: Cutter, *arguments: Any) -> bool:
        begun = await begin(self, *arguments)
        encoded.set()
        return begun

    monkeypatch.setattr(Cutter, "begin", noted)
    origin.clock.at = after(40)
    async with asyncio.timeout(30):
        _, seen = await cut(origin.add("/live.m3u8", Show(plain, "a/")), after(5.52), 14)
    assert seen.numbers == frames_from(5.52, 14)


async def test_ffmpeg_encodes_what_has_come(
    origin: Origin, cut: Cutting, not_copied: Reel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last segment comes when ffmpeg has been given the first ones."""
    last = origin.held[f"/a/{not_copied.segments[9]}"] = asyncio.Event()

    async def fed(arguments: Sequence[str], directory: Path, files: AsyncIterator[Path], **limits: float) -> str:
        assert "libx264" in arguments

        async def noted() -> AsyncIterator[Path]:
            count = 0
            async for path in files:
                yield path
                count += 1
                if count == 4:
                    last.set()

        return await feed_ffmpeg(arguments, directory, noted(), **limits)

    monkeypatch.setattr("goalsvc.integrations.ahead.feed_ffmpeg", fed)
    origin.clock.at = after(40)
    async with asyncio.timeout(30):
        _, seen = await cut(origin.add("/live.m3u8", Show(not_copied, "a/")), after(5.52), 14)
    assert seen.numbers == frames_from(5.52, 14)
    assert_in_step(seen, 5.52)


@pytest.mark.parametrize("begins", [2, 5.52])
@pytest.mark.parametrize("copied", [True, False])
async def test_it_makes_the_same_clip(
    origin: Origin, cut: Cutting, plain: Reel, not_copied: Reel, prepared: list[bool], copied: bool, begins: float
) -> None:
    origin.clock.at = after(40)
    url = origin.add("/live.m3u8", Show(plain if copied else not_copied, "a/"))
    clip, seen = await cut(url, after(begins), 6.48)
    other, looked_at = await cut(url, after(begins), 6.48, limits=CutLimits(ahead=0))
    assert prepared == [True, False]
    assert seen.numbers == looked_at.numbers == frames_from(begins, 6.48)
    assert seen.times == looked_at.times
    assert seen.beeps == looked_at.beeps
    assert seen.samples == looked_at.samples
    assert (clip.begins_at, clip.duration_seconds) == (other.begins_at, other.duration_seconds)


async def test_of_a_stream_in_fragments(origin: Origin, cut: Cutting, tmp_path: Path, prepared: list[bool]) -> None:
    reel = film(tmp_path, 12, coder=B_FRAMES, fmp4=True)
    origin.clock.at = after(20)
    _, seen = await cut(origin.add("/live.m3u8", Show(reel, "f/")), after(3.4), 6)
    assert prepared == [True]
    assert seen.numbers == frames_from(3.4, 6)
    assert_in_step(seen, 3.4)


async def test_a_segment_that_is_lost(origin: Origin, cut: Cutting, not_copied: Reel, prepared: list[bool]) -> None:
    """The piece ends before it, earlier than expected: what was encoded until then is kept."""
    origin.clock.at = after(40)
    origin.missing.add(f"/a/{not_copied.segments[6]}")
    _, seen = await cut(origin.add("/live.m3u8", Show(not_copied, "a/")), after(9), 6)
    assert prepared == [True]
    assert seen.numbers == frames_from(9, 3) + frames_from(14, 3)
    assert_in_step(seen, 9)


async def test_dates_that_change_meanwhile(origin: Origin, cut: Cutting, plain: Reel, prepared: list[bool]) -> None:
    """Other seconds are wanted then: all is made again."""
    dates = {n: [f"#EXT-X-PROGRAM-DATE-TIME:{after(2 * n - (3 if n < 13 else 0)).isoformat()}"] for n in range(30)}
    origin.clock.at = after(25)
    url = origin.add("/live.m3u8", Show(plain, "a/", window=4, dated=False, tags=dates))
    _, seen = await cut(url, after(20), 10)
    assert prepared == [False]
    assert seen.numbers == frames_from(20, 10)


async def test_one_clip_at_a_time(origin: Origin, cut: Cutting, plain: Reel, prepared: list[bool]) -> None:
    """Others are made when all of their segments are there."""
    from goalsvc.integrations.egress import EgressRules
    from goalsvc.integrations.media import FfmpegCutter

    origin.clock.at = after(40)
    url = origin.add("/live.m3u8", Show(plain, "a/"))
    cutter = FfmpegCutter(EgressRules(private=True), origin.clock, sleep=origin.clock.sleep)

    async def begun(begins: float) -> datetime:
        async with cutter.cut(url, after(begins), 4) as clip:
            return clip.begins_at

    assert list(await asyncio.gather(*map(begun, (3, 9.2, 13)))) == [after(3), after(9.2), after(13)]
    assert sorted(prepared) == [False, False, True]


async def test_nothing_is_left_when_it_is_cancelled(origin: Origin, cut: Cutting, not_copied: Reel) -> None:
    """ffmpeg waits for a segment that never comes."""
    asked = f"/a/{not_copied.segments[6]}"
    origin.held[asked] = asyncio.Event()
    origin.clock.at = after(40)
    before = children()  # servers of other tests of this run
    cutting = asyncio.ensure_future(cut(origin.add("/live.m3u8", Show(not_copied, "a/")), after(5.52), 14))

    async def started() -> bool:
        return bool(children() - before)

    assert await comes_to_hold(started, 30)
    cutting.cancel()
    await asyncio.gather(cutting, return_exceptions=True)
    assert cutting.cancelled()
    assert children() <= before


def children() -> set[str]:
    """Processes that this one has started and that have not ended."""
    return {one for path in Path("/proc/self/task").glob("*/children") for one in path.read_text().split()}
