"""`python -m bench [--quick] [--rows 1,3,…]`: measures, shows the table, and writes it to `bench/results/`."""

import argparse
import logging
import sys
from collections.abc import Awaitable, Callable
from math import nan
from time import perf_counter

import uvloop

from bench import clips, crowd, jobs, latency, page, payout, processes, reconciling, together, trickle, webhooks
from bench.lab import Lab, open_lab
from bench.report import Result, machine, new_run

_BEGUN = perf_counter()


def say(what: str) -> None:
    """Tells how far it is."""
    sys.stderr.write(f"{perf_counter() - _BEGUN:6.1f} s  {what}\n")


def measurements(lab: Lab, *, quick: bool) -> dict[int, Callable[[], Awaitable[list[Result]]]]:
    """What measures each row of docs/specification.md#targets."""
    if quick:
        return {
            1: lambda: webhooks.throughput(lab, rounds=3, goals=700, say=say),
            2: lambda: trickle.trickle(lab, rounds=2, seconds=6, say=say),
            3: lambda: latency.settlements(lab, shows=12, say=say),
            4: lambda: processes.idle(lab, seconds=10, say=say),
            5: lambda: jobs.jobs_per_second(lab, rounds=3, jobs=4000, say=say),
            6: lambda: webhooks.stored(lab, rounds=3, many=100_000, say=say),
            7: lambda: payout.payouts(lab, few=500, many=5000, rounds=1, settle_rounds=1, say=say),
            8: lambda: processes.start(lab, rounds=3, say=say),
            9: lambda: crowd.crowds(lab, rounds=1, requests=1500, say=say),
            10: lambda: together.together(lab, rounds=2, shows=40, say=say),
            11: lambda: clips.clips(say),
            12: lambda: reconciling.reconciliation(lab, clocks=20_000, runs=3, say=say),
            13: lambda: page.pages(lab, webhooks=1000, rounds=10, say=say),
        }
    return {
        1: lambda: webhooks.throughput(lab, rounds=5, goals=2000, say=say),
        2: lambda: trickle.trickle(lab, rounds=4, seconds=12, say=say),
        3: lambda: latency.settlements(lab, shows=40, say=say),
        4: lambda: processes.idle(lab, seconds=20, say=say),
        5: lambda: jobs.jobs_per_second(lab, rounds=5, jobs=10_000, say=say),
        6: lambda: webhooks.stored(lab, rounds=7, many=1_000_000, say=say),
        7: lambda: payout.payouts(lab, few=1000, many=10_000, rounds=7, settle_rounds=5, say=say),
        8: lambda: processes.start(lab, rounds=5, say=say),
        9: lambda: crowd.crowds(lab, rounds=3, requests=4000, say=say),
        10: lambda: together.together(lab, rounds=3, shows=100, say=say),
        11: lambda: clips.clips(say),
        12: lambda: reconciling.reconciliation(lab, clocks=20_000, runs=7, say=say),
        13: lambda: page.pages(lab, webhooks=2500, rounds=20, say=say),
    }


async def run(rows: list[int], *, quick: bool) -> list[Result]:
    """Measures these rows, or all."""
    results: list[Result] = []
    async with open_lab() as lab:
        measuring = measurements(lab, quick=quick)
        for row in rows or sorted(measuring):
            try:
                found = await measuring[row]()
            except Exception as error:
                logging.exception("row %d", row)
                found = [Result(row, "could not be measured", nan, error=f"{type(error).__name__}: {error}")]
            for result in found:
                say(f"  {' | '.join(result.cells)}")
            results += found
    return sorted(results, key=lambda result: result.row)


def main() -> None:
    """Runs the benchmark; exit status 1 when a target was missed."""
    options = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    options.add_argument("--quick", action="store_true", help="shorter rounds and 100,000 goals: for development")
    options.add_argument("--rows", type=lambda text: [int(row) for row in text.split(",")], default=[], help="1,3,5")
    options.add_argument("--no-write", action="store_true", help="only show the table")
    chosen = options.parse_args()
    here = machine()
    done = new_run(uvloop.run(run(chosen.rows, quick=chosen.quick)), quick=chosen.quick, machine=here)
    done.print()
    if not chosen.no_write:
        say(f"written to {done.write()}")
    sys.exit(1 if done.missed else 0)


if __name__ == "__main__":
    main()
