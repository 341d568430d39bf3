"""The time line of a goal: who joined and left, what was performed, progress against the levels, how late it was reported,
and the tokens that moved. One axis, five lanes.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TypeVar

from goalsvc.console.pictures.axis import Axis, axis_of
from goalsvc.console.pictures.scale import CHARACTER, LEFT, RIGHT, WIDTH, breaks, name, shortened, ticks
from goalsvc.console.pictures.shapes import Glyph, Line, Picture, Polyline, Rect, Shape, Sign, Text
from goalsvc.domain.durations import duration_text

Item = TypeVar("Item")

_ROW = 22.0
_GAP = 18.0
_PROGRESS_HEIGHT = 76.0
_RECEIPT_HEIGHT = 34.0
_MONEY_HEIGHT = 76.0
#: So many shapes of a lane are drawn one by one; more are drawn together where they lie this close to each other.
_MOST_SINGLE = 120
_CLOSE = 8.0
#: The width of the narrowest column of flows.
_COLUMN = 3.0
_MOST_ROWS = 6


@dataclass(frozen=True, slots=True)
class Mark:
    """A join or leave as it was reported; `reason` says why it did not count."""

    at: datetime
    joined: bool
    user: str
    counted: bool = True
    reason: str = ""
    late: timedelta = timedelta()
    """How long after it the webhook arrived."""
    path: str = ""
    """Where its cause is shown, below the console's own address; so in all that follows."""


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of performance; `until` is absent while it goes on."""

    since: datetime
    until: datetime | None
    path: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """The goal's progress from an instant on."""

    at: datetime
    progress: int
    path: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """When a webhook's event happened, and when the webhook arrived."""

    happened_at: datetime
    received_at: datetime
    name: str
    refused: bool = False
    repeated: bool = False
    path: str = ""


@dataclass(frozen=True, slots=True)
class Flow:
    """Tokens into the goal's escrows (positive) or out of them (negative)."""

    at: datetime
    amount: int
    title: str
    count: int = 1
    """How many transfers it stands for."""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Act:
    """Something that was done at an instant, or over a while: completed, ended, the clip, the recording."""

    at: datetime
    name: str
    until: datetime | None = None
    path: str = ""


@dataclass(frozen=True, slots=True)
class Timeline:
    """All that a goal's time line shows."""

    name: str
    unit: str
    now: datetime
    marks: Sequence[Mark] = ()
    runs: Sequence[Run] = ()
    earlier_milliseconds: int = 0
    """Performed in stretches that the document keeps no longer."""
    steps: Sequence[Step] = ()
    levels: Sequence[tuple[str, int]] = ()
    receipts: Sequence[Receipt] = ()
    flows: Sequence[Flow] = ()
    acts: Sequence[Act] = ()
    window: tuple[datetime, datetime] | None = None
    """The range that is drawn; all of it where there is none."""

    def shows(self, since: datetime, until: datetime | None = None) -> bool:
        """Whether the range that is drawn has any of that time."""
        return self.window is None or (since <= self.window[1] and (until or since) >= self.window[0])

    @property
    def performed(self) -> timedelta:
        """The sum of all closed stretches."""
        closed = sum(((run.until - run.since) for run in self.runs if run.until is not None), timedelta())
        return closed + timedelta(milliseconds=self.earlier_milliseconds)


def draw(timeline: Timeline) -> Picture:
    """Returns the picture of a time line."""
    axis = axis_of(_shown(timeline), LEFT, RIGHT)
    shapes: list[Shape] = []
    y = 8.0
    for lane in (_acts, _participants, _performed, _progress, _receipt, _money):
        drawn, height = lane(timeline, axis, y)
        if drawn:
            shapes += drawn
            y += height + _GAP
    shapes = [*ticks(axis, y), *breaks(axis, y), *shapes]
    title, description = f"Time line of {timeline.name}", _description(timeline)
    return Picture(WIDTH, y + 26, title, description, shapes, spans=axis.spans)


