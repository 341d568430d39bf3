"""What a clip costs: `python -m bench.clips` cuts 30 s out of streams of several sizes, each in a process of its own.

The stream is encoded once per size (test pictures, a group of pictures every 2 s, B-frames, 5 to 8 Mbit/s), served from this
machine, and cut at three places within a group of pictures. Processor seconds are those of the cutting process and of its
ffmpeg; memory is the largest resident size of any one of them.
"""

import asyncio
import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench.report import Result, Spread
from goalsvc.integrations.egress import EgressRules
from goalsvc.integrations.ffmpeg import find_ffmpeg
from goalsvc.integrations.media import FfmpegCutter

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECONDS = 30
#: Where in a group of pictures of 2 s the clip begins: at its beginning, and where half and nearly all of it is encoded.
BEGINS = (2.0, 2.97, 2.1)


@dataclass(frozen=True)
class Size:
    """A stream."""

    name: str
    size: str
    rate: int
    bitrate: str
    codec: tuple[str, ...] = ("-c:v", "libx264", "-preset", "veryfast")


SIZES = (
    Size("720p30", "1280x720", 30, "3M"),
    Size("1080p30", "1920x1080", 30, "5M"),
    Size("1080p60", "1920x1080", 60, "8M"),
)
#: Larger than a clip may be, so that all of it is encoded; only `python -m bench.clips` measures it.
LARGEST = Size("2160p30", "3840x2160", 30, "16M", ("-c:v", "libx264", "-preset", "ultrafast"))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the standard library
        """Logs nothing."""


class _Clock:
    def now(self) -> datetime:
        """Returns a minute after the stream began."""
        return NOON + timedelta(seconds=60)


def stream(size: Size, directory: Path) -> None:
    """Writes 36 s of a stream into `directory`."""
    command = [
        *(find_ffmpeg(), "-hide_banner", "-loglevel", "error", "-y"),
        *("-f", "lavfi", "-i", f"testsrc2=size={size.size}:rate={size.rate}"),
        *("-f", "lavfi", "-i", "sine=frequency=220:beep_factor=4:sample_rate=48000", "-t", "36"),
        *(*size.codec, "-b:v", size.bitrate, "-g", str(2 * size.rate), "-sc_threshold", "0"),
        *("-c:a", "aac", "-f", "hls", "-hls_time", "2", "-hls_list_size", "0", "made.m3u8"),
    ]
    subprocess.run(command, cwd=directory, check=True)
    text = (directory / "made.m3u8").read_text()
    dated = text.replace("#EXTINF", f"#EXT-X-PROGRAM-DATE-TIME:{NOON.isoformat()}\n#EXTINF", 1)
    (directory / "live.m3u8").write_text(dated)


async def cut(url: str, begins: float) -> None:
    """Cuts one clip and writes what it cost to standard output, as JSON."""
    cutter = FfmpegCutter(EgressRules(private=True), _Clock())
    begun = time.perf_counter()
    async with cutter.cut(url, NOON + timedelta(seconds=begins), SECONDS) as clip:
        wall, size = time.perf_counter() - begun, clip.path.stat().st_size
    used = os.times()
    # Its own peak is the kernel's for this program: `ru_maxrss` remembers the process that started it.
    most = max(_own_peak_kib(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    processor = used.user + used.system + used.children_user + used.children_system
    print(json.dumps({"processor": processor, "wall": wall, "mebibytes": most / 1024, "size": size}))


def _own_peak_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def measure(size: Size) -> Sequence[dict[str, float]]:
    """What clips of that stream cost, one for each beginning."""
    with tempfile.TemporaryDirectory(prefix="goalsvc-bench-") as name:
        stream(size, Path(name))
        handler = functools.partial(_Quiet, directory=name)
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            url = f"http://127.0.0.1:{server.server_port}/live.m3u8"
            made = []
            for begins in BEGINS:
                command = [sys.executable, "-m", "bench.clips", url, str(begins)]
                done = subprocess.run(command, check=True, capture_output=True)
                made.append(json.loads(done.stdout))
            server.shutdown()
    return made


async def clips(say: Callable[[str], None]) -> list[Result]:
    """Row 11: a clip of 30 s of each size; the targets are those of 1080p30."""
    results: list[Result] = []
    for size in SIZES:
        say(f"row 11: clips of {size.name}")
        made = await asyncio.to_thread(measure, size)
        processor = Spread(tuple(one["processor"] for one in made))
        memory = Spread(tuple(one["mebibytes"] for one in made))
        seconds, mebibytes = (4, 200) if size.name == "1080p30" else (None, None)
        what = f"a clip of {SECONDS:g} s of {size.name}: processor time"
        basis = "with the start of its process"
        results += [
            Result(11, what, processor.median, "s", at_most=seconds, spread=processor, basis=basis),
            Result(11, "· peak resident memory", memory.median, "MiB", at_most=mebibytes, spread=memory),
        ]
    return results


def main() -> None:
    """Prints a row for each size."""
    if len(sys.argv) == 3:
        asyncio.run(cut(sys.argv[1], float(sys.argv[2])))
        return
    print("| stream | processor seconds | of these the start of Python | clips a minute and core | peak memory |")
    print("| --- | --- | --- | --- | --- |")
    command = [sys.executable, "-c", "import os, goalsvc.integrations.media; t = os.times(); print(t.user + t.system)"]
    start = float(subprocess.run(command, check=True, capture_output=True).stdout)
    for size in (*SIZES, LARGEST):
        made = measure(size)
        processor = [one["processor"] for one in made]
        mean = sum(processor) / len(processor)
        most = max(one["mebibytes"] for one in made)
        spread = f"{min(processor):.1f} – {max(processor):.1f}"
        print(f"| {size.name} | {spread} | {start:.1f} | {60 / (mean - start):.0f} | {most:.0f} MiB |", flush=True)


if __name__ == "__main__":
    main()
