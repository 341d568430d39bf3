"""Periodic tasks: what runs by the clock, never behind other work.

Each finds its work by itself, so a missed tick costs time only. Every worker has a timer for each of them, and a lease in
Redis lets one worker at a time run it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from redis.exceptions import RedisError

from goalsvc.context import WorkerContext
from goalsvc.tasks.runner import Runner
from goalsvc.tasks.task import Task

log = logging.getLogger(__name__)

#: A lease ends a little before the next tick of the same timer, which then takes it again.
_SHARE_OF_PERIOD = 0.9
#: For how long the lease of a long run is kept each time; after a crash another worker runs the task this much later.
_KEPT_SECONDS = 3.0


class Lease(Protocol):
    """Lets one process at a time do something."""

    async def take(self, name: str, seconds: float) -> bool:
        """Returns whether the lease was free and now belongs to this process, for that time."""
        ...

    async def keep(self, name: str, seconds: float) -> bool:
        """Returns whether the lease still belongs to this process; it does so for that time from now."""
        ...


@dataclass(frozen=True, slots=True)
class Periodic:
    """A task and how often it runs."""

    task: Task[[]]
    every_seconds: float


async def run_periodically(context: WorkerContext, runner: Runner, periodic: Sequence[Periodic], leases: Lease) -> None:
    """Runs these tasks, each by its own timer, until it is cancelled."""
    async with asyncio.TaskGroup() as timers:
        for one in periodic:
            timers.create_task(_run(context, runner, one, leases), name=one.task.name)


async def _run(context: WorkerContext, runner: Runner, periodic: Periodic, leases: Lease) -> None:
    """Runs one task by its timer. A failure is logged when it begins and when it ends, not at every tick."""
    name, failing = periodic.task.name, ""
    while True:
        error = ""
        try:
            if await leases.take(f"periodic:{name}", periodic.every_seconds * _SHARE_OF_PERIOD):
                keeping = asyncio.create_task(_keep(leases, f"periodic:{name}"))
                try:
                    error = await runner.tick(context, periodic.task) or ""
                finally:
                    keeping.cancel()
        except (RedisError, OSError) as failure:
            error = f"Redis: {type(failure).__name__}"
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
        if error != failing:
            if error:
                log.warning("%s fails: %s", name, error)
            else:
                log.warning("%s works again", name)
            failing = error
        await asyncio.sleep(periodic.every_seconds)


async def _keep(leases: Lease, name: str) -> None:
    """Keeps the lease of a run that takes longer than its period, so that no other worker starts the same."""
    while True:
        await asyncio.sleep(_KEPT_SECONDS / 3)
        with contextlib.suppress(RedisError, OSError):
            await leases.keep(name, _KEPT_SECONDS)
