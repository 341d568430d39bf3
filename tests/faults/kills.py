"""Real crashes: `goalsvc dev` plays livestreams while its parts are killed: `python -m tests.faults.kills --kills 200`."""

import argparse
import asyncio
import math
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from random import Random

from redis.asyncio import Redis
from redis.exceptions import RedisError

from .outside import (
    Clients,
    DevStack,
    PlayedShow,
    audited,
    dev_stack,
    play_livestream,
    recorded_calls,
    settle,
    violations_of,
)

#: What is killed, and how likely. `flush` empties Valkey instead.
VICTIMS = {"api": 3, "worker": 4, "mongod": 2, "valkey": 2, "flush": 2}
#: A part that was just started again is left alone for so long.
REST_SECONDS = 1.5


async def wreak(stack: DevStack, random: Random, kills: int, pace: float) -> Counter[str]:
    """Kills so many parts, one after another; how often each."""
    killed: Counter[str] = Counter()
    last: dict[str, float] = {}
    async with Redis.from_url(stack.addresses["redis_url"]) as redis:
        while killed.total() < kills:
            await asyncio.sleep(random.uniform(0.0, 2 * pace))
            assert stack.alive, f"dev gave up: {stack.told()[-2000:]}"
            (victim,) = random.choices(list(VICTIMS), list(VICTIMS.values()))
            if time.monotonic() - last.get(victim, 0.0) < REST_SECONDS:
                continue
            if victim == "flush":
                with suppress(RedisError, OSError):
                    await redis.flushall()
                    killed[victim] += 1
            elif stack.signal(victim, signal.SIGKILL):
                killed[victim] += 1
            last[victim] = time.monotonic()
    return killed


async def play(kills: int, seed: int, livestreams: int, pace: float) -> int:
    """Plays livestreams, several side by side, for as long as there is killing; the exit status."""
    random = Random(seed)
    began = time.monotonic()
    shows: list[PlayedShow] = []
    async with dev_stack() as stack:
        clients = Clients(stack.addresses, Random(seed + 1))
        clients.calm_since = math.inf
        over = asyncio.Event()

        async def streamer(number: int) -> None:
            lot = Random(seed * 1000 + number)
            while not over.is_set():
                shows.append(await play_livestream(clients, lot))

        streaming = asyncio.gather(*(streamer(number) for number in range(livestreams)))
        wreaking = asyncio.create_task(wreak(stack, random, kills, pace))
        await asyncio.wait([streaming, wreaking], return_when=asyncio.FIRST_COMPLETED)  # type: ignore[type-var]
        if streaming.done():
            wreaking.cancel()
        killed = Counter[str]() if streaming.done() else await wreaking
        clients.calm_since = time.monotonic()
        over.set()
        await streaming
        wrong = clients.wrong
        took, redriven = await settle(clients, stack.addresses, wrong)
        wrong += violations_of(stack.addresses, shows, await recorded_calls(stack.addresses))
        wrong += await audited(clients)
        await clients.close()
    for line in wrong:
        print(line)
    tally = clients.tally
    print(
        f"kills {killed.total()} ({', '.join(f'{part} {times}' for part, times in sorted(killed.items()))}), "
        f"livestreams {tally.shows}, requests {tally.requests} ({tally.repeated} repeated), "
        f"webhooks {tally.webhooks} ({tally.webhooks_repeated} repeats), answers with 503 {tally.unavailable}, "
        f"broken connections {tally.cut_off}, dead letters redriven {redriven}, "
        f"at rest {took:.1f} s after the last; {time.monotonic() - began:.0f} s"
    )
    print(f"violations: {len(wrong)} (seed {seed})")
    return 1 if wrong else 0


def main(words: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--livestreams", type=int, default=6, help="how many are played side by side")
    parser.add_argument("--pace", type=float, default=1.2, help="seconds between kills, on average")
    given = parser.parse_args(words)
    return asyncio.run(play(given.kills, given.seed, given.livestreams, given.pace))


if __name__ == "__main__":
    sys.exit(main())
