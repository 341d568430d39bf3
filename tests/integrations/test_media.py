"""Clips: the right seconds, in a file that plays everywhere, and a clear word for every kind of trouble."""

import array
import asyncio
import math
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import av
import pytest

from goalsvc.context import ClipCutter
from goalsvc.devstack.livestream import COLUMNS, ROWS, Livestream, read_seconds, render, second_of
from goalsvc.errors import ClipImpossibleError, ExternalServiceError, NotYetError
from goalsvc.integrations.egress import EgressRules
from goalsvc.integrations.ffmpeg import local_input, run_ffmpeg
from goalsvc.integrations.gathering import GatherLimits
from goalsvc.integrations.indexing import Indexed, index
from goalsvc.integrations.media import CutLimits, FfmpegCutter
from goalsvc.integrations.mp4 import write_mp4
from goalsvc.integrations.origin import FetchLimits
from tests.support.services import Cut, RecordedCutter

from .conftest import StoppedClock, settings_with
from .stub_server import StubAnswer, StubRequest, StubServer, free_port

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def seconds_from(begins_at: datetime, count: int) -> list[datetime]:
    return [begins_at + timedelta(seconds=number) for number in range(count)]


#: A stopped clock waits for nothing.
PATIENCE = GatherLimits(wait_seconds=0)


def cutter_with(clock: StoppedClock | None = None, limits: CutLimits | None = None) -> FfmpegCutter:
    limits = limits or CutLimits(gather=PATIENCE)
    return FfmpegCutter(EgressRules(private=True), clock or StoppedClock(after(20)), limits, sleep=no_time)


async def no_time(_seconds: float) -> None:
    await asyncio.sleep(0)


# -- looking into a clip ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clip:
    """What PyAV, which is no part of goalsvc, finds in a file."""

    seconds: list[datetime]
    """The second that each frame shows."""
    frame_times: list[float]
    duration_seconds: float
    codecs: dict[str, str]
    pixel_format: str
    beeps: list[float]
    """When beeps begin."""
    atoms: list[str]


def look_into(path: Path) -> Clip:
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        codecs = {str(stream.type): stream.codec_context.name for stream in container.streams}
        duration = float(container.duration or 0) / 1_000_000
        seconds: list[datetime] = []
        times: list[float] = []
        for frame in container.decode(video):
            small = frame.reformat(COLUMNS, ROWS, "gray", interpolation="AREA")
            plane = small.planes[0]
            rows = bytes(plane)
            blocks = b"".join(rows[row * plane.line_size : row * plane.line_size + COLUMNS] for row in range(ROWS))
            seconds.append(second_of(blocks))
            times.append(float(frame.time or 0))
        pixel_format = video.codec_context.pix_fmt or ""
    return Clip(seconds, times, duration, codecs, pixel_format, list(beeps_in(path)), list(atoms_of(path)))


def beeps_in(path: Path) -> Iterator[float]:
    """When the sound gets loud after it was not, found by its energy in steps of 10 ms."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return
        resampler = av.AudioResampler(format="flt", layout="mono", rate=8000)
        samples = array.array("f")
        for frame in container.decode(audio=0):
            for part in resampler.resample(frame):
                samples.frombytes(bytes(part.planes[0])[: part.samples * 4])
    steps = [samples[at : at + 80] for at in range(0, len(samples), 80)]
    loudness = [math.sqrt(sum(sample * sample for sample in step) / len(step)) for step in steps]
    threshold = (sorted(loudness)[len(loudness) // 2] + max(loudness)) / 2
    loud = False
    for number, value in enumerate(loudness):
        if value > threshold and not loud:
            yield number / 100
        loud = value > threshold


def atoms_of(path: Path) -> Iterator[str]:
    """The names of an mp4's outermost boxes, in order."""
    content = path.read_bytes()
    at = 0
    while at < len(content):
        size = int.from_bytes(content[at : at + 4])
        yield content[at + 4 : at + 8].decode("ascii")
        at += size


