# ruff: noqa: A005 - nobody imports the standard library's `profile` here
"""Where the time goes: `python -m bench.profile webhook|worker|show`, a text summary and a flame graph, by py-spy.

`webhook` calls the app in process, by raw ASGI, many times side by side. `worker` and `show` look at a real worker beside a
real API: while it does what bursts of joins and leaves promise, and while one show after another is completed. Only Python
that holds the interpreter's lock is sampled: what threads wait for costs nothing.
py-spy comes with `pip install py-spy`; `BENCH_PY_SPY` may say where it is.
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any

import uvloop

from bench.lab import Lab, open_lab
from bench.latency import complete_show
from bench.sender import Sender
from bench.traffic import Mix, shows, signed
from bench.webhooks import burst, kept, put_goals
from goalsvc.app import serving

_DATABASE = "latency"
_AT_ONCE = 48
_RATE = 200
#: How many shows are settled before the sampling, for what one costs.
_SHOWS = 10
_MIX = Mix("profile", turns=2)

#: Part of a frame's file → whose time it is. The innermost frame that is somebody's decides; the standard library's is its
#: caller's.
_OWNERS = {
    "uvicorn/": "HTTP server (uvicorn, httptools)",
    "starlette/": "framework (FastAPI, Starlette)",
    "fastapi/": "framework (FastAPI, Starlette)",
    "beanie/": "documents (Beanie, Pydantic)",
    "pydantic": "documents (Beanie, Pydantic)",
    "motor/": "MongoDB (Motor, PyMongo, BSON)",
    "pymongo/": "MongoDB (Motor, PyMongo, BSON)",
    "bson/": "MongoDB (Motor, PyMongo, BSON)",
    "redis/": "Redis (redis-py)",
    "arq/": "arq's worker",
    "aiohttp/": "HTTP calls (aiohttp, httpx, pusher)",
    "yarl/": "HTTP calls (aiohttp, httpx, pusher)",
    "multidict/": "HTTP calls (aiohttp, httpx, pusher)",
    "pusher/": "HTTP calls (aiohttp, httpx, pusher)",
    "httpx/": "HTTP calls (aiohttp, httpx, pusher)",
    "httpcore/": "HTTP calls (aiohttp, httpx, pusher)",
    "prometheus_client/": "metrics",
    "blinker/": "blinker",
}
_NOBODY = "event loop and interpreter"
#: Below these everything happens: no share of it is theirs.
_ENTRIES = ("(goalsvc/cli.py)", "(goalsvc/__main__.py)")


@dataclass(frozen=True, slots=True)
class Profile:
    """Samples, and what one unit of work cost."""

    unit: str
    microseconds: float
    """Processor time of the process for one unit."""
    stacks: dict[tuple[str, ...], int]

    def summary(self, most: int = 25) -> str:
        """Who takes how much of a unit, and which functions of ours are on the stack meanwhile."""
        samples = sum(self.stacks.values())
        owners: Counter[str] = Counter()
        own: Counter[str] = Counter()
        below: Counter[str] = Counter()
        for stack, count in self.stacks.items():
            owners[_owner_of(stack)] += count
            own[stack[-1]] += count
            for frame in {frame for frame in stack if "(goalsvc/" in frame and not frame.endswith(_ENTRIES)}:
                below[frame] += count

        def lines(heading: str, counts: Counter[str]) -> list[str]:
            return [
                f"\n{heading}",
                f"{'µs':>8} {'share':>6}",
                *(
                    f"{count / samples * self.microseconds:8.0f} {count / samples:6.1%}  {name}"
                    for name, count in counts.most_common(most)
                ),
            ]

        return "\n".join(
            [
                f"{self.microseconds:,.0f} µs of processor time for each {self.unit} ({samples:,} samples)",
                *lines("whose it is", owners),
                *lines("functions of goalsvc, with all that they call", below),
                *lines("functions by themselves", own),
                "",
            ]
        )


def _owner_of(stack: Sequence[str]) -> str:
    for frame in reversed(stack):
        if frame.endswith(_ENTRIES):
            break
        place = frame.rpartition("(")[2]
        if place.startswith("goalsvc/"):
            return f"goalsvc {place.removeprefix('goalsvc/').removesuffix(')')}"
        for part, owner in _OWNERS.items():
            if place.startswith(part):
                return owner
    return _NOBODY


def read_stacks(lines: Iterable[str]) -> dict[tuple[str, ...], int]:
    """py-spy's raw format (`frame;frame;frame count`), line numbers left out."""
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in lines:
        frames, _, count = line.rpartition(" ")
        stacks[tuple(_without_line(frame) for frame in frames.split(";"))] += int(count)
    return dict(stacks)


