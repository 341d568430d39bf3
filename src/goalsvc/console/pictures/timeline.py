"""The time line of a goal: who joined and left, what was performed, progress against the levels, how late it was reported,
and the tokens that moved. One axis, five lanes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from goalsvc.console.pictures.axis import Axis, axis_of, duration_text
from goalsvc.console.pictures.shapes import Glyph, Line, Picture, Polyline, Rect, Shape, Text

WIDTH = 1120.0
_LEFT, _RIGHT = 132.0, WIDTH - 16.0
_ROW = 22.0
_GAP = 18.0
_PROGRESS_HEIGHT = 76.0
_RECEIPT_HEIGHT = 34.0
_MONEY_HEIGHT = 76.0
#: Widths of a character of a label, and of the narrowest column of flows.
_CHARACTER = 6.6
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


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of performance; `until` is absent while it goes on."""

    since: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Step:
    """The goal's progress from an instant on."""

    at: datetime
    progress: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """When a webhook's event happened, and when the webhook arrived."""

    happened_at: datetime
    received_at: datetime
    name: str
    refused: bool = False
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Flow:
    """Tokens into the goal's escrows (positive) or out of them (negative)."""

    at: datetime
    amount: int
    title: str


@dataclass(frozen=True, slots=True)
class Act:
    """Something that was done at an instant, or over a while: completed, ended, the clip, the recording."""

    at: datetime
    name: str
    until: datetime | None = None


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

    @property
    def performed(self) -> timedelta:
        """The sum of all closed stretches."""
        closed = sum(((run.until - run.since) for run in self.runs if run.until is not None), timedelta())
        return closed + timedelta(milliseconds=self.earlier_milliseconds)


def draw(timeline: Timeline) -> Picture:
    """Returns the picture of a time line."""
    axis = axis_of(_busy(timeline), _LEFT, _RIGHT)
    shapes: list[Shape] = []
    y = 8.0
    for lane in (_acts, _participants, _performed, _progress, _receipt, _money):
        drawn, height = lane(timeline, axis, y)
        if drawn:
            shapes += drawn
            y += height + _GAP
    shapes = [*_ticks(axis, y), *_breaks(axis, y), *shapes]
    return Picture(WIDTH, y + 26, f"Time line of {timeline.name}", _description(timeline), shapes)


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


# -- the axis ---------------------------------------------------------------------------------------------------------


def _ticks(axis: Axis, bottom: float) -> Iterator[Shape]:
    for x, at in axis.ticks():
        yield Line(x, 8.0, x, bottom, "grid")
        yield Text(x, bottom + 14, f"{at:%H:%M:%S}", "tick", "middle")


def _breaks(axis: Axis, bottom: float) -> Iterator[Shape]:
    for span in axis.spans:
        if span.collapsed:
            length = duration_text(span.until - span.since)
            yield Rect(
                span.left, 8.0, span.right - span.left, bottom - 8.0, "break", f"{length} in which nothing happened"
            )
            yield Text((span.left + span.right) / 2, bottom + 14, "⋯", "tick", "middle")


def _name(y: float, text: str) -> Text:
    return Text(_LEFT - 12, y, text, "lane", "end")


# -- the lanes --------------------------------------------------------------------------------------------------------


