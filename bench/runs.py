"""Several runs side by side, as Markdown for docs/performance.md: `python -m bench.runs RESULT.json …`."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.report import Result, Spread

Run = Mapping[str, Any]


def result_of(line: Mapping[str, Any]) -> Result:
    """One line of a run's file."""
    known = {name: value for name, value in line.items() if name not in ("met", "spread")}
    spread = Spread(tuple(line["spread"]["values"])) if line["spread"] else None
    return Result(**known, spread=spread)


def table(runs: Sequence[Run]) -> str:
    """A line for each figure that has a target, a column for each run: the median, and least and largest."""
    lines = [
        "| §11 | what | target | " + " | ".join(f"{run['at'][:16].replace('T', ' ')}" for run in runs) + " |",
        "| --- | --- | --- |" + " --- |" * len(runs),
    ]
    for number, first in enumerate(runs[0]["results"]):
        results = [result_of(run["results"][number]) for run in runs]
        if results[0].met is None:
            continue
        cells = [
            f"{'' if result.met else '**missed** '}{result.measured}"
            + (f" ({result.spread})" if result.spread is not None and len(result.spread.values) > 1 else "")
            for result in results
        ]
        lines.append(f"| {first['row']} | {results[0].what} | {results[0].target} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Prints the table."""
    if not sys.argv[1:]:
        sys.exit("usage: python -m bench.runs RESULT.json …")
    sys.stdout.write(table([json.loads(Path(path).read_text()) for path in sys.argv[1:]]) + "\n")


if __name__ == "__main__":
    main()
