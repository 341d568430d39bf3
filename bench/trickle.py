"""Row 2: an everyday trickle of 100 webhooks a second, beside the bare path and its worker."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import perf_counter, process_time

from bson import ObjectId

from bench.lab import Lab, Proc
from bench.load import percentile
from bench.outside import Call
from bench.report import Result, Spread, ratios
from bench.sender import Sender
from bench.traffic import webhook
from bench.webhooks import BARE, OURS, kept, put_goals

PER_SECOND = 100
_JOINED_BEFORE = timedelta(seconds=3)
_PATIENCE_SECONDS = 15.0
_REDIS = {OURS: 4, BARE: 5}


@dataclass(frozen=True, slots=True)
class Round:
    """One stretch of steady webhooks on one side."""

    waits: list[float]
    """Seconds from each leave to `goal.progress.updated` at Pusher, in the order of the leaves."""
    cores: dict[str, float]
    """Processor time by the clock, of each process."""

    @property
    def ours(self) -> float:
        """Share of a core that the API and the worker take together."""
        return self.cores["API"] + self.cores["worker"]

    @property
    def growth(self) -> float:
        """How much longer the last fifth waits than the first; a side that cannot keep up shows in waits that grow."""
        part = max(1, len(self.waits) // 5)
        return sum(self.waits[-part:]) / sum(self.waits[:part])

    def wait_ms(self, share: float) -> float:
        """The wait that so many do not exceed."""
        return percentile(self.waits, share) * 1000


@dataclass(slots=True)
class _Side:
    """One of the two that are compared."""

    lab: Lab
    name: str
    api: Proc
    worker: Proc
    sender: Sender
    rounds: list[Round] = field(default_factory=list)

    async def round(self, seconds: float) -> Round:
        """Sends webhooks for so long; what they took and cost."""
        goals = [goal["_id"] for goal in await put_goals(self.lab, self.name, int(seconds * PER_SECOND / 2))]
        ahead = goals[: PER_SECOND // 2]
        await asyncio.gather(*map(self._join, ahead))
        await kept(self.lab, self.name)  # or what is measured begins with a backlog that we made
        before, begun = await self._processor_times(), perf_counter()
        waits = await self._steady(goals, seconds)
        after, took = await self._processor_times(), perf_counter() - begun
        await kept(self.lab, self.name)
        return Round(waits, {name: (after[name] - before[name]) / took for name in before})

    async def _processor_times(self) -> dict[str, float]:
        return {
            "API": self.api.cpu_seconds(),
            "worker": self.worker.cpu_seconds(),
            "mongod": self.lab.mongod.cpu_seconds(),
            "Valkey": await self.lab.valkey_cpu_seconds(),
            "measuring": process_time(),
        }

    async def _steady(self, goals: list[ObjectId], seconds: float) -> list[float]:
        """Sends joins and leaves in turn; each goal is left a second after it was joined. The leaves' waits."""
        ahead = PER_SECOND // 2
        sent: dict[str, float] = {}
        arrived: dict[str, float] = {}
        complete = asyncio.Event()

        def note(call: Call) -> None:
            if call.name == "goal.progress.updated":
                arrived.setdefault(call.data["goal_id"], call.at)
                if len(arrived) == len(goals):
                    complete.set()

        async def leave(goal_id: ObjectId) -> None:
            sent[str(goal_id)] = await self.sender.send(webhook("member_removed", goal_id, datetime.now(UTC)))

        begun = perf_counter()
        with self.lab.outside.heard_by(note):
            async with asyncio.timeout(seconds + _PATIENCE_SECONDS), asyncio.TaskGroup() as group:
                for number, goal_id in enumerate(goals):
                    await asyncio.sleep(max(0.0, begun + 2 * number / PER_SECOND - perf_counter()))
                    group.create_task(leave(goal_id))
                    await asyncio.sleep(max(0.0, begun + (2 * number + 1) / PER_SECOND - perf_counter()))
                    if number + ahead < len(goals):
                        group.create_task(self._join(goals[number + ahead]))
                await complete.wait()
        return [arrived[goal_id] - sent[goal_id] for goal_id in sent]

    async def _join(self, goal_id: ObjectId) -> None:
        await self.sender.send(webhook("member_added", goal_id, datetime.now(UTC) - _JOINED_BEFORE))


async def trickle(lab: Lab, *, rounds: int, seconds: float, say: Callable[[str], None]) -> list[Result]:
    """Row 2: 50 joins and 50 leaves a second on both sides in turn."""
    say(f"row 2: {rounds} × {seconds:g} s at {PER_SECOND} webhooks/s, ours and bare")
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        worker = await enter(lab.worker(OURS, _REDIS[OURS]))
        api = await enter(lab.api(OURS, _REDIS[OURS]))
        ours = _Side(lab, OURS, api, worker, await enter(Sender.to(api)))
        await lab.empty_redis(_REDIS[BARE])
        bare_worker = await enter(lab.bare_worker(BARE, _REDIS[BARE]))
        bare_api = await enter(lab.bare(BARE, _REDIS[BARE]))
        bare = _Side(lab, BARE, bare_api, bare_worker, await enter(Sender.to(bare_api)))
        for side in (ours, bare):
            await side.round(2.0)  # the first ones pay for connections
        for number in range(rounds):
            for side in (ours, bare) if number % 2 == 0 else (bare, ours):
                side.rounds.append(await side.round(seconds))
    return _compared(ours.rounds, bare.rounds)


def _compared(ours: list[Round], bare: list[Round]) -> list[Result]:
    cost = ratios([one.ours for one in ours], [one.ours for one in bare])

    def median(rounds: list[Round], name: str) -> float:
        return Spread(tuple(one.cores[name] for one in rounds)).median

    def told(rounds: list[Round]) -> str:
        return ", ".join(f"{name} {median(rounds, name):.0%}" for name in rounds[0].cores)

    growth = max(one.growth for one in ours)
    results = [
        Result(
            2,
            f"processor time of API and worker at {PER_SECOND} webhooks/s",
            cost.median,
            "×",
            at_most=1.2,
            spread=cost,
            basis=f"of a core: {told(ours)}; bare: {told(bare)}",
        )
    ]
    for what, share, limit in (("p50", 0.50, 0.9), ("p99", 0.99, 1.2)):
        waits, theirs = [one.wait_ms(share) for one in ours], [one.wait_ms(share) for one in bare]
        ratio = ratios(waits, theirs)
        basis = (
            f"{Spread(tuple(waits)).median:.1f} ms : {Spread(tuple(theirs)).median:.1f} ms, slowest "
            f"{max(max(one.waits) for one in ours) * 1000:.0f} ms; the last fifth waits {growth:.1f} × as long as the first"
        )
        name = f"leave → goal.progress.updated at Pusher, {what}"
        results.append(Result(2, name, ratio.median, "×", at_most=limit, spread=ratio, basis=basis))
    return results
