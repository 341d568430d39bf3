"""Telling the demo: one line a step as it happens, and every figure held against what it should be."""

import time
from asyncio import CancelledError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Check:
    """A figure, and what it should be."""

    what: str
    found: object
    expected: object

    @property
    def held(self) -> bool:
        """Whether it is what it should be."""
        return self.found == self.expected

    def __str__(self) -> str:
        return f"{self.what}: {self.found}, expected {self.expected}"


@dataclass(slots=True)
class Step:
    """A step that is being told; `result` is what it came to, in a few words."""

    result: str = ""


class Story:
    """Speaks to a person who watches: with a moving bar on a terminal, line by line and without any control code elsewhere."""

    def __init__(self, console: Console, steps: int) -> None:
        self.checks: list[Check] = []
        self._console = console
        self._began_at = time.monotonic()
        moving = console.is_terminal and not console.is_dumb_terminal
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not moving,
        )
        self._bar = self._progress.add_task("", total=steps)
        plain = not console.encoding.lower().startswith("utf")
        self._good, self._bad = ("ok", "XX") if plain else ("✓", "✗")

    @property
    def seconds(self) -> float:
        """How long it has been told."""
        return time.monotonic() - self._began_at

    @property
    def wrong(self) -> list[Check]:
        """The figures that are not what they should be."""
        return [check for check in self.checks if not check.held]

    @contextmanager
    def telling(self) -> Iterator[None]:
        """While it is told, the bar is there."""
        with self._progress:
            yield

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """A step: it is told when it is over, with its result, and whether every figure in it held."""
        self._progress.update(self._bar, description=title)
        step, checked = Step(), len(self.checks)
        try:
            yield step
        except BaseException as error:
            self._tell(self._bad, "red", title, "interrupted" if isinstance(error, CancelledError) else "")
            raise
        held = all(check.held for check in self.checks[checked:])
        self._tell(self._good if held else self._bad, "green" if held else "red", title, step.result)
        for check in self.checks[checked:]:
            if not check.held:
                self._print(Text(f"              {check}", style="red"))
        self._progress.advance(self._bar)

    def expect(self, what: str, found: object, expected: object) -> None:
        """Holds a figure against what it should be."""
        self.checks.append(Check(what, found, expected))

    def show(self, *parts: RenderableType) -> None:
        """Shows tables, trees and the like."""
        for part in parts:
            self._print(part)

    def verdict(self) -> int:
        """Says whether all of it held, and gives the exit status."""
        wrong: Sequence[Check] = self.wrong
        if wrong:
            self._print(Text(f"\n{len(wrong)} of {len(self.checks)} figures are wrong:", style="bold red"))
            for check in wrong:
                self._print(Text(f"  {self._bad} {check}", style="red"))
            return 1
        told = f"\n{self._good} all {len(self.checks)} figures are as expected, after {self.seconds:.1f} s"
        self._print(Text(told, style="bold green"))
        return 0

    def _tell(self, mark: str, style: str, title: str, result: str) -> None:
        line = Text(f"{mark} ", style=style).append(f"{self.seconds:6.1f} s  ", style="dim").append(title, style="bold")
        self._print(line.append(f": {result}" if result else "", style="not bold"))

    def _print(self, part: RenderableType) -> None:
        self._console.print(part)