def _without_line(frame: str) -> str:
    head, colon, _ = frame.rpartition(":")
    return f"{head})" if colon and frame.endswith(")") else frame


def find_py_spy() -> str:
    """Where py-spy is; ends the program, saying how to get it, when it is nowhere."""
    beside = Path(sys.executable).with_name("py-spy")
    found = os.environ.get("BENCH_PY_SPY") or shutil.which("py-spy") or (str(beside) if beside.exists() else None)
    if found is None:
        sys.exit("there is no py-spy: pip install py-spy, or set BENCH_PY_SPY to where it is")
    return found


@contextlib.asynccontextmanager
async def sampling(pid: int, kind: str, path: Path) -> AsyncIterator[None]:
    """Samples that process into the file for as long as this is entered."""
    words = ["record", "--gil", "--rate", str(_RATE), "--format", kind, "--output", str(path), "--pid", str(pid)]
    process = await asyncio.create_subprocess_exec(
        *(find_py_spy(), *words, "--duration", "600"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    await asyncio.sleep(1)  # it reads the interpreter's symbols first
    try:
        yield
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await process.wait()


# -- one webhook ------------------------------------------------------------------------------------------------------


async def _post(app: Any, request: bytes) -> int:
    """Calls the app as a server would, without one; the status of its answer."""
    head, _, body = request.partition(b"\r\n\r\n")
    headers = [tuple(line.split(b": ", 1)) for line in head.split(b"\r\n")[1:]]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/notify/pusher",
        "raw_path": b"/notify/pusher",
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in headers],
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
        "state": {},
    }
    answers: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        answers.append(message)

    await app(scope, receive, send)
    status: int = answers[0]["status"]
    return status


async def call_app() -> None:
    """The process that is sampled: prints µs per webhook while nobody looks, then calls the app until told to stop."""
    from goalsvc.models.goal import Goal

    app = serving()
    async with app.router.lifespan_context(app):
        goals = Goal.get_motor_collection()

        async def fresh() -> list[bytes]:
            made, _ = shows(500)
            await goals.insert_many(made)
            return [signed(body) for body in _MIX.bodies(made)]

        async def fire(requests: Sequence[bytes], accepted: Sequence[int] = (200,)) -> None:
            waiting = iter(requests)

            async def one_after_another() -> None:
                for request in waiting:
                    status = await _post(app, request)
                    if status not in accepted:
                        raise RuntimeError(f"the webhook was answered {status}")

            await asyncio.gather(*(one_after_another() for _ in range(_AT_ONCE)))

        await fire(await fresh())
        requests = await fresh()
        begun = process_time()
        await fire(requests)
        cost = (process_time() - begun) / len(requests) * 1_000_000
        told = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        sys.stdout.write(f"{cost}\n")
        sys.stdout.flush()
        while not told.done():
            # The sampler stops the process again and again: it may be late.
            await fire(await fresh(), accepted=(200, 503))
        await app.state.context.recorder.flush()
        await app.state.context.queue.flush()


