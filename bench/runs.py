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


def _named(run: Run) -> dict[tuple[int, str, int], Result]:
    """A run's results by row and name; what is named so again within a row (`· p99`) is numbered."""
    named: dict[tuple[int, str, int], Result] = {}
    for line in run["results"]:
        result = result_of(line)
        times = sum((row, what) == (result.row, result.what) for row, what, _ in named)
        named[result.row, result.what, times] = result
    return named


def _cell(result: Result | None) -> str:
    if result is None:
        return ""
    spread = f" ({result.spread})" if result.spread is not None and len(result.spread.values) > 1 else ""
    return f"{'' if result.met else '**missed** '}{result.measured}{spread}"


def table(runs: Sequence[Run]) -> str:
    """A line for each figure that has a target, a column for each run: the median, and least and largest.

    What a run has not measured is left empty.
    """
    lines = [
        "| §11 | what | target | " + " | ".join(f"{run['at'][:16].replace('T', ' ')}" for run in runs) + " |",
        "| --- | --- | --- |" + " --- |" * len(runs),
    ]
    found = [_named(run) for run in runs]
    for name, first in sorted({**found[-1], **found[0]}.items(), key=lambda item: item[0][0]):
        if first.met is not None:
            cells = " | ".join(_cell(each.get(name)) for each in found)
            lines.append(f"| {first.row} | {first.what} | {first.target} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Prints the table."""
    if not sys.argv[1:]:
        sys.exit("usage: python -m bench.runs RESULT.json …")
    sys.stdout.write(table([json.loads(Path(path).read_text()) for path in sys.argv[1:]]) + "\n")


if __name__ == "__main__":
    main()
