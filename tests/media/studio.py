"""Streams for tests: every frame shows its number, every second begins with a beep, and an origin serves them as told."""

import array
import asyncio
import math
import subprocess
import wave
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import av

from goalsvc.integrations.ffmpeg import find_ffmpeg
from tests.integrations.stub_server import StubAnswer, StubRequest, StubServer

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

#: A frame is a grid of 16 × 9 blocks; the first row holds its number in 16 bits, most significant first.
COLUMNS, ROWS = 16, 9
RATE = 48_000


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def run(directory: Path, *arguments: str, content: bytes | None = None) -> None:
    command = [find_ffmpeg(), "-hide_banner", "-loglevel", "error", "-y", *arguments]
    subprocess.run(command, cwd=directory, input=content, check=True, capture_output=True)


def frames(count: int, first: int = 0) -> bytes:
    """Frames as bytes of brightness: the number in the first row, a mark in a corner so that up is known."""
    made = []
    for number in range(first, first + count):
        bits = bytes(235 if number >> bit & 1 else 16 for bit in range(COLUMNS - 1, -1, -1))
        rest = bytearray(bytes([100 + number % 7 * 8]) * COLUMNS * (ROWS - 1))
        rest[(ROWS - 2) * COLUMNS] = 235  # bottom left
        made.append(bits + bytes(rest))
    return b"".join(made)


def beeps(path: Path, seconds: int, first: float = 0.0) -> None:
    """A second begins with a beep of 100 ms; `first` is where in its second the sound begins."""
    samples = array.array("h")
    for index in range(seconds * RATE):
        moment = index / RATE + first
        loud = moment % 1.0 < 0.1
        samples.append(int(12_000 * math.sin(2 * math.pi * 440 * moment)) if loud else 0)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())


@dataclass(frozen=True)
class Reel:
    """Segments on disk."""

    directory: Path
    segments: Sequence[str]
    seconds: float
    """Of each segment."""
    header: str | None = None

    def content(self, number: int) -> bytes:
        return (self.directory / self.segments[number]).read_bytes()


def film(
    directory: Path,
    seconds: int,
    *,
    first_second: int = 0,
    rate: str = "25",
    gop: int = 25,
    segment: float = 2.0,
    size: tuple[int, int] = (160, 90),
    coder: Sequence[str] = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency"),
    filters: str = "",
    fmp4: bool = False,
    picture: bool = True,
    sound: bool = True,
    more: Sequence[str] = (),
) -> Reel:
    """Makes a stream of that many seconds, whose frames count on from `first_second`."""
    directory.mkdir(parents=True, exist_ok=True)
    per_second = eval_rate(rate)
    count = round(seconds * per_second)
    arguments: list[str] = []
    if picture:
        grid = ["-f", "rawvideo", "-pixel_format", "gray", "-video_size", f"{COLUMNS}x{ROWS}", "-framerate", rate]
        arguments += [*grid, "-i", "pipe:0"]
    if sound:
        beeps(directory / "beeps.wav", seconds)
        arguments += ["-i", "beeps.wav"]
    if picture:
        scale = f"scale={size[0]}:{size[1]}:flags=neighbor" + (f",{filters}" if filters else "")
        arguments += ["-vf", scale, "-pix_fmt", "yuv420p", *coder, "-g", str(gop), "-threads", "1"]
        if "libx264" in coder:
            arguments += ["-keyint_min", str(gop), "-sc_threshold", "0"]
    if sound:
        arguments += ["-c:a", "aac", "-b:a", "64k"]
    kind = "m4s" if fmp4 else "ts"
    form = ["-hls_segment_type", "fmp4"] if fmp4 else []
    arguments += [*more, "-f", "hls", "-hls_time", f"{segment:g}", "-hls_list_size", "0", *form]
    arguments += ["-hls_segment_filename", f"%05d.{kind}", "made.m3u8"]
    run(directory, *arguments, content=frames(count, round(first_second * per_second)) if picture else None)
    names = sorted(path.name for path in directory.glob(f"*.{kind}"))
    return Reel(directory, names, segment, "init.mp4" if fmp4 else None)


def eval_rate(rate: str) -> float:
    numerator, _, denominator = rate.partition("/")
    return int(numerator) / int(denominator or 1)


def remux(reel: Reel, directory: Path, *arguments: str) -> Reel:
    """The same in another form, segment by segment."""
    directory.mkdir(parents=True, exist_ok=True)
    whole = directory / "whole.bin"
    content = (reel.directory / reel.header).read_bytes() if reel.header else b""
    whole.write_bytes(content + b"".join(reel.content(number) for number in range(len(reel.segments))))
    names = ["-f", "hls", "-hls_time", f"{reel.seconds:g}", "-hls_list_size", "0", "-hls_segment_filename", "%05d.ts"]
    run(directory, "-i", "whole.bin", "-c", "copy", *arguments, *names, "made.m3u8")
    return Reel(directory, sorted(path.name for path in directory.glob("*.ts")), reel.seconds)


# -- an origin ---------------------------------------------------------------------------------------------------------


@dataclass
class Clock:
    """Shows what it is set to; `sleep` moves it on, so that waiting takes no time."""

    at: datetime = NOON
    slept: float = 0.0

    def now(self) -> datetime:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.slept += seconds