async def profile_webhook(lab: Lab, directory: Path, seconds: float) -> Profile:
    """Samples a process that calls the app in itself."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.profile", "call-app"),
        env=lab.environment(_DATABASE),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    cost = float(await process.stdout.readline())

    async def wait() -> None:
        await asyncio.sleep(seconds)

    stacks = await _sampled(process.pid, directory / "webhook", wait)
    await process.communicate(b"stop\n")
    return Profile("webhook", cost, stacks)


# -- what one webhook promises ----------------------------------------------------------------------------------------


async def profile_worker(lab: Lab, directory: Path, seconds: float) -> Profile:
    """Samples a worker that announces the starts and counts the seconds of one burst of webhooks after another."""
    async with lab.worker(_DATABASE) as worker, lab.api(_DATABASE) as api:

        async def one_burst() -> int:
            goals = await put_goals(lab, _DATABASE, 150)
            requests = [signed(body) for body in _MIX.bodies(goals)]
            await burst(api, requests)
            await kept(lab, _DATABASE)
            return len(requests)

        async def bursts() -> None:
            end = asyncio.get_running_loop().time() + seconds
            while asyncio.get_running_loop().time() < end:
                await one_burst()

        await one_burst()
        before = worker.cpu_seconds()
        webhooks = await one_burst()
        cost = (worker.cpu_seconds() - before) / webhooks * 1_000_000
        stacks = await _sampled(worker.pid, directory / "worker", bursts)
    return Profile("webhook (in the worker)", cost, stacks)


# -- one settled show -------------------------------------------------------------------------------------------------


async def profile_show(lab: Lab, directory: Path, seconds: float) -> Profile:
    """Samples a worker that settles one show of ten earnings after another."""
    async with lab.worker(_DATABASE) as worker, lab.api(_DATABASE) as api, Sender.to(api, 2) as sender:

        async def settle() -> None:
            end = asyncio.get_running_loop().time() + seconds
            while asyncio.get_running_loop().time() < end:
                await complete_show(lab, sender)

        await complete_show(lab, sender)
        before = worker.cpu_seconds()
        for _ in range(_SHOWS):
            await complete_show(lab, sender)
        cost = (worker.cpu_seconds() - before) / _SHOWS * 1_000_000
        stacks = await _sampled(worker.pid, directory / "show", settle)
    return Profile("settled show (in the worker)", cost, stacks)


async def _sampled(pid: int, stem: Path, work: Callable[[], Awaitable[None]]) -> dict[tuple[str, ...], int]:
    """Does the work twice, once for the figures and once for the flame graph: py-spy writes one form at a time."""
    raw, graph = stem.with_suffix(".txt"), stem.with_suffix(".svg")
    async with sampling(pid, "raw", raw):
        await work()
    async with sampling(pid, "flamegraph", graph):
        await work()
    graph.write_text(_anywhere(graph.read_text()))
    return read_stacks(raw.read_text().splitlines())


def _anywhere(graph: str) -> str:
    """The flame graph without the paths of this machine."""
    for place in sorted({str(Path.cwd()), sys.prefix, sys.base_prefix}, key=len, reverse=True):
        graph = graph.replace(f"{place}/", "")
    return graph


async def _main(what: str, directory: Path, seconds: float) -> Profile:
    async with open_lab() as lab:
        measure = {"webhook": profile_webhook, "worker": profile_worker, "show": profile_show}[what]
        return await measure(lab, directory, seconds)


def main() -> None:
    """Prints the summary; writes it, the samples and the flame graph into the directory."""
    options = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    options.add_argument("what", choices=("webhook", "worker", "show", "call-app"))
    options.add_argument("--seconds", type=float, default=15.0, help="how long to sample")
    options.add_argument("--out", type=Path, default=Path("bench/results/profile"), help="where the files go")
    chosen = options.parse_args()
    if chosen.what == "call-app":
        uvloop.run(call_app())
        return
    find_py_spy()
    chosen.out.mkdir(parents=True, exist_ok=True)
    profile = uvloop.run(_main(chosen.what, chosen.out, chosen.seconds))
    summary = profile.summary()
    (chosen.out / f"{chosen.what}.summary.txt").write_text(summary)
    sys.stdout.write(summary)


if __name__ == "__main__":
    main()