async def cut(cutter: ClipCutter, url: str, begins_at: datetime, duration: float) -> Clip:
    async with cutter.cut(url, begins_at, duration) as made:
        clip = await asyncio.to_thread(look_into, made.path)
    assert not made.path.exists()
    return clip


# -- origins ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 seconds from noon on, as segments of 2 s."""
    directory = tmp_path_factory.mktemp("reel")
    render(directory, NOON, 20, True)
    return directory


class Origin:
    """Serves files, whole or by range, and playlists that a test writes."""

    def __init__(self, stub: StubServer) -> None:
        self.stub = stub
        self.files: dict[str, bytes] = {}
        self.missing: set[str] = set()
        self.ignores_ranges = False
        stub.answering = self._answer

    def url(self, path: str = "/live.m3u8") -> str:
        return self.stub.url + path

    def add(self, directory: Path, prefix: str = "/") -> None:
        self.files |= {prefix + path.name: path.read_bytes() for path in directory.iterdir()}

    def playlist(self, *lines: str, path: str = "/live.m3u8") -> str:
        self.files[path] = "\n".join(["#EXTM3U", "#EXT-X-TARGETDURATION:2", *lines, ""]).encode()
        return self.url(path)

    def fetched(self) -> list[str]:
        return [request.path for request in self.stub.requests if not request.path.endswith(".m3u8")]

    def _answer(self, request: StubRequest) -> StubAnswer:
        content = self.files.get(request.path)
        if content is None or request.path in self.missing:
            return StubAnswer(status=404)
        if (wanted := request.headers.get("range")) and not self.ignores_ranges:
            first, last = (int(number) for number in wanted.removeprefix("bytes=").split("-"))
            return StubAnswer(content[first : last + 1], status=206)
        return StubAnswer(content)


@pytest.fixture
def origin(stub: StubServer, reel: Path) -> Origin:
    served = Origin(stub)
    served.add(reel)
    return served


def segments(
    numbers: Sequence[int], *, prefix: str = "", suffix: str = "ts", dated: datetime | None = NOON
) -> list[str]:
    """Lines that name segments of 2 s; the first tells its date."""
    lines: list[str] = []
    for position, number in enumerate(numbers):
        if dated is not None and position == 0:
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{(dated + timedelta(seconds=2 * number)).isoformat()}")
        lines += ["#EXTINF:2.000,", f"{prefix}segment-{number:05}.{suffix}"]
    return lines


async def remux(reel: Path, target: Path, *arguments: str) -> Path:
    """The reel once more, in another form."""
    whole = await asyncio.to_thread(joined_in, reel, target)
    await run_ffmpeg([*local_input("mpegts", whole), "-c", "copy", *arguments], target, time_limit_seconds=30)
    return target


def joined_in(reel: Path, target: Path) -> Path:
    target.mkdir()
    whole = target / "whole.ts"
    whole.write_bytes(b"".join(segments_in(reel)))
    return whole


def segments_in(reel: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(reel.glob("segment-*.ts"))]


FMP4 = ("-f", "hls", "-hls_time", "2", "-hls_list_size", "0", "-hls_segment_type", "fmp4")
FMP4_FILES = ("-bsf:a", "aac_adtstoasc", "-hls_segment_filename", "segment-%05d.m4s", "rendered.m3u8")