def _shown(timeline: Timeline) -> Iterator[tuple[datetime, datetime]]:
    """When something happens, within the range that is drawn."""
    begin, end = timeline.window or (None, None)
    for since, until in _busy(timeline):
        if begin is None or end is None:
            yield since, until
        elif timeline.shows(since, until):
            yield max(since, begin), min(until, end)
    if begin is not None and end is not None:
        yield from ((begin, begin), (end, end))


def extent(timeline: Timeline) -> tuple[datetime, datetime]:
    """Returns when the first thing happened, and the last."""
    times = list(_busy(timeline))
    return min(since for since, _ in times), max(until for _, until in times)


def _busy(timeline: Timeline) -> Iterator[tuple[datetime, datetime]]:
    for run in timeline.runs:
        yield run.since, run.until or max(timeline.now, run.since)
    for act in timeline.acts:
        yield act.at, act.until or act.at
    for at in (
        *(mark.at for mark in timeline.marks),
        *(step.at for step in timeline.steps),
        *(flow.at for flow in timeline.flows),
    ):
        yield at, at
    for receipt in timeline.receipts:
        yield min(receipt.happened_at, receipt.received_at), receipt.received_at
    if not (timeline.runs or timeline.acts or timeline.marks or timeline.steps or timeline.flows or timeline.receipts):
        yield timeline.now, timeline.now


def _description(timeline: Timeline) -> str:
    counted = sum(mark.counted for mark in timeline.marks)
    said = [
        f"{len(timeline.marks)} joins and leaves, {len(timeline.marks) - counted} of which did not count",
        f"{duration_text(timeline.performed)} performed in {len(timeline.runs)} stretches",
    ]
    if timeline.steps:
        said.append(f"progress {timeline.steps[-1].progress} {timeline.unit}")
    if timeline.flows:
        into = sum(flow.amount for flow in timeline.flows if flow.amount > 0)
        out = -sum(flow.amount for flow in timeline.flows if flow.amount < 0)
        said.append(f"{into} tokens in, {out} tokens out")
    return "; ".join(said) + ". The tables below hold the same figures."


# -- the lanes --------------------------------------------------------------------------------------------------------


def _acts(timeline: Timeline, axis: Axis, top: float) -> tuple[list[Shape], float]:
    """What acted: flags with names, in as many rows as keep the names apart."""
    if not timeline.acts:
        return [], 0.0
    ends: list[float] = []
    shapes: list[Shape] = []
    for act in sorted((one for one in timeline.acts if timeline.shows(one.at, one.until)), key=lambda act: act.at):
        x = axis.x(act.at)
        wide = 12 + len(act.name) * CHARACTER
        flips = x + wide > RIGHT
        left, right = (x - wide, x + 10) if flips else (x, x + wide)
        row = next((number for number, end in enumerate(ends) if end < left), len(ends))
        if row == _MOST_ROWS:
            row = ends.index(min(ends))
        ends[row : row + 1] = [right]
        y = top + row * 16 + 12
        title = f"{act.name} at {act.at:%H:%M:%S}"
        if act.until is not None:
            shapes.append(Line(x, y - 4, axis.x(act.until), y - 4, "act-range", f"{title} to {act.until:%H:%M:%S}"))
        shapes.append(Glyph(x, y - 4, "flag", "act", title, path=act.path))
        shapes.append(Text(x - 8 if flips else x + 8, y, act.name, "act-name", "end" if flips else "start"))
    return [name(top + 12, "acts"), *shapes], len(ends) * 16.0


