"""What was measured, beside its target: the table on the screen, and the files in `bench/results/`."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from goalsvc.devstack.binaries import find_mongod, find_valkey

RESULTS = Path(__file__).parent / "results"
_PACKAGES = (
    "fastapi", "starlette", "uvicorn", "uvloop", "httptools", "motor", "pymongo", "beanie", "redis", "hiredis", "arq",
    "blinker", "msgspec", "aiohttp", "pydantic",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Spread:
    """Several measurements of the same."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.values)

    def __str__(self) -> str:
        return f"{_short(min(self.values))} – {_short(max(self.values))}"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Ours to theirs, for each pair that was measured one right after the other."""
    return Spread(tuple(mine / other for mine, other in zip(ours, theirs, strict=True)))


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table: a figure and, where docs/specification.md#targets sets one, its target."""

    row: int
    what: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    spread: Spread | None = None
    basis: str = ""
    """What the figure was made of, in words."""
    details: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    """Why there is no figure."""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.error:
            return False
        if self.at_most is not None:
            return self.value <= self.at_most
        return None if self.at_least is None else self.value >= self.at_least

    @property
    def target(self) -> str:
        """The target in words."""
        if self.at_most is not None:
            return f"≤ {_short(self.at_most)}{self._unit}"
        return "" if self.at_least is None else f"≥ {_short(self.at_least)}{self._unit}"

    @property
    def measured(self) -> str:
        """The figure in words."""
        return self.error or f"{_short(self.value)}{self._unit}"

    @property
    def verdict(self) -> str:
        """The outcome in a word."""
        return "" if self.met is None else "met" if self.met else "MISSED"

    @property
    def cells(self) -> tuple[str, ...]:
        """The line of the table."""
        spread = str(self.spread) if self.spread is not None and len(self.spread.values) > 1 else ""
        return (str(self.row), self.what, self.target, self.measured, spread, self.verdict, self.basis)

    @property
    def _unit(self) -> str:
        return self.unit if self.unit in ("", "×") else f" {self.unit}"


_HEADINGS = ("§11", "what", "target", "measured", "spread", "", "from")


def _short(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}".rstrip("0").rstrip(".") if abs(value) < 10 else f"{value:.1f}"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the benchmark: where, when, of what, and what came of it."""

    at: datetime
    revision: str
    quick: bool
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    results: Sequence[Result]

    @property
    def missed(self) -> list[Result]:
        """The lines whose targets were not met."""
        return [result for result in self.results if result.met is False]

    def print(self) -> None:
        """Shows the table."""
        table = Table(*_HEADINGS, title=f"goalsvc {self.revision}{' (quick)' if self.quick else ''}")
        for result in self.results:
            colour = {True: "green", False: "red", None: ""}[result.met]
            table.add_row(*result.cells, style=colour)
        Console(width=None if os.isatty(1) else 190).print(table)

    def markdown(self) -> str:
        """The table for reading."""
        lines = [
            f"# Benchmark of goalsvc {self.revision}",
            "",
            f"{self.at:%Y-%m-%d %H:%M} UTC{' · quick' if self.quick else ''} · "
            + " · ".join(f"{name} {value}" for name, value in self.machine.items()),
            "",
            "| " + " | ".join(_HEADINGS) + " |",
            "| " + " | ".join("---" for _ in _HEADINGS) + " |",
            *("| " + " | ".join(result.cells) + " |" for result in self.results),
            "",
            ", ".join(f"{name} {number}" for name, number in self.versions.items()),
            "",
        ]
        return "\n".join(lines)

    def write(self, directory: Path = RESULTS) -> Path:
        """Writes the table as Markdown, and all there is as JSON; where the table is."""
        directory.mkdir(parents=True, exist_ok=True)
        stem = f"{self.at:%Y%m%dT%H%M%SZ}-{self.revision}{'-quick' if self.quick else ''}"
        content = asdict(self) | {"at": self.at.isoformat()}
        for line, result in zip(content["results"], self.results, strict=True):
            line["met"] = result.met
        (directory / f"{stem}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        table = directory / f"{stem}.md"
        table.write_text(self.markdown())
        return table


def new_run(results: Sequence[Result], *, quick: bool, machine: Mapping[str, Any]) -> Run:
    """What has just been measured, on this machine."""
    return Run(datetime.now(UTC), revision(), quick, machine, _versions(), results)


def machine() -> dict[str, Any]:
    """What the measurements depend on, and how busy it is at this moment."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "CPU": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory": f"{memory / 1024**2:.1f} GB",
        "kernel": platform.release(),
        "load before": round(os.getloadavg()[0], 2),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _versions() -> dict[str, str]:
    programs = {
        "Python": platform.python_version(),
        "mongod": _said([str(find_mongod()), "--version"], "db version v"),
        "Valkey": _said([str(find_valkey()), "--version"], "v="),
    }
    return programs | {package: version(package) for package in _PACKAGES}


def _said(command: Sequence[str], before: str) -> str:
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    words = output.partition(before)[2].split()
    return words[0] if words else "?"


def revision() -> str:
    """The git revision; with `-dirty` when files were changed since."""

    def git(*words: str) -> str:
        command = ["git", "--no-optional-locks", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "src", "bench")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("-dirty" if changed else "")
