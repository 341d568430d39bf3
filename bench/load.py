"""The load generator: sends requests that were signed beforehand over raw sockets, from a process of its own.

`python -m bench.load PORT CONNECTIONS FILE`: the file is a msgpack list of whole HTTP requests. Each connection is kept
alive and sends the next request as soon as the last is answered. The result is one line of JSON, with the share of a core
that the generator itself took: it must be well below 1, or it measures itself.
"""

import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time

import msgspec
import uvloop

from goalsvc.devstack.ports import HOST

_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Volley:
    """What became of one burst of requests."""

    requests: int
    seconds: float
    statuses: dict[str, int]
    p50_ms: float
    p99_ms: float
    generator_cpu: float
    """Share of one core that the generator took."""

    @property
    def per_second(self) -> float:
        """Requests answered per second."""
        return self.requests / self.seconds

    @property
    def all_ok(self) -> bool:
        """Whether every answer was 200."""
        return set(self.statuses) == {"200"}


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Connection(asyncio.Protocol):
    """One connection that is kept alive: answers come in the order of requests."""

    def __init__(self, requests: Iterator[bytes], statuses: Counter[str], seconds: list[float]) -> None:
        self._requests = requests
        self._statuses = statuses
        self._seconds = seconds
        self._received = b""
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def send_next(self) -> None:
        """Sends the next request, or ends when there is none."""
        assert self._transport is not None
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            self.done.set_result(None)
            return
        self._sent_at = perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        head_end = self._received.find(_HEAD_END)
        if head_end < 0 or len(self._received) < head_end + len(_HEAD_END) + _content_length(self._received, head_end):
            return
        self._seconds.append(perf_counter() - self._sent_at)
        self._statuses[self._received[9:12].decode()] += 1
        self._received = b""
        self.send_next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionResetError("the server hung up"))


def _content_length(received: bytes, head_end: int) -> int:
    at = received.find(b"content-length:", 0, head_end)
    return int(received[at + 15 : received.index(b"\r\n", at)]) if at >= 0 else 0


async def _run(port: int, connections: int, requests: Sequence[bytes]) -> Volley:
    loop = asyncio.get_running_loop()
    statuses: Counter[str] = Counter()
    seconds: list[float] = []
    waiting = iter(requests)
    opened: list[Connection] = []
    for _ in range(connections):
        _, connection = await loop.create_connection(lambda: Connection(waiting, statuses, seconds), HOST, port)
        opened.append(connection)
    begun, cpu = perf_counter(), process_time()
    for connection in opened:
        connection.send_next()
    await asyncio.gather(*(connection.done for connection in opened))
    took = perf_counter() - begun
    return Volley(
        requests=len(requests),
        seconds=took,
        statuses=dict(statuses),
        p50_ms=percentile(seconds, 0.50) * 1000,
        p99_ms=percentile(seconds, 0.99) * 1000,
        generator_cpu=(process_time() - cpu) / took,
    )


async def fire(port: int, requests: Sequence[bytes], *, connections: int) -> Volley:
    """Sends these requests from a process of its own and waits for all answers."""
    with tempfile.NamedTemporaryFile(suffix=".msgpack") as file:
        file.write(msgspec.msgpack.encode(requests))
        file.flush()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.load", str(port), str(connections), file.name),
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the load generator ended with {process.returncode}")
    return msgspec.json.decode(output, type=Volley)


def main() -> None:
    """Runs one volley and prints what became of it."""
    port, connections, path = sys.argv[1:]
    requests = msgspec.msgpack.decode(Path(path).read_bytes(), type=list[bytes])
    volley = uvloop.run(_run(int(port), int(connections), requests))
    sys.stdout.write(json.dumps(msgspec.to_builtins(volley)) + "\n")


if __name__ == "__main__":
    main()
