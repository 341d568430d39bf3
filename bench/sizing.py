"""How many processes so many concurrent goals need: `python -m bench.sizing [RESULT.json]`, from measured figures.

Each goal has a join and a leave every few minutes, and Pusher tells each of them by two webhooks. What a webhook takes of each
kind of process was measured with a worker doing all that follows (row 1); no process is loaded beyond a share that leaves
room for bursts.
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.report import RESULTS
from bench.webhooks import TWINS

GOALS = (1_000, 10_000, 100_000, 1_000_000)
#: Pusher announces a leave as `member_removed` and as `channel_vacated`, and a join likewise.
_WEBHOOKS_PER_CHANGE = 2
_COST_LINE = f"· processor time of all for one webhook, {TWINS.name}"


def costs_of(run: Mapping[str, Any]) -> Mapping[str, float]:
    """Microseconds of processor time for one webhook, by kind of process."""
    for result in run["results"]:
        if result["what"] == _COST_LINE:
            costs: Mapping[str, float] = result["details"]
            return costs
    raise SystemExit("that run did not measure row 1")


def table(costs: Mapping[str, float], *, minutes: float, load: float) -> str:
    """The table as Markdown: processes of one core each, so many as keep each below `load`."""
    lines = [
        "| concurrent goals | webhooks/s | " + " | ".join(f"{name}: cores" for name in costs) + " |",
        "| ---: " * (2 + len(costs)) + "|",
    ]
    for goals in GOALS:
        rate = goals * 2 * _WEBHOOKS_PER_CHANGE / (minutes * 60)
        cores = [math.ceil(rate * cost / 1_000_000 / load * 10) / 10 for cost in costs.values()]
        lines.append(f"| {goals:,} | {rate:,.0f} | " + " | ".join(f"{core:,.1f}" for core in cores) + " |")
    return "\n".join(lines)


def latest() -> Path:
    """The latest whole run, else the latest quick one."""
    written = sorted(RESULTS.glob("*.json"))
    whole = [path for path in written if not path.stem.endswith("-quick")]
    if not written:
        raise SystemExit("nothing was measured yet: python -m bench")
    return (whole or written)[-1]


def main() -> None:
    """Prints the table."""
    options = argparse.ArgumentParser(prog="python -m bench.sizing", description=__doc__)
    options.add_argument("result", type=Path, nargs="?", help="a file of bench/results; the latest if absent")
    options.add_argument("--minutes", type=float, default=5.0, help="how often a goal is joined and left once")
    options.add_argument("--load", type=float, default=0.6, help="how much of a core is used at most")
    chosen = options.parse_args()
    run = json.loads((chosen.result or latest()).read_text())
    sys.stdout.write(table(costs_of(run), minutes=chosen.minutes, load=chosen.load) + "\n")


if __name__ == "__main__":
    main()
