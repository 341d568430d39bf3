"""Rows 4 and 8: what a worker costs that has nothing to do, and what an API process takes to start and to stay."""

import asyncio
import sys
from collections.abc import Callable
from time import perf_counter

from bench.lab import Lab
from bench.report import Result, Spread
from goalsvc.devstack.ports import free_port

_DATABASE = "processes"
#: What a worker does once, when it starts, is not what it costs when it is idle.
_SETTLE_SECONDS = 3.0


async def idle(lab: Lab, *, seconds: float, say: Callable[[str], None]) -> list[Result]:
    """Row 4: processor time of a worker without work."""
    say(f"row 4: an idle worker for {seconds:g} s")
    async with lab.worker(_DATABASE) as worker:
        await asyncio.sleep(_SETTLE_SECONDS)
        cpu, begun = worker.cpu_seconds(), perf_counter()
        await asyncio.sleep(seconds)
        share = (worker.cpu_seconds() - cpu) / (perf_counter() - begun) * 100
        memory = worker.resident_mb()
    basis = f"utime + stime over {seconds:g} s; {memory:.0f} MB resident"
    return [Result(4, "an idle worker", share, "% of a core", at_most=1.0, basis=basis)]


async def start(lab: Lab, *, rounds: int, say: Callable[[str], None]) -> list[Result]:
    """Row 8: from the start of an API process to its first readiness, and its memory then."""
    say(f"row 8: {rounds} starts of the API")
    seconds, memory = [], []
    for _ in range(rounds + 1):
        port = free_port()
        command = [sys.executable, "-m", "goalsvc", "serve", "--port", str(port)]
        begun = perf_counter()
        async with lab.running("api", command, lab.environment(_DATABASE), port) as api:
            seconds.append(perf_counter() - begun)
            memory.append(api.resident_mb())
    # The first start of all made the indexes.
    took, held = Spread(tuple(seconds[1:])), Spread(tuple(memory[1:]))
    return [
        Result(
            8, "API: start to ready", took.median, "s", at_most=1.0, spread=took, basis=f"first ever {seconds[0]:.2f} s"
        ),
        Result(8, "API: resident memory once ready", held.median, "MB", at_most=110, spread=held),
    ]
