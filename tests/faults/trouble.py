"""What breaks for a while in a history, besides single calls, jobs and processes: whole services, and Redis."""

import asyncio
from collections.abc import Callable, Mapping

from .simulation import Simulation

#: How long a service refuses everything, does not work at all, and how long Redis is full.
AWAY_SECONDS, DOWN_SECONDS, FULL_SECONDS = (5.0, 120.0), (30.0, 300.0), (10.0, 180.0)
#: How old Redis is when it comes back as it was.
STALE_SECONDS = (1.0, 120.0)


async def trouble(simulation: Simulation) -> None:
    """Lets what `Faults` counts happen, one after another, at any time. What lasts may go on meanwhile."""
    random, faults = simulation.random, simulation.faults
    times: Mapping[Callable[[Simulation], None], int] = {
        _empty: faults.emptied,
        _away: faults.outages,
        _down: faults.down,
        _full: faults.full,
        _stale: faults.stale,
    }
    happenings = [happen for happen, many in times.items() for _ in range(many)]
    random.shuffle(happenings)
    for happen in happenings:
        await asyncio.sleep(random.uniform(0.5, 60.0))
        happen(simulation)


def _empty(simulation: Simulation) -> None:
    simulation.redis.empty()


def _away(simulation: Simulation) -> None:
    """A service refuses each call by itself: tries are counted."""
    service = simulation.random.choice(simulation.services)
    service.away_until = _from_now(simulation.random.uniform(*AWAY_SECONDS))


def _down(simulation: Simulation) -> None:
    """A service hangs or fails as a whole, for minutes."""
    service = simulation.random.choice([simulation.pusher, *simulation.services])
    service.down_until = _from_now(simulation.random.uniform(*DOWN_SECONDS))
    service.hangs = simulation.random.random() < 0.5


def _full(simulation: Simulation) -> None:
    simulation.redis.full_until = _from_now(simulation.random.uniform(*FULL_SECONDS))


def _stale(simulation: Simulation) -> None:
    """Redis loses what is new, and has again what was done long ago: it was restored, or a replica took its place."""
    backup, wait = simulation.redis.backup(), simulation.random.uniform(*STALE_SECONDS)
    asyncio.get_running_loop().call_later(wait, lambda: simulation.redis.restore(backup))


def _from_now(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds
