"""Row 12: one reconciliation of many running clocks: how long it takes, and how often Pusher is asked.

`python -m bench.reconciling RUNS`: runs `reconcile_clocks` so often by the runner, in a process of its own; prints the seconds
of each run.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import perf_counter

import uvloop
from bson import ObjectId

from bench.lab import Lab
from bench.report import Result, Spread
from bench.traffic import Document, shows
from goalsvc import garbage
from goalsvc.clock import to_epoch_milliseconds
from goalsvc.domain.promises import Job
from goalsvc.models.database import WITH_PROMISES
from goalsvc.models.migration import Keeping, make_indexes
from goalsvc.settings import Settings
from goalsvc.tasks import ALL
from goalsvc.tasks.reconcile import reconcile_clocks
from goalsvc.tasks.runner import Runner
from goalsvc.wiring import open_worker_context

_DATABASE = "reconciling"
_REDIS = 7


def _running(goal: Document, since: datetime) -> Document:
    """The goal with a clock that runs since then, and of which nothing was heard since."""
    mark = 2 * to_epoch_milliseconds(since)
    clock = {"marks": [mark], "viewer_marks": [], "unowned_marks": [], "rule": "performer", "floor": 0, "folded": 0}
    clock |= {"counted": 0, "running": True, "owned": True, "started": since, "revision": ObjectId(), "known_at": since}
    return goal | {"clock": clock, "context": {"started": since, "last_updated": since}}


async def reconciliation(lab: Lab, *, clocks: int, runs: int, say: Callable[[str], None]) -> list[Result]:
    """Row 12: all performers are there, save one of a hundred, who is missed."""
    say(f"row 12: {runs} reconciliations of {clocks:,} running clocks")
    since = datetime.now(UTC) - timedelta(minutes=10)
    goals, sessions = shows(clocks)
    await lab.mongo[_DATABASE]["goals"].insert_many([_running(goal, since) for goal in goals])
    await lab.mongo[_DATABASE]["sessions"].insert_many(sessions)
    there = [goal for number, goal in enumerate(goals) if number % 100]
    occupied = {f"presence-enc-goal@{goal['_id']}": {"user_count": 1} for goal in there}
    before = lab.outside.calls
    with lab.outside.answering(json.dumps({"channels": occupied}).encode()):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.reconciling", str(runs)),
            env=lab.environment(_DATABASE, _REDIS),
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"reconcile_clocks ended with {process.returncode}")
    seconds = Spread(tuple(map(float, output.split())))
    missed = await lab.mongo[_DATABASE]["goals"].count_documents({"clock.absent_at": {"$type": "date"}})
    if missed != len(goals) - len(there):
        raise RuntimeError(f"{missed} performers are missed, not {len(goals) - len(there)}")
    calls = (lab.outside.calls - before) / len(seconds.values)
    what = f"reconciliation of {clocks:,} running clocks"
    return [
        Result(12, what, seconds.median, "s", at_most=1.0, spread=seconds),
        Result(12, "· calls of Pusher for each", calls, "", at_most=2),
    ]


async def run_tasks(settings: Settings, runs: int) -> list[float]:
    """The seconds of each run."""
    runner, took = Runner(ALL, WITH_PROMISES), []
    await make_indexes(settings.mongodb_url, Keeping.of(settings))
    async with open_worker_context(settings) as (context, _):
        for _ in range(runs):
            begun = perf_counter()
            await runner.run(context, Job("bench", reconcile_clocks.name, {}), 1)
            took.append(perf_counter() - begun)
    return took


def main() -> None:
    """Runs the task, set up as a worker's process is."""
    garbage.resume()
    for seconds in uvloop.run(run_tasks(Settings.from_environment(), int(sys.argv[1]))):
        sys.stdout.write(f"{seconds}\n")


if __name__ == "__main__":
    main()
