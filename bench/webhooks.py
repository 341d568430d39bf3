"""Rows 1 and 6: how many signed webhooks are answered per second, beside the bare path and beside a million goals."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from bson import ObjectId

from bench.lab import Lab, Proc
from bench.load import Volley, fire
from bench.report import Result, Spread, ratios
from bench.traffic import Document, Mix, shows, signed

CONNECTIONS = 48
#: The load generator measures itself when it has no time left.
_GENERATOR_LIMIT = 0.9
#: A worker that has not kept its promises by then has forgotten them.
_PATIENCE_SECONDS = 300.0

SINGLE = Mix("alternating joins and leaves", turns=2)
TWINS = Mix("each told by two webhooks", turns=2, twins=True)

OURS, BARE = "ours", "bare"
#: Databases of Valkey.
_REDIS = {OURS: 0, BARE: 1}


@dataclass(frozen=True, slots=True)
class Burst:
    """One burst of webhooks and what it cost the server."""

    volley: Volley
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        """Webhooks answered per second."""
        return self.volley.per_second

    @property
    def cpu_us(self) -> float:
        """Processor time of the server process for each webhook, in microseconds."""
        return self.cpu_seconds / self.volley.requests * 1_000_000


class WrongResultError(Exception):
    """The service answered fast, and wrongly."""


async def burst(server: Proc, requests: Sequence[bytes], connections: int = CONNECTIONS) -> Burst:
    """Fires these requests at the server."""
    before = server.cpu_seconds()
    volley = await fire(server.port, requests, connections=connections)
    if not volley.all_ok:
        raise WrongResultError(f"answers: {volley.statuses}")
    return Burst(volley, server.cpu_seconds() - before)


async def put_goals(lab: Lab, database: str, count: int) -> list[Document]:
    """Makes that many fresh shows, and their sessions."""
    goals, sessions = shows(count)
    await lab.mongo[database]["goals"].insert_many(goals)
    await lab.mongo[database]["sessions"].insert_many(sessions)
    return goals


async def counted(lab: Lab, database: str, ids: Sequence[ObjectId]) -> tuple[int, int]:
    """The seconds of these goals: those in their progress, and those that they still owe."""
    owed = {
        "$filter": {
            "input": {"$ifNull": ["$promises", []]},
            "as": "p",
            "cond": {
                "$and": [
                    {"$eq": ["$$p.task", "increment_goal_progress"]},
                    {"$eq": [{"$type": "$$p.progress"}, "missing"]},
                ]
            },
        }
    }
    pipeline: list[dict[str, Any]] = [
        {"$match": {"_id": {"$in": list(ids)}}},
        {"$project": {"progress": 1, "owed": {"$sum": {"$map": {"input": owed, "in": "$$this.arguments.amount"}}}}},
        {"$group": {"_id": None, "progress": {"$sum": "$progress"}, "owed": {"$sum": "$owed"}}},
    ]
    cursor = await lab.mongo[database]["goals"].aggregate(pipeline)
    (totals,) = await cursor.to_list()
    return totals["progress"], totals["owed"]


async def check(lab: Lab, database: str, mix: Mix, goals: Sequence[Document]) -> None:
    """Raises WrongResultError unless the law's seconds are all there, counted or owed."""
    progress, owed = await counted(lab, database, [goal["_id"] for goal in goals])
    if progress + owed != mix.seconds_per_goal * len(goals):
        wanted = mix.seconds_per_goal * len(goals)
        raise WrongResultError(f"{progress} s counted and {owed} s owed of {wanted} s performed")


# -- row 1 ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Sides:
    """The two processes that are compared, each with a database and a queue of its own on the same servers."""

    lab: Lab
    servers: dict[str, Proc]

    async def round(self, side: str, mix: Mix, goals_count: int, seed: int) -> Burst:
        """One burst on one side, from a clean start."""
        await self.lab.empty(side)
        await self.lab.empty_redis(_REDIS[side])
        goals = await put_goals(self.lab, side, goals_count)
        requests = [signed(body) for body in mix.bodies(goals, seed)]
        done = await burst(self.servers[side], requests)
        if side == OURS:
            await check(self.lab, side, mix, goals)
            await self._traced(len(requests))
        return done

    async def _traced(self, webhooks: int) -> None:
        # The trace is written off the path: it must be there, and nobody must have put it off for long.
        traces = self.lab.mongo[OURS]["traces"]
        deadline = perf_counter() + 5
        while await traces.count_documents({"node.kind": "webhook"}) < webhooks:
            if perf_counter() > deadline:
                raise WrongResultError("webhooks without a trace")
            await asyncio.sleep(0.02)

    async def pairs(self, mix: Mix, rounds: int, goals_count: int) -> dict[str, list[Burst]]:
        """Bursts on both sides in turn; who begins changes, so that a drift of the machine hits both."""
        bursts: dict[str, list[Burst]] = {OURS: [], BARE: []}
        for number in range(rounds):
            for side in (OURS, BARE) if number % 2 == 0 else (BARE, OURS):
                bursts[side].append(await self.round(side, mix, goals_count, number))
        return bursts


