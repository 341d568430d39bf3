"""The generated stream says the truth about its seconds."""

import asyncio
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from goalsvc.devstack.livestream import Livestream, read_seconds, second_of
from goalsvc.integrations.ffmpeg import local_input, run_ffmpeg
from goalsvc.integrations.hls import MediaPlaylist, parse_playlist

from .conftest import StoppedClock


async def fetch(url: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(url)


async def playlist_of(stream: Livestream) -> MediaPlaylist:
    playlist = parse_playlist((await fetch(stream.url)).text, stream.url)
    assert isinstance(playlist, MediaPlaylist)
    return playlist


async def test_the_past_is_there_at_once() -> None:
    clock = StoppedClock()
    async with Livestream.open(past_seconds=11, live_seconds=10, clock=clock) as stream:
        playlist = await playlist_of(stream)
    assert stream.begins_at == clock.at - timedelta(seconds=12)
    assert [segment.begins_at for segment in playlist.segments] == [
        stream.begins_at + timedelta(seconds=number * 2) for number in range(6)
    ]
    assert playlist.segments[-1].ends_at == clock.at
    assert not playlist.ended


async def test_it_goes_on_as_time_goes_by_and_ends() -> None:
    clock = StoppedClock()
    async with Livestream.open(past_seconds=4, live_seconds=4, clock=clock) as stream:
        to_come = f"{stream.url.rpartition('/')[0]}/segment-00002.ts"
        assert (await fetch(to_come)).status_code == 404
        clock.at += timedelta(seconds=2.5)
        assert len((await playlist_of(stream)).segments) == 3
        assert (await fetch(to_come)).content[:1] == b"\x47"
        clock.at += timedelta(seconds=60)
        playlist = await playlist_of(stream)
        assert (len(playlist.segments), playlist.ended) == (4, True)


async def test_the_window_moves_on() -> None:
    async with Livestream.open(past_seconds=20, live_seconds=0, window_seconds=6, clock=StoppedClock()) as stream:
        playlist = await playlist_of(stream)
    assert [segment.begins_at for segment in playlist.segments] == [
        stream.begins_at + timedelta(seconds=seconds) for seconds in (14, 16, 18)
    ]


@pytest.mark.parametrize("path", ["/", "/segment-99999.ts", "/segment-1.ts", "/../rendered.m3u8", "/rendered.m3u8"])
async def test_nothing_else_is_served(path: str) -> None:
    async with Livestream.open(past_seconds=2, live_seconds=0, clock=StoppedClock()) as stream:
        assert (await fetch(stream.url.rpartition("/")[0] + path)).status_code == 404


async def test_frames_tell_their_second(tmp_path: Path) -> None:
    async with Livestream.open(past_seconds=6, live_seconds=0, clock=StoppedClock()) as stream:
        playlist = await playlist_of(stream)
        for number, segment in enumerate(playlist.segments):
            (tmp_path / "segment.ts").write_bytes((await fetch(segment.media.url)).content)
            await run_ffmpeg(
                [*local_input("mpegts", tmp_path / "segment.ts"), "-c", "copy", "clip.mp4"],
                tmp_path,
                time_limit_seconds=20,
            )
            shown = await asyncio.to_thread(read_seconds, tmp_path / "clip.mp4")
            begins_at = stream.begins_at + timedelta(seconds=2 * number)
            assert shown == [begins_at, begins_at + timedelta(seconds=1)]
            assert stream.second_at(begins_at + timedelta(seconds=1.9)) == shown[1]


@pytest.mark.parametrize("blocks", [b"", b"\x00" * 144, b"\xff" * 144])
def test_a_frame_of_another_stream(blocks: bytes) -> None:
    with pytest.raises(ValueError, match="tells no second"):
        second_of(blocks)
