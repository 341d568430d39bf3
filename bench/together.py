"""Row 10: shows that end together: how many transfers a second, and what one costs the worker."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import perf_counter

from bench.lab import Lab
from bench.latency import EARNINGS, TARGET_SECONDS, put_funded_show
from bench.report import Result, Spread
from bench.sender import Sender
from bench.traffic import webhook

_DATABASE = "together"
_REDIS = 6
_PATIENCE_SECONDS = 120.0


async def together(lab: Lab, *, rounds: int, shows: int, say: Callable[[str], None]) -> list[Result]:
    """Row 10: so many shows of ten earnings are left within one second; until the last transfer is made."""
    say(f"row 10: {rounds} × {shows} shows that end together")
    rates, costs = [], []
    transfers = lab.mongo[_DATABASE]["transfers"]
    async with lab.worker(_DATABASE, _REDIS) as worker, lab.api(_DATABASE, _REDIS) as api, Sender.to(api) as sender:
        for number in range(rounds + 1):
            goals = [await put_funded_show(lab, _DATABASE, EARNINGS) for _ in range(shows if number else 5)]
            joined = datetime.now(UTC) - timedelta(seconds=TARGET_SECONDS + 1)
            await asyncio.gather(*(sender.send(webhook("member_added", goal, joined)) for goal in goals))
            await asyncio.sleep(1.0)  # what the joins set off is over
            made, wanted = await transfers.count_documents({}), len(goals) * EARNINGS
            before, begun = worker.cpu_seconds(), perf_counter()
            await asyncio.gather(*(sender.send(webhook("member_removed", goal, datetime.now(UTC))) for goal in goals))
            while await transfers.count_documents({}) - made < wanted:
                if perf_counter() > begun + _PATIENCE_SECONDS:
                    raise TimeoutError("the shows were not paid")
                await asyncio.sleep(0.02)
            if number:  # the first shows pay for connections
                rates.append(wanted / (perf_counter() - begun))
                costs.append((worker.cpu_seconds() - before) / wanted * 1000)
    pace, cost = Spread(tuple(rates)), Spread(tuple(costs))
    basis = f"{shows} shows of {EARNINGS} earnings; from the first leave to the last transfer"
    return [
        Result(
            10, "transfers/s over shows that end together", pace.median, "/s", at_least=800, spread=pace, basis=basis
        ),
        Result(
            10,
            "· processor time of the worker for a transfer",
            cost.median,
            "ms",
            at_most=1.3,
            spread=cost,
            basis="all that a show's end sets off until then is in it",
        ),
    ]