def _acts(timeline: Timeline, axis: Axis, top: float) -> tuple[list[Shape], float]:
    """What acted: flags with names, in as many rows as keep the names apart."""
    if not timeline.acts:
        return [], 0.0
    ends: list[float] = []
    shapes: list[Shape] = []
    for act in sorted(timeline.acts, key=lambda act: act.at):
        x = axis.x(act.at)
        right = x + 12 + len(act.name) * _CHARACTER
        row = next((number for number, end in enumerate(ends) if end < x), len(ends))
        if row == _MOST_ROWS:
            row = ends.index(min(ends))
        ends[row : row + 1] = [right]
        y = top + row * 16 + 12
        title = f"{act.name} at {act.at:%H:%M:%S}"
        if act.until is not None:
            shapes.append(Line(x, y - 4, axis.x(act.until), y - 4, "act-range", f"{title} to {act.until:%H:%M:%S}"))
        flips = right > _RIGHT
        shapes.append(Glyph(x, y - 4, "flag", "act", title))
        shapes.append(Text(x - 8 if flips else x + 8, y, act.name, "act-name", "end" if flips else "start"))
    return [_name(top + 12, "acts"), *shapes], len(ends) * 16.0


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
            shapes.append(_name(y + 4, _shortened(user)))
        elif user == users[_MOST_ROWS - 1]:
            shapes.append(_name(y + 4, f"{len(users) - _MOST_ROWS + 1} others"))
        shapes.append(Line(_LEFT, y, _RIGHT, y, "row"))
        shapes += _presence(timeline, user, axis, y)
    for mark in timeline.marks:
        y = top + rows[mark.user] * _ROW + _ROW / 2
        what = "joins" if mark.joined else "leaves"
        why = f"; did not count: {mark.reason}" if mark.reason else ""
        title = f"{mark.user} {what} at {mark.at:%H:%M:%S.%f}"[:-3] + why
        style = "mark" if mark.counted else "mark-refused"
        shapes.append(Glyph(axis.x(mark.at), y, "join" if mark.joined else "leave", style, title, not mark.counted))
    return shapes, min(len(users), _MOST_ROWS) * _ROW


def _presence(timeline: Timeline, user: str, axis: Axis, y: float) -> Iterator[Shape]:
    """A line where that participant was in the channel, as the counted marks say."""
    since: datetime | None = None
    for mark in sorted((m for m in timeline.marks if m.user == user and m.counted), key=lambda m: (m.at, not m.joined)):
        if mark.joined and since is None:
            since = mark.at
        elif not mark.joined and since is not None:
            yield Line(axis.x(since), y, axis.x(mark.at), y, "present")
            since = None
    if since is not None:
        yield Line(axis.x(since), y, axis.x(timeline.now), y, "present")


def _performed(timeline: Timeline, axis: Axis, top: float) -> tuple[list[Shape], float]:
    """Performed stretches as bars with their seconds."""
    if not timeline.runs:
        return [], 0.0
    shapes: list[Shape] = [_name(top + 15, "performed")]
    for run in timeline.runs:
        until = run.until or timeline.now
        left, right = axis.x(run.since), axis.x(until)
        length = duration_text(until - run.since)
        going_on = "" if run.until else " and goes on"
        title = f"{length} performed from {run.since:%H:%M:%S} to {until:%H:%M:%S}{going_on}"
        style = "run" if run.until else "run-open"
        shapes.append(Rect(left, top, max(right - left, 1.5), _ROW, style, title))
        if right - left > len(length) * _CHARACTER + 6:
            shapes.append(Text((left + right) / 2, top + 15, length, "run-label", "middle"))
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
    shapes: list[Shape] = [_name(named + 4, "progress"), Line(_LEFT, bottom, _RIGHT, bottom, "row")]
    drawn = [named]
    for title, target in timeline.levels:
        line = y(target)
        shapes.append(Line(_LEFT, line, _RIGHT, line, "level", f"level “{title}”: {target} {timeline.unit}"))
        if all(abs(line - other) > 11 for other in drawn):
            shapes.append(Text(_LEFT - 12, line + 4, str(target), "tick", "end"))
            drawn.append(line)
    points: list[tuple[float, float]] = [(_LEFT, bottom)]
    for step in timeline.steps:
        x = axis.x(step.at)
        points += [(x, points[-1][1]), (x, y(step.progress))]
    points.append((_RIGHT, points[-1][1]))
    shapes.append(Polyline((*points, (_RIGHT, bottom)), "progress-area", closed=True))
    last = timeline.steps[-1].progress
    shapes.append(Polyline(tuple(points), "progress", title=f"progress {last} {timeline.unit}"))
    if len(timeline.steps) <= 80:
        for before, step in pairwise([Step(timeline.steps[0].at, 0), *timeline.steps]):
            gained = step.progress - before.progress
            title = f"+{gained} to {step.progress} {timeline.unit} at {step.at:%H:%M:%S}"
            shapes.append(Glyph(axis.x(step.at), y(step.progress), "dot", "progress-dot", title))
    return shapes, _PROGRESS_HEIGHT


