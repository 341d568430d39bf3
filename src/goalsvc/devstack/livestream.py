"""A livestream to cut clips from: real HLS, real H.264 and AAC, and every frame tells which second it belongs to.

`goalsvc demo` and the tests cannot wait six minutes for a show to be streamed, so the past is rendered at once, much
faster than real time, and dated back; the seconds to come are rendered with it and published as they come.

A frame is a grid of 16 × 9 blocks, black or white. The first two rows hold the second since 1970 as 32 bits, the third
one a checksum, so that a program reads back which seconds a clip holds; the rest is there to be looked at.
"""

import asyncio
import re
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path

from goalsvc.clock import Clock, SystemClock
from goalsvc.integrations.ffmpeg import find_ffmpeg, local_input

COLUMNS, ROWS = 16, 9
BLOCK_PIXELS = 10
FRAMES_PER_SECOND = 10
SEGMENT_SECONDS = 2

_FRAME_BLOCKS = COLUMNS * ROWS

# A beep at the beginning of every second, so that one hears when sound and picture are apart. Encoding sound is most of the
# work, so a few seconds are encoded and repeated: at 32 kHz four seconds are a whole number of AAC frames (1024 samples).
_CYCLE_FRAMES = 4 * 32000 // 1024
_BEEP = (
    *("-f", "lavfi", "-i", "sine=frequency=220:beep_factor=4:sample_rate=32000"),
    *("-c:a", "aac", "-b:a", "48k", "-t", "9"),
)
_SEGMENT_PATH = re.compile(r"/segment-(\d{5})\.ts")


