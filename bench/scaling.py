"""What more processes bring on this machine: `python -m bench.scaling`, for so many API processes and workers side by side.

Everything is on the one machine, the load generators too: it shows where that machine ends, and who takes its processors then.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import perf_counter

import uvloop

from bench.lab import Lab, Proc, open_lab
from bench.report import RESULTS, Spread, machine, revision
from bench.traffic import signed
from bench.webhooks import SINGLE, burst, check, kept, put_goals

_DATABASE = "scaling"
#: API processes and workers.
_SIZES = ((1, 1), (1, 2), (2, 2), (2, 3), (2, 4))


@dataclass(frozen=True, slots=True)
class Scale:
    """What so many processes did."""

    apis: int
    workers: int
    answered: Spread
    through: Spread
    cores: dict[str, float]

    @property
    def line(self) -> str:
        """The line of the table."""
        cores = " | ".join(f"{cores:.2f}" for cores in self.cores.values())
        total = sum(self.cores.values())
        return (
            f"| {self.apis} | {self.workers} | {self.answered.median:,.0f} | {self.through.median:,.0f} ({self.through}) "
            f"| {cores} | {total:.2f} |"
        )


async def measure(lab: Lab, apis: int, workers: int, *, rounds: int, goals_count: int) -> Scale:
    """Rounds of joins and leaves, spread over the API processes by goal, until the last effect of the last of them."""
    answered, through = [], []
    taken: dict[str, list[float]] = {"API": [], "workers": [], "mongod": [], "Valkey": []}
    async with AsyncExitStack() as stack:
        working = [await stack.enter_async_context(lab.worker(_DATABASE)) for _ in range(workers)]
        serving = [await stack.enter_async_context(lab.api(_DATABASE)) for _ in range(apis)]
        for number in range(rounds + 1):
            goals = await put_goals(lab, _DATABASE, goals_count if number else goals_count // 5)
            parts = [[signed(body) for body in SINGLE.bodies(goals[begin::apis], number)] for begin in range(apis)]
            before, begun = await _times(lab, serving, working), perf_counter()
            bursts = await asyncio.gather(*(burst(api, part) for api, part in zip(serving, parts, strict=True)))
            await kept(lab, _DATABASE)
            took, after = perf_counter() - begun, await _times(lab, serving, working)
            await check(lab, _DATABASE, SINGLE, goals)
            if number:  # the first round opens connections
                webhooks = sum(map(len, parts))
                answered.append(webhooks / max(each.volley.seconds for each in bursts))
                through.append(webhooks / took)
                for name, cores in taken.items():
                    cores.append((after[name] - before[name]) / took)
    share = {name: Spread(tuple(values)).median for name, values in taken.items()}
    return Scale(apis, workers, Spread(tuple(answered)), Spread(tuple(through)), share)


async def _times(lab: Lab, serving: Sequence[Proc], working: Sequence[Proc]) -> dict[str, float]:
    return {
        "API": sum(each.cpu_seconds() for each in serving),
        "workers": sum(each.cpu_seconds() for each in working),
        "mongod": lab.mongod.cpu_seconds(),
        "Valkey": await lab.valkey_cpu_seconds(),
    }


async def run(rounds: int, goals_count: int) -> list[str]:
    """The table as Markdown."""
    lines = [
        "| API processes | workers | answered/s | to the last effect/s | API: cores | workers | mongod | Valkey | in all |",
        "| ---: " * 9 + "|",
    ]
    async with open_lab() as lab:
        for apis, workers in _SIZES:
            scale = await measure(lab, apis, workers, rounds=rounds, goals_count=goals_count)
            sys.stderr.write(scale.line + "\n")
            lines.append(scale.line)
    return lines


def main() -> None:
    """Prints the table and writes it to `bench/results/scaling.md`."""
    options = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--goals", type=int, default=1000, help="each is joined and left twice in a round")
    chosen = options.parse_args()
    here = " · ".join(f"{name} {value}" for name, value in machine().items())
    lines = uvloop.run(run(chosen.rounds, chosen.goals))
    table = [f"goalsvc {revision()} · {here}", "", *lines, ""]
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "scaling.md").write_text("\n".join(table))
    sys.stdout.write("\n".join(table))


if __name__ == "__main__":
    main()