@dataclass
class Show:
    """A media playlist that moves on with the clock."""

    reel: Reel
    prefix: str
    begins_at: datetime = NOON
    window: int | None = None
    """How many segments the playlist holds; None: all."""
    dated: bool = True
    lag: float = 0.0
    """How long after its end a segment appears."""
    ends: bool = False
    breaks: bool = False
    """Whether there is a discontinuity before each segment."""
    tags: Mapping[int, Sequence[str]] = field(default_factory=dict)
    """Lines before the segment of that number."""
    head: Sequence[str] = ()

    def available(self, now: datetime) -> int:
        streamed = (now - self.begins_at).total_seconds() - self.lag
        return max(0, min(len(self.reel.segments), int(streamed // self.reel.seconds)))

    def first(self, now: datetime) -> int:
        return 0 if self.window is None else max(0, self.available(now) - self.window)

    def lines(self, now: datetime) -> list[str]:
        made = [f"#EXT-X-TARGETDURATION:{math.ceil(self.reel.seconds)}", f"#EXT-X-MEDIA-SEQUENCE:{self.first(now)}"]
        made += self.head
        if self.reel.header:
            made.append(f'#EXT-X-MAP:URI="{self.prefix}{self.reel.header}"')
        for number in range(self.first(now), self.available(now)):
            if self.breaks and number:
                made.append("#EXT-X-DISCONTINUITY")
            made += self.tags.get(number, ())
            if self.dated:
                begins = self.begins_at + timedelta(seconds=number * self.reel.seconds)
                made.append(f"#EXT-X-PROGRAM-DATE-TIME:{begins.isoformat(timespec='milliseconds')}")
            made += [f"#EXTINF:{self.reel.seconds:g},", self.prefix + self.reel.segments[number]]
        if self.ends and self.available(now) == len(self.reel.segments):
            made.append("#EXT-X-ENDLIST")
        return made


class Origin:
    """Serves playlists, and of their segments those that the window holds (and one more, as origins do)."""

    def __init__(self, stub: StubServer, clock: Clock) -> None:
        self.stub = stub
        self.clock = clock
        self.shows: dict[str, Show] = {}
        self.files: dict[str, bytes] = {}
        self.missing: set[str] = set()
        self.held: dict[str, asyncio.Event] = {}
        """What is answered only when the event has come."""
        self.last_modified = False
        """Whether the files of segments say when they were written: as they ended, however late a playlist names them."""
        stub.answering = self._answer

    def url(self, path: str) -> str:
        return self.stub.url + path

    def add(self, path: str, show: Show) -> str:
        self.shows[path] = show
        return self.url(path)

    def text(self, path: str, *lines: str) -> str:
        self.files[path] = "\n".join(["#EXTM3U", *lines, ""]).encode()
        return self.url(path)

    def fetched(self) -> list[str]:
        return [request.path for request in self.stub.requests if request.method == "GET"]

    def _answer(self, request: StubRequest) -> StubAnswer:
        answer = replace(self._found(request.path), after=self.held.get(request.path))
        return replace(answer, body=b"") if request.method == "HEAD" else answer

    def _found(self, path: str) -> StubAnswer:
        now = self.clock.now()
        if path in self.missing:
            return StubAnswer(status=404)
        if path in self.files:
            return StubAnswer(self.files[path])
        if path in self.shows:
            return StubAnswer("\n".join(["#EXTM3U", *self.shows[path].lines(now), ""]).encode())
        for show in self.shows.values():
            name = path.removeprefix("/").removeprefix(show.prefix)
            if not path.startswith("/" + show.prefix):
                continue
            if name == show.reel.header:
                return StubAnswer((show.reel.directory / name).read_bytes())
            if name in show.reel.segments:
                number = show.reel.segments.index(name)
                if show.first(now) - 1 <= number < show.available(now):
                    ends_at = show.begins_at + timedelta(seconds=(number + 1) * show.reel.seconds)
                    dated = {"Last-Modified": format_datetime(ends_at, usegmt=True)} if self.last_modified else {}
                    return StubAnswer(show.reel.content(number), headers=dated)
        return StubAnswer(status=404)


# -- what is in a clip -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What PyAV, which is no part of goalsvc, finds in a clip."""

    numbers: list[int]
    """Of the frames, in the order in which they are shown."""
    times: list[float]
    beeps: list[float]
    """When beeps begin."""
    seconds: float
    size: tuple[int, int]
    upright: bool
    samples: int
    """Of the sound, at 48 kHz."""


def look(path: Path) -> Seen:
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        numbers, times, upright = [], [], True
        for frame in container.decode(video):
            small = frame.reformat(COLUMNS, ROWS, "gray", interpolation="AREA")
            rows, stride = bytes(small.planes[0]), small.planes[0].line_size
            numbers.append(sum((rows[at] > 127) << (COLUMNS - 1 - at) for at in range(COLUMNS)))
            upright = upright and rows[(ROWS - 1) * stride] > 180
            times.append(float(frame.time or 0))
        seconds = float(container.duration or 0) / 1_000_000
        size = (video.width, video.height)
    heard = loudness(path)
    return Seen(numbers, times, list(onsets(heard)), seconds, size, upright, len(heard) * 240)


def loudness(path: Path) -> list[float]:
    """The energy of the sound in steps of 5 ms."""
    samples = array.array("f")
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return []
        resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
        for frame in container.decode(audio=0):
            for part in resampler.resample(frame):
                samples.frombytes(bytes(part.planes[0])[: part.samples * 4])
    return [
        math.sqrt(sum(one * one for one in samples[at : at + 240]) / 240) for at in range(0, len(samples) - 239, 240)
    ]


def onsets(heard: Sequence[float]) -> Iterator[float]:
    if not heard:
        return
    threshold = max(heard) / 3
    quiet = 10
    for number, value in enumerate(heard):
        if value > threshold and quiet >= 10:
            yield number / 200
        quiet = 0 if value > threshold else quiet + 1