@dataclass(frozen=True, slots=True)
class Livestream:
    """A stream that is being served; its address is `url`."""

    url: str
    begins_at: datetime
    """The first second that was ever streamed."""
    rendered_until: datetime
    """Where it ends: then the playlist says so."""
    _directory: Path
    _clock: Clock
    _window_seconds: float

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        *,
        past_seconds: int = 400,
        live_seconds: int = 60,
        window_seconds: float = 1800.0,
        clock: Clock | None = None,
        sound: bool = True,
    ) -> AsyncIterator["Livestream"]:
        """Serves a stream on 127.0.0.1 that began `past_seconds` ago and goes on for `live_seconds` from now.

        The playlist holds the last `window_seconds`. Raises ExternalServiceError when there is no ffmpeg,
        subprocess.CalledProcessError when it fails. Leaving stops the server and deletes the files.
        """
        clock = clock or SystemClock()
        # Whole segments before this second: the live edge is where the clock is.
        begins_at = clock.now().replace(microsecond=0) - timedelta(seconds=ceil_to_segment(past_seconds))
        length = ceil_to_segment(past_seconds) + ceil_to_segment(live_seconds)
        with tempfile.TemporaryDirectory(prefix="goalsvc-livestream-") as name:
            directory = Path(name)
            rendering = asyncio.ensure_future(asyncio.to_thread(render, directory, begins_at, length, sound))
            try:
                await asyncio.shield(rendering)
            except asyncio.CancelledError:  # the thread cannot be, and it writes into what is about to be deleted
                await asyncio.gather(rendering, return_exceptions=True)
                raise
            server = await asyncio.start_server(lambda r, w: stream._serve(r, w), "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            until = begins_at + timedelta(seconds=length)
            stream = cls(f"http://127.0.0.1:{port}/live.m3u8", begins_at, until, directory, clock, window_seconds)
            async with server:
                yield stream

    def second_at(self, instant: datetime) -> datetime:
        """The second that the frames streamed at `instant` show."""
        return instant.astimezone(UTC).replace(microsecond=0)

    def playlist(self) -> str:
        """The playlist as of now: the segments that have been streamed whole and are within the window."""
        now = self._clock.now()
        streamed = int((min(now, self.rendered_until) - self.begins_at).total_seconds() // SEGMENT_SECONDS)
        first = max(0, streamed - int(self._window_seconds // SEGMENT_SECONDS))
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:3",
            f"#EXT-X-TARGETDURATION:{SEGMENT_SECONDS}",
            f"#EXT-X-MEDIA-SEQUENCE:{first}",
        ]
        for number in range(first, streamed):
            begins_at = self.begins_at + timedelta(seconds=number * SEGMENT_SECONDS)
            date = begins_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            lines += [f"#EXT-X-PROGRAM-DATE-TIME:{date}", f"#EXTINF:{SEGMENT_SECONDS:.3f},", f"segment-{number:05}.ts"]
        if now >= self.rendered_until:
            lines.append("#EXT-X-ENDLIST")
        return "\n".join([*lines, ""])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request to a connection: enough for a stream that a handful of clients read."""
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status, kind, body = await asyncio.to_thread(self._answer, request.split(" ")[1])
            head = (
                f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            writer.write(head.encode() + body)
            await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, IndexError):
            pass  # no client of ours
        finally:
            writer.close()

    def _answer(self, target: str) -> tuple[str, str, bytes]:
        path = target.partition("?")[0]
        if path == "/live.m3u8":
            return "200 OK", "application/vnd.apple.mpegurl", self.playlist().encode()
        if match := _SEGMENT_PATH.fullmatch(path):
            ends_at = self.begins_at + timedelta(seconds=(int(match[1]) + 1) * SEGMENT_SECONDS)
            segment = self._directory / path[1:]
            if ends_at <= self._clock.now() and segment.exists():
                return "200 OK", "video/mp2t", segment.read_bytes()
        return "404 Not Found", "text/plain", b"there is no such thing (any more, or yet)\n"


def read_seconds(clip: Path) -> list[datetime]:
    """The seconds of the stream that the clip's frames show, each once, in the order in which they are shown.

    Raises subprocess.CalledProcessError when ffmpeg cannot read the clip, ValueError for a frame that is not of a
    Livestream.
    """
    command = [
        *(find_ffmpeg(), "-hide_banner", "-loglevel", "error", "-nostdin"),
        *local_input("mp4", clip),
        *("-vf", f"scale={COLUMNS}:{ROWS}:flags=area", "-pix_fmt", "gray", "-f", "rawvideo", "pipe:1"),
    ]
    frames = subprocess.run(command, cwd=clip.parent, check=True, capture_output=True).stdout  # noqa: S603
    shown = (second_of(frames[at : at + _FRAME_BLOCKS]) for at in range(0, len(frames), _FRAME_BLOCKS))
    return list(dict.fromkeys(shown))


def second_of(blocks: bytes) -> datetime:
    """The second that a frame shows, read from the brightness of its 16 × 9 blocks. Raises ValueError."""
    bits = [brightness > 127 for brightness in blocks[: 3 * COLUMNS]]
    second, check = _number(bits[: 2 * COLUMNS]), _number(bits[2 * COLUMNS :])
    if len(bits) != 3 * COLUMNS or check != _checksum(second):
        raise ValueError("the frame tells no second")
    return datetime.fromtimestamp(second, UTC)


def ceil_to_segment(seconds: float) -> int:
    """`seconds` as whole segments, rounded up."""
    return ceil(seconds / SEGMENT_SECONDS) * SEGMENT_SECONDS


def render(directory: Path, begins_at: datetime, length: int, sound: bool) -> None:
    """Writes the `length` seconds of a stream that began at `begins_at` into `directory`: `segment-00000.ts` and so on.

    As fast as the machine can: 460 seconds take one. Raises ExternalServiceError, subprocess.CalledProcessError.
    """
    ffmpeg = [find_ffmpeg(), "-hide_banner", "-loglevel", "error"]
    grid = ["-f", "rawvideo", "-pixel_format", "gray", "-video_size", f"{COLUMNS}x{ROWS}"]
    inputs = [*grid, "-framerate", str(FRAMES_PER_SECOND), "-i", "pipe:0"]
    if sound:
        subprocess.run([*ffmpeg, *_BEEP, "beeps.aac"], cwd=directory, check=True, capture_output=True)  # noqa: S603
        _repeatable(directory / "beeps.aac", directory / "beep.aac")
        inputs += ["-stream_loop", "-1", "-f", "aac", "-i", "beep.aac", "-c:a", "copy"]
    pictures = [
        *("-vf", f"scale={COLUMNS * BLOCK_PIXELS}:{ROWS * BLOCK_PIXELS}:flags=neighbor", "-pix_fmt", "yuv420p"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-crf", "30", "-threads", "1"),
        *("-g", str(FRAMES_PER_SECOND * SEGMENT_SECONDS), "-sc_threshold", "0"),
    ]
    segments = [
        *("-t", str(length), "-f", "hls", "-hls_time", str(SEGMENT_SECONDS), "-hls_list_size", "0"),
        *("-hls_segment_filename", "segment-%05d.ts", "rendered.m3u8"),
    ]
    first = int(begins_at.timestamp())
    frames = b"".join(_frames(range(first, first + length)))
    command = [*ffmpeg, *inputs, *pictures, *segments]
    subprocess.run(command, cwd=directory, input=frames, check=True, capture_output=True)  # noqa: S603


def _repeatable(beeps: Path, repeatable: Path) -> None:
    """Keeps as many whole AAC frames as last four seconds, so that they can be repeated without a drift or a click.

    The encoder's first frame is silence that comes before the sound (its delay), and the cycle after it has seen no cycle
    before it; hence the second one is taken, a frame late. An ADTS header holds its frame's size in 13 bits.
    """
    content = beeps.read_bytes()
    frames: list[bytes] = []
    at = 0
    while at + 7 <= len(content):
        size = (content[at + 3] & 3) << 11 | content[at + 4] << 3 | content[at + 5] >> 5
        frames.append(content[at : at + size])
        at += max(size, 7)
    repeatable.write_bytes(b"".join(frames[_CYCLE_FRAMES + 1 : 2 * _CYCLE_FRAMES + 1]))


def _frames(seconds: Iterable[int]) -> Iterable[bytes]:
    """The frames of these seconds, a byte of brightness to a block."""
    for second in seconds:
        told = _bits(second, 2 * COLUMNS) + _bits(_checksum(second), COLUMNS)
        for number in range(FRAMES_PER_SECOND):
            # A bar that crosses the picture once a second, and a shade that changes from second to second.
            bar = number * COLUMNS // FRAMES_PER_SECOND
            row = bytearray([64 + second % 8 * 12]) * COLUMNS
            row[bar] = 235
            yield told + bytes(row) * (ROWS - 3)


def _bits(number: int, count: int) -> bytes:
    return bytes(255 if number >> bit & 1 else 0 for bit in range(count - 1, -1, -1))


def _number(bits: Iterable[bool]) -> int:
    number = 0
    for bit in bits:
        number = number << 1 | bit
    return number


def _checksum(second: int) -> int:
    """16 bits that follow from the second and look nothing like it."""
    return second * 40503 + 12345 & 0xFFFF