def _participants(timeline: Timeline, axis: Axis, top: float) -> tuple[list[Shape], float]:
    """Joins and leaves, one row for each participant; hollow where they did not count."""
    if not timeline.marks:
        return [], 0.0
    users = list(dict.fromkeys(mark.user for mark in timeline.marks))
    rows = {user: min(number, _MOST_ROWS - 1) for number, user in enumerate(users)}
    shapes: list[Shape] = []
    for user, row in rows.items():
        y = top + row * _ROW + _ROW / 2
        if row < _MOST_ROWS - 1 or len(users) <= _MOST_ROWS:
            shapes.append(name(y + 4, shortened(user)))
        elif user == users[_MOST_ROWS - 1]:
            shapes.append(name(y + 4, f"{len(users) - _MOST_ROWS + 1} others"))
        shapes.append(Line(LEFT, y, RIGHT, y, "row"))
        shapes += _presence(timeline, user, axis, y)
    shown = [mark for mark in timeline.marks if timeline.shows(mark.at)]
    for marks in _together(shown, lambda mark: (rows[mark.user], mark.joined, mark.reason), lambda m: axis.x(m.at)):
        mark = marks[0]
        y = top + rows[mark.user] * _ROW + _ROW / 2
        style = "mark" if mark.counted else "mark-refused"
        sign: Sign = "join" if mark.joined else "leave"
        shapes.append(Glyph(axis.x(mark.at), y, sign, style, _told(marks), not mark.counted, path=_path(marks)))
    return shapes, min(len(users), _MOST_ROWS) * _ROW


def _together(items: Sequence[Item], kind: Callable[[Item], Hashable], x: Callable[[Item], float]) -> list[list[Item]]:
    """Returns the items of a lane, each by itself; where they are many, those of one kind that lie close together."""
    groups: dict[Hashable, list[Item]] = {}
    for number, item in enumerate(items):
        place: Hashable = number if len(items) <= _MOST_SINGLE else (int(x(item) / _CLOSE), kind(item))
        groups.setdefault(place, []).append(item)
    return list(groups.values())


def _path(items: Sequence[Mark] | Sequence[Run] | Sequence[Receipt] | Sequence[Flow]) -> str:
    """Where the cause of what is drawn as one shape is shown; several have several."""
    return items[0].path if len(items) == 1 else ""


def _told(marks: Sequence[Mark]) -> str:
    mark, last = marks[0], marks[-1]
    why = f"; did not count: {mark.reason}" if mark.reason else ""
    if len(marks) == 1:
        what = "joins" if mark.joined else "leaves"
        return f"{mark.user} {what} at {mark.at:%H:%M:%S.%f}"[:-3] + why
    what = "joins" if mark.joined else "leaves"
    return f"{len(marks)} {what} from {mark.at:%H:%M:%S} to {last.at:%H:%M:%S}{why}"


def _presence(timeline: Timeline, user: str, axis: Axis, y: float) -> Iterator[Shape]:
    """A line where that participant was in the channel, as the counted marks say."""
    since: datetime | None = None
    spans: list[tuple[float, float]] = []
    for mark in sorted((m for m in timeline.marks if m.user == user and m.counted), key=lambda m: (m.at, not m.joined)):
        if mark.joined and since is None:
            since = mark.at
        elif not mark.joined and since is not None:
            spans.append((axis.x(since), axis.x(mark.at)))
            since = None
    if since is not None:
        spans.append((axis.x(since), axis.x(timeline.now)))
    joined: list[tuple[float, float]] = []
    for left, right in spans:
        if joined and len(spans) > _MOST_SINGLE and left - joined[-1][1] < _CLOSE / 2:
            joined[-1] = (joined[-1][0], right)
        else:
            joined.append((left, right))
    for left, right in ((left, right) for left, right in joined if left < right):
        yield Line(left, y, right, y, "present")


@dataclass(frozen=True, slots=True)
class Bar:
    """Performed stretches as they are drawn: one, or several that lie close together."""

    runs: Sequence[Run]
    left: float
    right: float
    length: timedelta
    """Of the closed ones."""


def bars(timeline: Timeline, axis: Axis) -> list[Bar]:
    """Returns the bars of what was performed; their lengths add up to it."""
    made = []
    shown = [run for run in timeline.runs if timeline.shows(run.since, run.until or timeline.now)]
    for runs in _together(shown, lambda run: run.until is None, lambda run: axis.x(run.since)):
        length = sum(((run.until - run.since) for run in runs if run.until is not None), timedelta())
        right = max(axis.x(run.until or timeline.now) for run in runs)
        made.append(Bar(runs, axis.x(runs[0].since), right, length))
    return made


def _performed(timeline: Timeline, axis: Axis, top: float) -> tuple[list[Shape], float]:
    """Performed stretches as bars with their seconds."""
    if not timeline.runs:
        return [], 0.0
    shapes: list[Shape] = [name(top + 15, "performed")]
    for bar in bars(timeline, axis):
        first, last = bar.runs[0], bar.runs[-1]
        until = last.until or timeline.now
        length = duration_text(bar.length if last.until else until - first.since)
        stretches = f" in {len(bar.runs)} stretches" if len(bar.runs) > 1 else ""
        going_on = "" if last.until else " and goes on"
        title = f"{length} performed{stretches} from {first.since:%H:%M:%S} to {until:%H:%M:%S}{going_on}"
        style = "run" if last.until else "run-open"
        width = max(bar.right - bar.left, 1.5)
        shapes.append(Rect(bar.left, top, width, _ROW, style, title, path=_path(bar.runs)))
        if width > len(length) * CHARACTER + 6:
            shapes.append(Text((bar.left + bar.right) / 2, top + 15, length, "run-label", "middle"))
    return shapes, _ROW


def _progress(timeline: Timeline, axis: Axis, top: float) -> tuple[list[Shape], float]:
    """Progress as steps against the levels."""
    if not timeline.steps:
        return [], 0.0
    highest = max([*(target for _, target in timeline.levels), *(step.progress for step in timeline.steps), 1])
    bottom = top + _PROGRESS_HEIGHT

    def y(progress: int) -> float:
        return bottom - (bottom - top) * progress / highest

    named = top + _PROGRESS_HEIGHT / 2
    shapes: list[Shape] = [name(named + 4, "progress"), Line(LEFT, bottom, RIGHT, bottom, "row")]
    drawn = [named]
    for title, target in timeline.levels:
        line = y(target)
        shapes.append(Line(LEFT, line, RIGHT, line, "level", f"level “{title}”: {target} {timeline.unit}"))
        if all(abs(line - other) > 11 for other in drawn):
            shapes.append(Text(LEFT - 12, line + 4, str(target), "tick", "end"))
            drawn.append(line)
    points: list[tuple[float, float]] = [(LEFT, bottom)]
    steps = [step for step in timeline.steps if timeline.window is None or step.at <= timeline.window[1]]
    highest_at: dict[int, Step] = {int(axis.x(step.at)): step for step in steps}
    for step in highest_at.values() if len(steps) > _MOST_SINGLE else steps:
        x = axis.x(step.at)
        points += [(x, points[-1][1]), (x, y(step.progress))]
    points.append((RIGHT, points[-1][1]))
    shapes.append(Polyline((*points, (RIGHT, bottom)), "progress-area", closed=True))
    last = timeline.steps[-1].progress
    shapes.append(Polyline(tuple(points), "progress", title=f"progress {last} {timeline.unit}"))
    if len(timeline.steps) <= 80:
        for before, step in pairwise([Step(timeline.steps[0].at, 0), *timeline.steps]):
            if not timeline.shows(step.at):
                continue
            gained = step.progress - before.progress
            title = f"+{gained} to {step.progress} {timeline.unit} at {step.at:%H:%M:%S}"
            shapes.append(Glyph(axis.x(step.at), y(step.progress), "dot", "progress-dot", title, path=step.path))
    return shapes, _PROGRESS_HEIGHT


def _receipt(timeline: Timeline, axis: Axis, top: float) -> tuple[list[Shape], float]:
    """A line from when something happened down to when it was reported: the slant is the lateness."""
    if not timeline.receipts:
        return [], 0.0
    bottom = top + _RECEIPT_HEIGHT
    shapes: list[Shape] = [
        name(top + 8, "happened"),
        name(bottom + 3, "reported"),
        Line(LEFT, top, RIGHT, top, "row"),
        Line(LEFT, bottom, RIGHT, bottom, "row"),
    ]
    for receipts in _together(
        [receipt for receipt in timeline.receipts if timeline.shows(receipt.happened_at, receipt.received_at)],
        lambda receipt: (int(axis.x(receipt.received_at) / _CLOSE), receipt.refused, receipt.repeated),
        lambda receipt: axis.x(receipt.happened_at),
    ):
        receipt = max(receipts, key=lambda one: one.received_at - one.happened_at)
        late = duration_text(max(receipt.received_at - receipt.happened_at, timedelta()))
        kind = "refused" if receipt.refused else "a repeat or twin" if receipt.repeated else "taken"
        several = f"{len(receipts)} webhooks; the slowest: " if len(receipts) > 1 else ""
        title = f"{several}{receipt.name} at {receipt.happened_at:%H:%M:%S}, reported {late} later; {kind}"
        style = "receipt-refused" if receipt.refused else "receipt-again" if receipt.repeated else "receipt"
        left, right = axis.x(receipt.happened_at), axis.x(receipt.received_at)
        shapes.append(Line(left, top, right, bottom, style, title, path=_path(receipts)))
    return shapes, _RECEIPT_HEIGHT


def _money(timeline: Timeline, axis: Axis, top: float) -> tuple[list[Shape], float]:
    """Tokens in and out as columns, and what the escrow held in between."""
    if not timeline.flows:
        return [], 0.0
    middle, half = top + _MONEY_HEIGHT / 2, _MONEY_HEIGHT / 2 - 4
    flows = sorted(timeline.flows, key=lambda flow: flow.at)
    if timeline.window is not None:
        flows = [flow for flow in flows if flow.at <= timeline.window[1]]
    columns: dict[tuple[int, bool], list[Flow]] = {}
    for flow in filter(lambda flow: timeline.shows(flow.at), flows):
        columns.setdefault((int(axis.x(flow.at) / _COLUMN), flow.amount > 0), []).append(flow)
    held = 0
    holdings: dict[float, int] = {}
    for flow in flows:
        held += flow.amount
        holdings[axis.x(flow.at) if len(flows) <= _MOST_SINGLE else float(int(axis.x(flow.at)))] = held
    balances = list(holdings.items())
    tallest = max([1, *(abs(sum(flow.amount for flow in column)) for column in columns.values())])
    most_held = max([1, *(balance for _, balance in balances)])
    points: list[tuple[float, float]] = [(LEFT, middle)]
    for x, balance in balances:
        points += [(x, points[-1][1]), (x, middle - half * max(balance, 0) / most_held)]
    points.append((RIGHT, points[-1][1]))
    shapes: list[Shape] = [
        name(top + 12, "tokens in"),
        name(middle + 4, "escrow"),
        name(top + _MONEY_HEIGHT - 4, "tokens out"),
        Polyline(
            (*points, (RIGHT, middle)), "escrow-area", closed=True, title=f"the escrow held at most {most_held} tokens"
        ),
        Line(LEFT, middle, RIGHT, middle, "row"),
    ]
    for (column, into), grouped in sorted(columns.items()):
        amount = sum(flow.amount for flow in grouped)
        height = max(half * abs(amount) / tallest, 2.0)
        number = sum(flow.count for flow in grouped)
        title = grouped[0].title if len(grouped) == 1 else f"{number} transfers, {abs(amount)} tokens"
        y = middle - height if into else middle
        style, path = "flow-in" if into else "flow-out", _path(grouped)
        shapes.append(Rect(column * _COLUMN, y, _COLUMN - 0.5, height, style, title, path=path))
    left = f"Σ {held}"
    shapes.append(Text(RIGHT, top + _MONEY_HEIGHT + 10, left, "sum" if held == 0 else "sum-open", "end"))
    return shapes, _MONEY_HEIGHT + 8