class TestClip:
    """What is in it."""

    async def test_the_right_seconds_in_a_file_that_plays(self) -> None:
        clock = StoppedClock(NOON)
        async with Livestream.open(past_seconds=400, live_seconds=0, clock=clock) as stream:
            begins_at = after(-200)
            clip = await cut(cutter_with(clock), stream.url, begins_at, 30)
        assert list(dict.fromkeys(clip.seconds)) == seconds_from(begins_at, 30)
        assert clip.duration_seconds == pytest.approx(30, abs=0.1)
        assert clip.codecs == {"video": "h264", "audio": "aac"}
        assert clip.pixel_format == "yuv420p"
        assert clip.atoms.index("moov") < clip.atoms.index("mdat")

    @pytest.mark.parametrize(("begins", "duration"), [(0, 3), (3, 5), (4.5, 2.5), (7.3, 1.4), (17, 3), (0, 20)])
    async def test_it_begins_and_ends_to_the_frame(self, origin: Origin, begins: float, duration: float) -> None:
        url = origin.playlist(*segments(range(10)), "#EXT-X-ENDLIST")
        clip = await cut(cutter_with(), url, after(begins), duration)
        assert clip.duration_seconds == pytest.approx(duration, abs=0.1)
        for at, second in zip(clip.frame_times, clip.seconds, strict=True):
            wanted = begins + at
            near = {after(math.floor(wanted + slack)) for slack in (-0.1, 0, 0.1)}
            assert second in near, f"at {at:.2f} s of the clip"

    @pytest.mark.parametrize("begins", [4, 5.5])
    async def test_sound_and_picture_are_together(self, origin: Origin, begins: float) -> None:
        url = origin.playlist(*segments(range(10)))
        clip = await cut(cutter_with(), url, after(begins), 6)
        offset = math.ceil(begins) - begins
        beeps = [beep for beep in clip.beeps if beep > 0.15]
        expected = [offset + number for number in range(7) if 0.15 < offset + number < 6]
        assert beeps == pytest.approx(expected, abs=0.08)

    async def test_only_what_is_needed_is_fetched(self, origin: Origin) -> None:
        url = origin.playlist(*segments(range(10)))
        await cut(cutter_with(), url, after(5), 4)
        assert origin.fetched() == ["/segment-00002.ts", "/segment-00003.ts", "/segment-00004.ts"]

    async def test_without_sound(self, stub: StubServer, tmp_path: Path) -> None:
        silent = Origin(stub)
        await asyncio.to_thread(render, tmp_path, NOON, 6, False)
        silent.add(tmp_path)
        clip = await cut(cutter_with(), silent.playlist(*segments(range(3))), after(1), 4)
        assert clip.codecs == {"video": "h264"}
        assert list(dict.fromkeys(clip.seconds)) == seconds_from(after(1), 4)

    async def test_fragmented_mp4(self, origin: Origin, reel: Path, tmp_path: Path) -> None:
        origin.add(await remux(reel, tmp_path / "fmp4", *FMP4, *FMP4_FILES), "/fmp4/")
        lines = segments(range(10), prefix="fmp4/", suffix="m4s")
        url = origin.playlist('#EXT-X-MAP:URI="fmp4/init.mp4"', *lines)
        clip = await cut(cutter_with(), url, after(7), 5)
        assert list(dict.fromkeys(clip.seconds)) == seconds_from(after(7), 5)
        assert clip.codecs == {"video": "h264", "audio": "aac"}

    async def test_byte_ranges(self, origin: Origin, reel: Path) -> None:
        parts = segments_in(reel)
        origin.files["/all.ts"] = b"".join(parts)
        lines = [f"#EXT-X-PROGRAM-DATE-TIME:{NOON.isoformat()}"]
        offset = 0
        for part in parts:
            lines += ["#EXTINF:2,", f"#EXT-X-BYTERANGE:{len(part)}@{offset}", "all.ts"]
            offset += len(part)
        clip = await cut(cutter_with(), origin.playlist(*lines), after(9), 4)
        assert list(dict.fromkeys(clip.seconds)) == seconds_from(after(9), 4)

    async def test_best_variant(self, origin: Origin) -> None:
        origin.playlist(*segments(range(10)), path="/high.m3u8")
        origin.files["/master.m3u8"] = (
            b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=100\nlow.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=900\nhigh.m3u8\n"
        )
        clip = await cut(cutter_with(), origin.url("/master.m3u8"), after(2), 3)
        assert list(dict.fromkeys(clip.seconds)) == seconds_from(after(2), 3)

    async def test_sound_apart_from_the_picture(self, origin: Origin, reel: Path, tmp_path: Path) -> None:
        names = (
            "-f",
            "hls",
            "-hls_time",
            "2",
            "-hls_list_size",
            "0",
            "-hls_segment_filename",
            "segment-%05d.ts",
            "r.m3u8",
        )
        origin.add(await remux(reel, tmp_path / "picture", "-an", *names), "/picture/")
        origin.add(await remux(reel, tmp_path / "sound", "-vn", *names), "/sound/")
        origin.playlist(*segments(range(10), prefix="picture/"), path="/picture.m3u8")
        origin.playlist(*segments(range(9), prefix="sound/"), path="/sound.m3u8")
        origin.files["/master.m3u8"] = (
            b'#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="x",DEFAULT=YES,URI="sound.m3u8"\n'
            b'#EXT-X-STREAM-INF:BANDWIDTH=100,AUDIO="a"\npicture.m3u8\n'
        )
        clip = await cut(cutter_with(), origin.url("/master.m3u8"), after(4), 6)
        assert list(dict.fromkeys(clip.seconds)) == seconds_from(after(4), 6)
        assert clip.codecs == {"video": "h264", "audio": "aac"}
        assert [beep for beep in clip.beeps if beep > 0.15] == pytest.approx([1, 2, 3, 4, 5], abs=0.1)

    async def test_across_a_discontinuity(self, origin: Origin, tmp_path: Path) -> None:
        """The streamer was cut off for a minute and came back silent: timestamps begin anew, sound is missing."""
        await asyncio.to_thread(render, tmp_path, after(60), 10, False)
        origin.add(tmp_path, "/again/")
        url = origin.playlist(
            *segments(range(3)), "#EXT-X-DISCONTINUITY", *segments(range(5), prefix="again/", dated=after(60))
        )
        clip = await cut(cutter_with(StoppedClock(after(70))), url, after(3), 8)
        assert list(dict.fromkeys(clip.seconds)) == seconds_from(after(3), 3) + seconds_from(after(60), 5)
        assert clip.duration_seconds == pytest.approx(8, abs=0.3)
        assert clip.codecs == {"video": "h264", "audio": "aac"}
        assert clip.atoms.index("moov") < clip.atoms.index("mdat")

    async def test_without_dates_the_live_edge_is_now(self, origin: Origin) -> None:
        url = origin.playlist(*segments(range(10), dated=None))
        clip = await cut(cutter_with(StoppedClock(after(1020))), url, after(1010), 4)
        assert list(dict.fromkeys(clip.seconds)) == seconds_from(after(10), 4)

    async def test_a_window_that_has_moved_on(self, origin: Origin) -> None:
        url = origin.playlist(*segments(range(3, 10)))
        clip = await cut(cutter_with(), url, after(2), 5)
        assert list(dict.fromkeys(clip.seconds)) == seconds_from(after(6), 5)

    async def test_what_is_left_of_a_stream_that_ended(self, origin: Origin) -> None:
        url = origin.playlist(*segments(range(10)), "#EXT-X-ENDLIST")
        clip = await cut(cutter_with(), url, after(16), 30)
        assert list(dict.fromkeys(clip.seconds)) == seconds_from(after(16), 4)
        assert clip.duration_seconds == pytest.approx(4, abs=0.1)

    @pytest.mark.parametrize(("longer_side", "size"), [(1920, (160, 90)), (100, (100, 56))])
    async def test_its_size_is_limited(self, origin: Origin, longer_side: int, size: tuple[int, int]) -> None:
        url = origin.playlist(*segments(range(3)))
        async with cutter_with(limits=CutLimits(longer_side=longer_side)).cut(url, NOON, 2) as made:
            with av.open(str(made.path)) as container:
                video = container.streams.video[0]
                assert (video.width, video.height) == size

    async def test_several_at_once(self, origin: Origin) -> None:
        url = origin.playlist(*segments(range(10)))
        cutter = cutter_with()
        clips = await asyncio.gather(*(cut(cutter, url, after(begins), 2) for begins in range(4)))
        assert [clip.seconds[0] for clip in clips] == seconds_from(NOON, 4)

    async def test_an_encoding_holds_up_no_fetching(self, origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
        encoding, goes_on, listed = threading.Event(), threading.Event(), asyncio.Event()

        def write(*arguments: Any) -> None:
            encoding.set()
            goes_on.wait(20)
            write_mp4(*arguments)

        async def noted(*arguments: Any) -> Indexed:
            if encoding.is_set():
                listed.set()
            return await index(*arguments)

        monkeypatch.setattr("goalsvc.integrations.media.write_mp4", write)
        monkeypatch.setattr("goalsvc.integrations.media.index", noted)
        cutter = cutter_with(limits=CutLimits(gather=PATIENCE, at_once=1, ahead=0))
        url = origin.playlist(*segments(range(10)))
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(cut(cutter, url, NOON, 2))
            await asyncio.to_thread(encoding.wait, 20)
            group.create_task(cut(cutter, url, after(10), 2))
            await listed.wait()
            assert "/segment-00005.ts" in origin.fetched()
            goes_on.set()

    async def test_the_frames_of_few_are_listed_at_once(self, origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
        at_once, most = 0, 0

        async def counted(*arguments: Any) -> Indexed:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            try:
                return await index(*arguments)
            finally:
                at_once -= 1

        monkeypatch.setattr("goalsvc.integrations.media.index", counted)
        cutter, url = cutter_with(limits=CutLimits(gather=PATIENCE, ahead=0)), origin.playlist(*segments(range(10)))
        await asyncio.gather(*(cut(cutter, url, after(2 * number), 2) for number in range(5)))
        assert most == 2

    async def test_nobody_elses_metadata(self, origin: Origin) -> None:
        async with cutter_with().cut(origin.playlist(*segments(range(3))), NOON, 2) as made:
            with av.open(str(made.path)) as container:
                assert set(container.metadata) <= {"major_brand", "minor_version", "compatible_brands", "encoder"}


class TestNotYet:
    async def test_seconds_to_come_are_cut_when_they_have_come(self) -> None:
        clock = StoppedClock(NOON)
        async with Livestream.open(past_seconds=10, live_seconds=20, clock=clock) as stream:
            cutter = cutter_with(clock)
            with pytest.raises(NotYetError) as caught:
                await cut(cutter, stream.url, after(-4), 10)
            assert caught.value.after_seconds == 6
            clock.at += timedelta(seconds=caught.value.after_seconds)
            clip = await cut(cutter, stream.url, after(-4), 10)
        assert list(dict.fromkeys(clip.seconds)) == seconds_from(after(-4), 10)

    async def test_nothing_is_fetched_in_vain(self, origin: Origin) -> None:
        url = origin.playlist(*segments(range(10)))
        with pytest.raises(NotYetError):
            await cut(cutter_with(), url, after(18), 30)
        assert origin.fetched() == []


class TestImpossible:
    @pytest.mark.parametrize(
        "url",
        [
            "",
            "live.m3u8",
            "file:///etc/passwd",
            "rtmp://127.0.0.1/x",
            "http://",
            "http://[::1",
            "http://0177.0.0.1/",
            "\x00",
        ],
    )
    async def test_no_address_of_http(self, url: str) -> None:
        with pytest.raises(ClipImpossibleError):
            await cut(cutter_with(), url, NOON, 5)

    async def test_an_address_that_is_not_public(self, origin: Origin) -> None:
        cutter = FfmpegCutter.from_settings(settings_with(), StoppedClock(NOON))
        with pytest.raises(ClipImpossibleError, match="not a public one"):
            await cut(cutter, origin.playlist(*segments(range(3))), NOON, 2)
        assert origin.stub.requests == []

    async def test_segments_on_a_host_that_is_not_allowed(self, origin: Origin) -> None:
        settings = settings_with(hls_allow_private=True, hls_allow_hosts=["127.0.0.1"])
        prefix = f"http://localhost:{origin.stub.port}/"
        with pytest.raises(ClipImpossibleError, match="localhost is not in GOALSVC_HLS_ALLOW_HOSTS"):
            await cut(
                FfmpegCutter.from_settings(settings, StoppedClock(NOON)),
                origin.playlist(*segments(range(3), prefix=prefix)),
                NOON,
                2,
            )
        assert origin.fetched() == []

    async def test_a_redirect_to_a_host_that_is_not_allowed(self, stub: StubServer) -> None:
        stub.answer(status=302, Location="http://169.254.169.254/latest/meta-data/")
        cutter = FfmpegCutter(EgressRules(hosts=["127.0.0.1"], private=True), StoppedClock(NOON))
        with pytest.raises(ClipImpossibleError, match=r"169\.254\.169\.254"):
            await cut(cutter, stub.url, NOON, 2)

    async def test_a_redirect_to_a_file(self, stub: StubServer) -> None:
        stub.answer(status=302, Location="file:///etc/passwd")
        with pytest.raises(ClipImpossibleError):
            await cut(cutter_with(), stub.url, NOON, 2)

    async def test_seconds_before_the_window(self, origin: Origin) -> None:
        with pytest.raises(ClipImpossibleError, match="reach back"):
            await cut(cutter_with(), origin.playlist(*segments(range(10))), after(-60), 30)

    async def test_a_stream_that_has_ended(self, origin: Origin) -> None:
        with pytest.raises(ClipImpossibleError, match="ended"):
            await cut(cutter_with(), origin.playlist(*segments(range(10)), "#EXT-X-ENDLIST"), after(30), 30)

    async def test_encrypted(self, origin: Origin) -> None:
        url = origin.playlist('#EXT-X-KEY:METHOD=SAMPLE-AES,URI="k"', *segments(range(3)))
        with pytest.raises(ClipImpossibleError, match="encrypted"):
            await cut(cutter_with(), url, NOON, 2)

    async def test_a_master_of_masters(self, origin: Origin) -> None:
        origin.files["/live.m3u8"] = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlive.m3u8\n"
        with pytest.raises(ClipImpossibleError, match="only further playlists"):
            await cut(cutter_with(), origin.url(), NOON, 2)

    async def test_without_a_picture(self, origin: Origin, reel: Path) -> None:
        origin.files["/beep.aac"] = (reel / "beep.aac").read_bytes()
        url = origin.playlist(f"#EXT-X-PROGRAM-DATE-TIME:{NOON.isoformat()}", "#EXTINF:4,", "beep.aac")
        with pytest.raises(ClipImpossibleError, match="no picture"):
            await cut(cutter_with(), url, NOON, 3)

    async def test_too_much_data(self, origin: Origin) -> None:
        url = origin.playlist(*segments(range(10)))
        with pytest.raises(ClipImpossibleError, match="more than"):
            await cut(cutter_with(limits=CutLimits(FetchLimits(media_bytes=20_000), PATIENCE)), url, NOON, 10)
        with pytest.raises(ClipImpossibleError, match="more than 100 bytes"):
            await cut(cutter_with(limits=CutLimits(FetchLimits(playlist_bytes=100), PATIENCE)), url, NOON, 10)

    async def test_broken_into_too_many_pieces(self, origin: Origin) -> None:
        lines = [line for number in range(10) for line in ("#EXT-X-DISCONTINUITY", *segments([number]))]
        with pytest.raises(ClipImpossibleError, match="breaks off 5 times"):
            await cut(
                cutter_with(limits=CutLimits(gather=GatherLimits(wait_seconds=0, pieces=4))),
                origin.playlist(*lines),
                NOON,
                10,
            )
        assert origin.fetched() == []

    async def test_no_length(self, origin: Origin) -> None:
        with pytest.raises(ClipImpossibleError):
            await cut(cutter_with(), origin.playlist(*segments(range(10))), NOON, 0)


class TestOriginFails:
    @pytest.mark.parametrize("status", [401, 404, 410, 500, 503])
    async def test_no_playlist(self, stub: StubServer, status: int) -> None:
        stub.answer(status=status)
        with pytest.raises(ExternalServiceError, match=f"hls: HTTP {status} from 127.0.0.1") as caught:
            await cut(cutter_with(), f"{stub.url}/live.m3u8?token=hush", NOON, 2)
        assert "hush" not in str(caught.value)

    @pytest.mark.parametrize("body", [b"", b"<html>", b"#EXTM3U\nsegment.ts", b"\xff\xfe\x00"])
    async def test_what_is_no_playlist(self, stub: StubServer, body: bytes) -> None:
        stub.answer(body)
        with pytest.raises(ExternalServiceError, match="hls: the playlist"):
            await cut(cutter_with(), stub.url, NOON, 2)

    async def test_nobody_listens(self) -> None:
        with pytest.raises(ExternalServiceError, match="cannot be reached"):
            await cut(cutter_with(), f"http://127.0.0.1:{await free_port()}/live.m3u8", NOON, 2)

    async def test_no_answer(self, stub: StubServer) -> None:
        stub.answer(never=True)
        with pytest.raises(ExternalServiceError, match="no answer in time"):
            await cut(cutter_with(limits=CutLimits(FetchLimits(answer_seconds=0.1), PATIENCE)), stub.url, NOON, 2)

    async def test_all_too_slow(self, stub: StubServer) -> None:
        stub.answer(never=True)
        with pytest.raises(ExternalServiceError, match=r"not fetched within 0\.1 s"):
            await cut(
                cutter_with(limits=CutLimits(gather=GatherLimits(wait_seconds=0, round_seconds=0.1))), stub.url, NOON, 2
            )

    async def test_round_and_round(self, stub: StubServer) -> None:
        stub.answer(status=302, Location="/again")
        with pytest.raises(ExternalServiceError, match="TooManyRedirects"):
            await cut(cutter_with(), stub.url, NOON, 2)

    async def test_a_segment_that_is_gone(self, origin: Origin) -> None:
        """It is asked for three times; then the seconds that follow are taken in its stead."""
        origin.missing.add("/segment-00001.ts")
        clip = await cut(cutter_with(), origin.playlist(*segments(range(10))), NOON, 4)
        assert list(dict.fromkeys(clip.seconds)) == [NOON, after(1), after(4), after(5)]
        assert clip.duration_seconds == pytest.approx(4, abs=0.05)
        assert origin.fetched().count("/segment-00001.ts") == 3

    async def test_all_segments_are_gone(self, origin: Origin) -> None:
        origin.missing |= {f"/segment-{number:05}.ts" for number in range(10)}
        with pytest.raises(ExternalServiceError, match="HTTP 404"):
            await cut(cutter_with(), origin.playlist(*segments(range(10))), NOON, 4)

    async def test_an_origin_that_ignores_ranges(self, origin: Origin, reel: Path) -> None:
        parts = segments_in(reel)
        origin.files["/all.ts"] = b"".join(parts)
        origin.ignores_ranges = True
        lines = [f"#EXT-X-PROGRAM-DATE-TIME:{NOON.isoformat()}"]
        offset = 0
        for part in parts:
            lines += ["#EXTINF:2,", f"#EXT-X-BYTERANGE:{len(part)}@{offset}", "all.ts"]
            offset += len(part)
        clip = await cut(cutter_with(), origin.playlist(*lines), after(5), 4)
        assert list(dict.fromkeys(clip.seconds)) == seconds_from(after(5), 4)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"<html>gone</html>",
            b"#EXTM3U\n#EXTINF:2,\nfile:///etc/passwd\n",
            b"ffconcat version 1.0\nfile /etc/passwd\n",
        ],
    )
    async def test_segments_that_are_something_else(self, origin: Origin, content: bytes) -> None:
        origin.files["/segment-00000.ts"] = content
        with pytest.raises(ExternalServiceError, match="neither MPEG-TS"):
            await cut(cutter_with(), origin.playlist(*segments(range(3))), NOON, 2)

    async def test_segments_that_are_noise(self, origin: Origin) -> None:
        origin.files["/segment-00000.ts"] = (b"\x47" + bytes(187)) * 50
        with pytest.raises((ExternalServiceError, ClipImpossibleError)):
            await cut(cutter_with(), origin.playlist(*segments(range(3))), NOON, 2)

    async def test_segments_that_hold_less_than_they_should(self, origin: Origin) -> None:
        """Their first picture is all there is: after it nothing but the playlist's word."""
        url = origin.playlist(f"#EXT-X-PROGRAM-DATE-TIME:{NOON.isoformat()}", "#EXTINF:600,", "segment-00000.ts")
        with pytest.raises(ExternalServiceError):
            await cut(cutter_with(), url, after(300), 30)


