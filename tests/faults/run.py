"""Plays many histories, or one again: `python -m tests.faults.run --histories 10000 --base-seed 1`, `… --seed 4711`."""

import argparse
import logging
import multiprocessing
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields

from .history import play
from .invariants import violations_of
from .machine import Faults
from .simulation import Figures, Simulation

#: How many histories a process plays before it reports.
_SLICE = 20


@dataclass(slots=True)
class Result:
    """What came of histories: their figures, and by seed what was wrong."""

    histories: int = 0
    figures: Figures = field(default_factory=Figures)
    violations: dict[int, list[str]] = field(default_factory=dict)

    def add(self, other: "Result") -> None:
        self.histories += other.histories
        self.figures.add(other.figures)
        self.violations.update(other.violations)


def play_one(seed: int, faults: Faults | None = None) -> tuple[Simulation, list[str]]:
    """Plays the history of that seed, with its own faults or with these; what is wrong with it."""
    # As a warning it is none of ours (tests/conftest.py), as an error (`-W error`) it would fail every task for ever.
    warnings.filterwarnings("ignore", "Accessing the 'model_fields' attribute", DeprecationWarning)
    simulation = Simulation(seed, faults)
    try:
        play(simulation)
        return simulation, violations_of(simulation)
    except Exception:
        return simulation, [*simulation.violations, traceback.format_exc()]


def play_some(seeds: Sequence[int]) -> Result:
    """Plays these histories in this process."""
    logging.disable(logging.CRITICAL)  # what breaks on purpose is not worth a word
    result = Result()
    for seed in seeds:
        simulation, violations = play_one(seed)
        result.histories += 1
        result.figures.add(simulation.figures)
        if violations:
            result.violations[seed] = violations
    return result


def play_many(seeds: Sequence[int], processes: int = 2) -> Result:
    """Plays these histories in so many processes."""
    result = Result()
    slices = [seeds[at : at + _SLICE] for at in range(0, len(seeds), _SLICE)]
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        for part in pool.map(play_some, slices):
            result.add(part)
    return result


def report(result: Result) -> str:
    """What is wrong, seed by seed, and how to see it again."""
    lines = []
    for seed, violations in sorted(result.violations.items()):
        lines += [f"seed {seed} (python -m tests.faults.run --seed {seed}):", *(f"    {each}" for each in violations)]
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, help="play this one history again")
    parser.add_argument("--histories", type=int, default=500)
    parser.add_argument("--base-seed", type=int, default=0, help="the first of the seeds")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args(words)
    began = time.monotonic()
    if given.seed is not None:
        simulation, violations = play_one(given.seed)
        print(simulation.faults)
        result = Result(1, simulation.figures, {given.seed: violations} if violations else {})
    else:
        result = play_many(range(given.base_seed, given.base_seed + given.histories), given.processes)
    print(report(result))
    figures = ", ".join(f"{each.name} {getattr(result.figures, each.name):,.0f}" for each in fields(Figures))
    print(f"histories {result.histories:,}, {figures}; {time.monotonic() - began:.0f} s")
    print(f"histories with a violation: {len(result.violations)}")
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())
