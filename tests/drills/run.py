"""The drills that take a minute: `python -m tests.drills.run [NAME …]`. Exit status 1 if one did not go as it must.

rolling        two APIs and two workers are restarted one after another under 50 webhooks/s
stopped        one of two workers is stopped (SIGSTOP) in the middle of its jobs, and goes on later
empty-redis    Valkey is killed and comes back empty
evicting       Valkey has no room left and evicts what was used least lately
full           Valkey has no room left and refuses each write that needs memory
"""

import asyncio
import os
import signal
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx
from redis.asyncio import Redis

from goalsvc.devstack import private_mongod
from goalsvc.devstack.parts import valkey_part
from goalsvc.devstack.ports import HOST, free_port
from goalsvc.devstack.private import RunningPart, _running
from goalsvc.devstack.waiting import holds_within

from .load import Load, delays, play
from .processes import Stack, running_stack

GOALS = 100
DRAIN_SECONDS = "5"
SETTLE_SECONDS = 20.0
#: How much later than usual an effect may be.
MOST_DELAY_SECONDS = 2.0

Trouble = Callable[[Stack, RunningPart], Awaitable[None]]


async def rolling(stack: Stack, _valkey: RunningPart) -> None:
    """Restarts each process in turn; the next one when it is ready again."""
    for program in (*stack.apis, *stack.workers):
        await asyncio.sleep(1)
        await asyncio.to_thread(program.stop)
        program.start()
        await asyncio.to_thread(program.wait_until_ready)
    await asyncio.sleep(2)


async def stopped(stack: Stack, _valkey: RunningPart) -> None:
    """Stops a worker for longer than its leases last, and lets it go on."""
    process = stack.workers[0].process
    assert process is not None
    await asyncio.sleep(2)
    process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(20)
    process.send_signal(signal.SIGCONT)
    await asyncio.sleep(3)


async def empty_redis(_stack: Stack, valkey: RunningPart) -> None:
    """Kills Valkey, which keeps nothing, and starts it again."""
    await asyncio.sleep(3)
    await asyncio.to_thread(valkey.kill)
    await asyncio.sleep(1)
    valkey.start()
    await asyncio.to_thread(valkey.wait_until_ready)
    await asyncio.sleep(8)


async def evicting(stack: Stack, _valkey: RunningPart) -> None:
    """Gives Valkey less memory than it uses, so that each write evicts other keys; then room again."""
    async with Redis.from_url(stack.redis_url) as redis:
        used = int((await redis.info("memory"))["used_memory"])
        await _without_room(stack, redis, "allkeys-lru", used - 20_000, "evicts keys")


async def full(stack: Stack, _valkey: RunningPart) -> None:
    """Lets Valkey refuse each write that needs memory; then gives it room again."""
    async with Redis.from_url(stack.redis_url) as redis:
        await _without_room(stack, redis, "noeviction", 1, "full")


async def _without_room(stack: Stack, redis: Redis, policy: str, most: int, told: str) -> None:
    """Leaves Valkey with that policy and memory for 20 s, and prints whether a worker's readiness names it."""
    await redis.config_set("maxmemory-policy", policy)
    await redis.config_set("maxmemory", most)
    deadline, worker = asyncio.get_running_loop().time() + 20, stack.workers[0].url
    named = False
    while asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(1)
        named = named or told in await asyncio.to_thread(_readiness_of, worker)
    evicted = int((await redis.info("stats"))["evicted_keys"])
    sys.stdout.write(f"{policy}: {evicted} keys were evicted; a worker's /readyz {'named' if named else 'hid'} it\n")
    await redis.config_set("maxmemory", 0)
    await asyncio.sleep(3)


def _readiness_of(url: str) -> str:
    try:
        return httpx.get(f"{url}/readyz", trust_env=False, timeout=2).text
    except httpx.HTTPError:
        return ""


DRILLS: dict[str, tuple[Trouble, float]] = {
    "rolling": (rolling, MOST_DELAY_SECONDS),
    "stopped": (stopped, 30.0),
    "empty-redis": (empty_redis, 15.0),
    "evicting": (evicting, 30.0),
    "full": (full, 60.0),
}


async def drill(name: str, directory: Path) -> bool:
    """Runs one and prints its figures; whether it went as it must."""
    trouble, most = DRILLS[name]
    port = free_port()
    part = valkey_part(directory / "valkey", port)
    # Without its append-only file it comes back empty.
    command = tuple("no" if word == "yes" else word for word in part.command)
    with ExitStack() as left:
        mongod = left.enter_context(private_mongod(directory / "mongod"))
        (valkey,) = left.enter_context(_running([replace(part, command=command)], directory))
        url = f"redis://{HOST}:{port}/0"
        stack = left.enter_context(
            running_stack(directory, mongod.url, url, apis=2, workers=2, DRAIN_SECONDS=DRAIN_SECONDS, RECORDING="off")
        )
        load = await _under_load(stack, lambda: trouble(stack, valkey))
        found = delays(load, stack.pusher.told)
    return _judge(name, load, found, most)


async def _under_load(stack: Stack, trouble: Callable[[], Awaitable[None]]) -> Load:
    goals = await asyncio.to_thread(_make_goals, stack)
    until = asyncio.Event()
    playing = asyncio.create_task(play(stack, goals, until))
    await asyncio.sleep(5)
    await trouble()
    until.set()
    load = await playing
    await asyncio.to_thread(holds_within, SETTLE_SECONDS, lambda: float("inf") not in delays(load, stack.pusher.told))
    return load


def _make_goals(stack: Stack) -> list[str]:
    with stack.client() as client:
        session = client.post("/v1/sessions", json={"user_id": "alice"}).raise_for_status().json()["id"]
        levels = [{"title": "Songs", "target": 86_400}]
        body = {"kind": "KaraokeGoal", "session_id": session, "levels": levels}
        return [client.post("/v1/goals", json=body).raise_for_status().json()["id"] for _ in range(GOALS)]


def _judge(name: str, load: Load, found: Sequence[float], most: float) -> bool:
    ordered = sorted(found)
    usual, p99, longest = statistics.median(ordered), ordered[int(len(ordered) * 0.99)], ordered[-1]
    lost = sum(1 for each in ordered if each == float("inf"))
    sys.stdout.write(
        f"{name}: {load.sent} webhooks, {len(load.failed)} failed; {len(ordered)} leaves, {lost} without an effect; "
        f"delay of the effect: median {usual * 1000:.0f} ms, p99 {p99:.2f} s, longest {longest:.2f} s; "
        f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}\n"
    )
    for wrong in load.failed[:10]:
        sys.stdout.write(f"  {wrong}\n")
    return not load.failed and longest <= most


def main(names: Sequence[str]) -> int:
    """Runs these drills, or all."""
    held = []
    for name in names or DRILLS:
        with tempfile.TemporaryDirectory(prefix="goalsvc-drill-", ignore_cleanup_errors=True) as directory:
            held.append(asyncio.run(drill(name, Path(directory))))
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