class TestFfmpeg:
    async def test_its_time_is_limited(self, origin: Origin) -> None:
        with pytest.raises(ExternalServiceError, match=r"ffmpeg: took longer than 0\.01 s"):
            await cut(cutter_with(limits=CutLimits(cut_seconds=0.01)), origin.playlist(*segments(range(10))), NOON, 20)

    async def test_it_is_killed_when_cancelled(self, tmp_path: Path) -> None:
        endless = ["-f", "lavfi", "-i", "testsrc", "-f", "mpegts", "endless.ts"]
        running = asyncio.create_task(run_ffmpeg(endless, tmp_path, time_limit_seconds=60))
        child = await asyncio.to_thread(child_that_writes, tmp_path / "endless.ts")
        assert os.getpriority(os.PRIO_PROCESS, child) > os.getpriority(os.PRIO_PROCESS, 0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert child not in children_in(tmp_path)

    async def test_its_last_words_are_told(self, tmp_path: Path) -> None:
        with pytest.raises(ExternalServiceError, match=r"ffmpeg: exit status \d+: .*none\.ts"):
            await run_ffmpeg([*local_input("mpegts", tmp_path / "none.ts"), "x.mp4"], tmp_path, time_limit_seconds=20)

    async def test_it_opens_nothing_but_local_files(self, stub: StubServer, tmp_path: Path) -> None:
        listing = tmp_path / "list.txt"
        listing.write_text(f"ffconcat version 1.0\nfile {stub.url}/a.ts\n")
        with pytest.raises(ExternalServiceError):
            await run_ffmpeg([*local_input("concat", listing), "x.mp4"], tmp_path, time_limit_seconds=20)
        assert stub.requests == []


class TestStandIn:
    async def test_what_was_asked_for_is_kept(self) -> None:
        cutter = RecordedCutter()
        async with cutter.cut("http://cdn.example/live.m3u8", NOON, 30) as made:
            assert made.path.read_bytes() == cutter.content
        assert not made.path.exists()
        assert cutter.cuts == [Cut("http://cdn.example/live.m3u8", NOON, 30)]

    async def test_troubles_in_order(self) -> None:
        cutter = RecordedCutter()
        cutter.troubles += [NotYetError("wait", 3), ClipImpossibleError("gone")]
        for error in (NotYetError, ClipImpossibleError):
            with pytest.raises(error):
                async with cutter.cut("http://cdn.example/live.m3u8", NOON, 30):
                    pass
        async with cutter.cut("http://cdn.example/live.m3u8", NOON, 30):
            pass
        assert len(cutter.cuts) == 3

    @pytest.mark.parametrize("real", [True, False])
    async def test_contract(self, real: bool, origin: Origin) -> None:
        """What the emulator and the real cutter have in common."""
        cutter: ClipCutter = cutter_with() if real else RecordedCutter()
        async with cutter.cut(origin.playlist(*segments(range(3))), NOON, 2) as made:
            assert made.path.suffix == ".mp4"
            assert made.path.read_bytes()[4:8] == b"ftyp"
            assert (made.begins_at, made.duration_seconds) == (NOON, 2)
        assert not made.path.exists()
        with pytest.raises(ClipImpossibleError):
            async with cutter.cut("", NOON, 2):
                pass


async def test_reading_a_clip_as_the_demo_does(origin: Origin) -> None:
    async with cutter_with().cut(origin.playlist(*segments(range(10))), after(3), 4) as made:
        assert await asyncio.to_thread(read_seconds, made.path) == seconds_from(after(3), 4)


def children_in(directory: Path) -> list[int]:
    """Processes of ours that work in `directory`."""
    found: list[int] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.joinpath("cwd").readlink() == directory:
                found.append(int(process.name))
        except OSError:
            continue
    return found


def child_that_writes(path: Path) -> int:
    """Waits until a process of ours has begun to write the file at `path`."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if path.exists() and (children := children_in(path.parent)):
            return children[0]
    raise AssertionError(f"nobody writes {path.name}")