@contextlib.asynccontextmanager
async def _both(lab: Lab) -> AsyncIterator[_Sides]:
    async with lab.api(OURS, _REDIS[OURS]) as ours, lab.bare(BARE, _REDIS[BARE]) as bare:
        sides = _Sides(lab, {OURS: ours, BARE: bare})
        for side in (OURS, BARE):  # the first requests pay for connections
            await sides.round(side, SINGLE, 200, 0)
        yield sides


async def throughput(lab: Lab, *, rounds: int, goals: int, say: Callable[[str], None]) -> list[Result]:
    """Row 1, without a worker (the row is about the API process; jobs pile up on both sides and are cleared) and with one."""
    results: list[Result] = []
    async with _both(lab) as sides:
        for mix in (SINGLE, TWINS):
            say(f"row 1: {mix.name}, {rounds} rounds")
            bursts = await sides.pairs(mix, rounds, goals // 2 if mix.twins else goals)
            results += _compared(mix, bursts, target=2.0)
        memory = sides.servers[OURS].resident_mb()
        results.append(Result(8, "API: resident memory after the bursts of row 1", memory, "MB", at_most=110))
        say("row 1: with a worker each")
        async with lab.worker(OURS, _REDIS[OURS]) as worker, lab.bare_worker(BARE, _REDIS[BARE]):
            for mix in (SINGLE, TWINS):
                count = goals // 2 if mix.twins else goals
                results += await _with_workers(sides, worker, mix, max(2, rounds // 2), count)
    return results


def _compared(mix: Mix, bursts: dict[str, list[Burst]], target: float | None) -> list[Result]:
    ours, bare = bursts[OURS], bursts[BARE]
    rates = {side: Spread(tuple(each.per_second for each in bursts[side])) for side in (OURS, BARE)}
    ratio = ratios(rates[OURS].values, rates[BARE].values)
    cost = {side: Spread(tuple(each.cpu_us for each in bursts[side])) for side in (OURS, BARE)}
    generator = max(each.volley.generator_cpu for each in (*ours, *bare))
    basis = (
        f"{rates[OURS].median:,.0f}/s : {rates[BARE].median:,.0f}/s; p99 {median_of(ours, 'p99_ms'):.0f} : "
        f"{median_of(bare, 'p99_ms'):.0f} ms; load generator ≤ {generator:.0%} of a core"
    )
    if generator > _GENERATOR_LIMIT:
        basis += " (too much!)"
    details = {
        side: {
            "per_second": rates[side].values,
            "cpu_us": cost[side].values,
            "volleys": [b.volley for b in bursts[side]],
        }
        for side in (OURS, BARE)
    }
    cpu = ratios(cost[BARE].values, cost[OURS].values)
    return [
        Result(1, f"webhooks/s, {mix.name}", ratio.median, "×", None, target, ratio, basis, details),
        Result(
            1,
            "· the same by the API's processor time for each",
            cpu.median,
            "×",
            spread=cpu,
            basis=f"{cost[OURS].median:.0f} µs : {cost[BARE].median:.0f} µs",
        ),
    ]


def median_of(bursts: Sequence[Burst], figure: str) -> float:
    """The median of one figure of the volleys."""
    return Spread(tuple(float(getattr(each.volley, figure)) for each in bursts)).median


async def _with_workers(sides: _Sides, worker: Proc, mix: Mix, rounds: int, goals_count: int) -> list[Result]:
    """API and one worker on each side, until all that is promised is done: how fast, and what each of our processes takes."""
    lab = sides.lab
    through: dict[str, list[float]] = {OURS: [], BARE: []}
    costs: dict[str, list[float]] = {"API": [], "worker": [], "mongod": [], "Valkey": []}
    for number in range(rounds):
        for side in (OURS, BARE) if number % 2 == 0 else (BARE, OURS):
            goals = await put_goals(lab, side, goals_count)
            requests = [signed(body) for body in mix.bodies(goals, number)]
            before, calls = await _processor_times(lab, sides.servers[OURS], worker), lab.outside.calls
            begun = perf_counter()
            await burst(sides.servers[side], requests)
            if side == OURS:
                await kept(lab, OURS)
            else:  # each of its webhooks ends with one call
                await _called(lab, calls + len(requests))
            through[side].append(len(requests) / (perf_counter() - begun))
            if side == OURS:
                after = await _processor_times(lab, sides.servers[OURS], worker)
                for name, cost in costs.items():
                    cost.append((after[name] - before[name]) / len(requests) * 1_000_000)
                await check(lab, OURS, mix, goals)
    ratio, ours, bare = ratios(through[OURS], through[BARE]), Spread(tuple(through[OURS])), Spread(tuple(through[BARE]))
    each = {name: Spread(tuple(cost)).median for name, cost in costs.items()}
    told = ", ".join(f"{name} {cost:.0f}" for name, cost in each.items())
    return [
        Result(
            1,
            f"webhooks/s through API and one worker, to the last effect, {mix.name}",
            ratio.median,
            "×",
            at_least=2.0,
            spread=ratio,
            basis=f"{ours.median:,.0f}/s : {bare.median:,.0f}/s",
        ),
        Result(
            1,
            f"· processor time of all for one webhook, {mix.name}",
            sum(each.values()),
            "µs",
            basis=f"{told} µs",
            details=each,
        ),
    ]


async def _called(lab: Lab, calls: int) -> None:
    """Waits until so many calls have come to the outside."""
    deadline = perf_counter() + _PATIENCE_SECONDS
    while lab.outside.calls < calls:
        if perf_counter() > deadline:
            raise WrongResultError("jobs that nobody does")
        await asyncio.sleep(0.01)


async def kept(lab: Lab, database: str) -> None:
    """Waits until the worker has kept every promise of every goal."""
    deadline = perf_counter() + _PATIENCE_SECONDS
    while await lab.mongo[database]["goals"].find_one({"promises.0": {"$exists": True}}, {"_id": 1}):
        if perf_counter() > deadline:
            raise WrongResultError("promises that nobody keeps")
        await asyncio.sleep(0.05)


async def _processor_times(lab: Lab, api: Proc, worker: Proc) -> dict[str, float]:
    return {
        "API": api.cpu_seconds(),
        "worker": worker.cpu_seconds(),
        "mongod": lab.mongod.cpu_seconds(),
        "Valkey": await lab.valkey_cpu_seconds(),
    }


# -- row 6 ------------------------------------------------------------------------------------------------------------

_FEW, _MANY = "few", "many"
_ACTIVE = 1000
_BATCH = 20_000


async def stored(lab: Lab, *, rounds: int, many: int, say: Callable[[str], None]) -> list[Result]:
    """Row 6: the same traffic to 1,000 goals, where these are all there are and where they are spread over a million."""
    say(f"row 6: storing {many:,} goals")
    goals = {_FEW: await put_goals(lab, _FEW, _ACTIVE)}
    spread_over = await _store(lab, _MANY, many, rounds + 1)
    costs: dict[str, list[Burst]] = {_FEW: [], _MANY: []}
    alone: dict[str, list[float]] = {_FEW: [], _MANY: []}
    async with AsyncExitStack() as stack:
        servers = {
            name: await stack.enter_async_context(lab.api(name, number)) for number, name in enumerate((_FEW, _MANY), 2)
        }
        say(f"row 6: {rounds} rounds")
        for number in range(rounds + 1):
            for name in (_FEW, _MANY) if number % 2 == 0 else (_MANY, _FEW):
                if name == _FEW:
                    await lab.mongo[_FEW]["goals"].delete_many({})
                    goals[_FEW] = await put_goals(lab, _FEW, _ACTIVE)
                else:
                    goals[_MANY] = [{"_id": each} for each in spread_over[number]]
                requests = [signed(body) for body in SINGLE.bodies(goals[name], number)]
                half = len(requests) * 3 // 4
                together = await burst(servers[name], requests[:half])
                one_by_one = await burst(servers[name], requests[half:], connections=1)
                await check(lab, name, SINGLE, goals[name])
                if number:  # the first round fills caches and opens connections
                    costs[name].append(together)
                    alone[name].append(one_by_one.volley.p50_ms)
    time = ratios([1 / each.per_second for each in costs[_MANY]], [1 / each.per_second for each in costs[_FEW]])
    cpu = ratios([each.cpu_us for each in costs[_MANY]], [each.cpu_us for each in costs[_FEW]])
    waits = ratios(alone[_MANY], alone[_FEW])
    rates = {name: Spread(tuple(each.per_second for each in costs[name])) for name in costs}
    return [
        Result(
            6,
            f"one webhook with {many:,} goals stored against {_ACTIVE:,}",
            time.median,
            "×",
            at_most=1.1,
            spread=time,
            basis=f"{rates[_MANY].median:,.0f}/s : {rates[_FEW].median:,.0f}/s at {CONNECTIONS} connections",
        ),
        Result(6, "· the API's processor time for it", cpu.median, "×", spread=cpu),
        Result(
            6,
            "· its answer's time, one at a time",
            waits.median,
            "×",
            spread=waits,
            basis=f"{Spread(tuple(alone[_MANY])).median:.2f} ms : {Spread(tuple(alone[_FEW])).median:.2f} ms",
        ),
    ]


async def _store(lab: Lab, database: str, count: int, samples: int) -> list[list[ObjectId]]:
    """Stores so many goals; for each round, as many of them as are active, spread evenly over the whole."""
    ids: list[ObjectId] = []
    for begun in range(0, count, _BATCH):
        goals, _ = shows(min(_BATCH, count - begun))
        ids += [goal["_id"] for goal in goals]
        await lab.mongo[database]["goals"].insert_many(goals, ordered=False)
    step = count // _ACTIVE
    return [ids[number::step][:_ACTIVE] for number in range(samples)]