def _receipt(timeline: Timeline, axis: Axis, top: float) -> tuple[list[Shape], float]:
    """A line from when something happened down to when it was reported: the slant is the lateness."""
    if not timeline.receipts:
        return [], 0.0
    bottom = top + _RECEIPT_HEIGHT
    shapes: list[Shape] = [
        _name(top + 8, "happened"),
        _name(bottom + 3, "reported"),
        Line(_LEFT, top, _RIGHT, top, "row"),
        Line(_LEFT, bottom, _RIGHT, bottom, "row"),
    ]
    for receipt in timeline.receipts:
        late = duration_text(max(receipt.received_at - receipt.happened_at, timedelta()))
        kind = "refused" if receipt.refused else "a repeat or twin" if receipt.repeated else "taken"
        title = f"{receipt.name} at {receipt.happened_at:%H:%M:%S}, reported {late} later; {kind}"
        style = "receipt-refused" if receipt.refused else "receipt-again" if receipt.repeated else "receipt"
        shapes.append(Line(axis.x(receipt.happened_at), top, axis.x(receipt.received_at), bottom, style, title))
    return shapes, _RECEIPT_HEIGHT


def _money(timeline: Timeline, axis: Axis, top: float) -> tuple[list[Shape], float]:
    """Tokens in and out as columns, and what the escrow held in between."""
    if not timeline.flows:
        return [], 0.0
    middle, half = top + _MONEY_HEIGHT / 2, _MONEY_HEIGHT / 2 - 4
    flows = sorted(timeline.flows, key=lambda flow: flow.at)
    columns: dict[tuple[int, bool], list[Flow]] = {}
    for flow in flows:
        columns.setdefault((int(axis.x(flow.at) / _COLUMN), flow.amount > 0), []).append(flow)
    balances: list[tuple[float, int]] = []
    held = 0
    for flow in flows:
        held += flow.amount
        balances.append((axis.x(flow.at), held))
    tallest = max([1, *(abs(sum(flow.amount for flow in column)) for column in columns.values())])
    most_held = max([1, *(balance for _, balance in balances)])
    points: list[tuple[float, float]] = [(_LEFT, middle)]
    for x, balance in balances:
        points += [(x, points[-1][1]), (x, middle - half * max(balance, 0) / most_held)]
    points.append((_RIGHT, points[-1][1]))
    shapes: list[Shape] = [
        _name(top + 12, "tokens in"),
        _name(middle + 4, "escrow"),
        _name(top + _MONEY_HEIGHT - 4, "tokens out"),
        Polyline(
            (*points, (_RIGHT, middle)), "escrow-area", closed=True, title=f"the escrow held at most {most_held} tokens"
        ),
        Line(_LEFT, middle, _RIGHT, middle, "row"),
    ]
    for (column, into), grouped in sorted(columns.items()):
        amount = sum(flow.amount for flow in grouped)
        height = max(half * abs(amount) / tallest, 2.0)
        title = grouped[0].title if len(grouped) == 1 else f"{len(grouped)} transfers, {abs(amount)} tokens"
        y = middle - height if into else middle
        shapes.append(Rect(column * _COLUMN, y, _COLUMN - 0.5, height, "flow-in" if into else "flow-out", title))
    left = f"Σ {held}"
    shapes.append(Text(_RIGHT, top + _MONEY_HEIGHT + 10, left, "sum" if held == 0 else "sum-open", "end"))
    return shapes, _MONEY_HEIGHT + 8


def _shortened(text: str, most: int = 17) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
