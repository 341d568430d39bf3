"""One stream's evening: goals as bars on one axis, what was performed, viewers' windows, recordings, clips, takings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from goalsvc.console.pictures.axis import Axis, axis_of
from goalsvc.console.pictures.scale import CHARACTER, LEFT, RIGHT, WIDTH, breaks, name, shortened, ticks
from goalsvc.console.pictures.shapes import Line, Picture, Rect, Shape, Text
from goalsvc.console.pictures.timeline import Run
from goalsvc.domain.durations import duration_text

_ROW, _BAR = 30.0, 16.0
#: So many goals and windows have a row; the page's tables have all.
MOST_ROWS = 40


@dataclass(frozen=True, slots=True)
class Spell:
    """A stretch of time with a name: a recording, a clip."""

    name: str
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class GoalBar:
    """A goal of the evening: when it began and ended, what was performed of it, what it took in."""

    name: str
    kind: str
    since: datetime
    until: datetime | None
    runs: Sequence[Run] = ()
    spells: Sequence[Spell] = ()
    tokens: int = 0
    """What its streamer was paid for it."""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Window:
    """A viewer's window: when they may watch."""

    viewer: str
    since: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Evening:
    """All that the picture shows."""

    name: str
    now: datetime
    since: datetime | None
    until: datetime | None
    goals: Sequence[GoalBar] = ()
    windows: Sequence[Window] = ()


def draw(evening: Evening) -> Picture | None:
    """Returns the picture of an evening; None when it had no goal."""
    if not evening.goals:
        return None
    axis = axis_of(_busy(evening), LEFT, RIGHT)
    shapes: list[Shape] = []
    top = 12.0
    rows: list[GoalBar | Window] = list(evening.goals)
    rows += evening.windows
    for row in rows[:MOST_ROWS]:
        shapes += _goal(row, evening, axis, top) if isinstance(row, GoalBar) else _window(row, evening, axis, top)
        top += _ROW
    shapes = [*ticks(axis, top), *breaks(axis, top), *shapes]
    tokens = sum(goal.tokens for goal in evening.goals)
    performed = sum((_performed(goal, evening.now) for goal in evening.goals), timedelta())
    told = (
        f"{len(evening.goals)} goals, {duration_text(performed)} performed, {tokens} tokens for the streamer; "
        f"{len(evening.windows)} windows of viewers. The tables below hold the same figures."
    )
    return Picture(WIDTH, top + 26, f"The evening of {evening.name}", told, shapes)


def _busy(evening: Evening) -> Iterator[tuple[datetime, datetime]]:
    """The instants at which something happened: bars may be long, and in between nothing does."""
    for at in (evening.since, evening.until):
        if at is not None:
            yield at, at
    for goal in evening.goals:
        yield goal.since, goal.since
        if goal.until is not None:
            yield goal.until, goal.until
        for run in goal.runs:
            yield run.since, max(run.until or evening.now, run.since)
        for spell in goal.spells:
            yield spell.since, max(spell.since, spell.until)
    for window in evening.windows:
        yield window.since, window.since
        if window.until is not None:
            yield window.until, window.until


def _performed(goal: GoalBar, now: datetime) -> timedelta:
    return sum(((run.until or max(now, run.since)) - run.since for run in goal.runs), timedelta())


def _goal(goal: GoalBar, evening: Evening, axis: Axis, top: float) -> Iterator[Shape]:
    left, right = axis.x(goal.since), axis.x(goal.until or evening.now)
    until = f"to {goal.until:%H:%M:%S}" if goal.until is not None else "on"
    took = f", {goal.tokens} tokens" if goal.tokens else ""
    title = f"{goal.kind} “{goal.name}” from {goal.since:%H:%M:%S} {until}{took}"
    yield name(top + 13, shortened(goal.name))
    yield Line(LEFT, top + _BAR / 2 + 1, RIGHT, top + _BAR / 2 + 1, "row")
    yield Rect(left, top, max(right - left, 2.0), _BAR, "span" if goal.until else "span-open", title, path=goal.path)
    for run in goal.runs:
        begin, end = axis.x(run.since), axis.x(run.until or evening.now)
        length = duration_text((run.until or max(evening.now, run.since)) - run.since)
        yield Rect(
            begin, top + 2, max(end - begin, 1.5), _BAR - 4, "run" if run.until else "run-open",
            f"{length} performed from {run.since:%H:%M:%S} on", path=goal.path,
        )  # fmt: skip
    for spell in goal.spells:
        begin, end = axis.x(spell.since), axis.x(spell.until)
        told = f"{spell.name} from {spell.since:%H:%M:%S} to {spell.until:%H:%M:%S}"
        y = top + _BAR + (4.0 if spell.name == "clip" else 7.5)
        yield Line(begin, y, max(end, begin + 2.0), y, "act-range" if spell.name == "clip" else "recorded", told)
    if goal.tokens:
        text = f"{goal.tokens} tokens"
        fits = right + 8 + len(text) * CHARACTER < RIGHT
        style = "taken" if fits else "taken-inside"
        yield Text(right + 6 if fits else right - 6, top + 12, text, style, "start" if fits else "end")


def _window(window: Window, evening: Evening, axis: Axis, top: float) -> Iterator[Shape]:
    left, right = axis.x(window.since), axis.x(window.until or evening.now)
    until = f"until {window.until:%H:%M:%S}" if window.until is not None else "without an end"
    yield name(top + 13, shortened(f"for {window.viewer}"))
    yield Line(LEFT, top + _BAR / 2 + 1, RIGHT, top + _BAR / 2 + 1, "row")
    title = f"{window.viewer} may watch from {window.since:%H:%M:%S} {until}"
    yield Rect(left, top + 4, max(right - left, 2.0), _BAR - 8, "window", title)
