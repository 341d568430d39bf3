"""An axis of time on which idle time is collapsed: a piecewise linear map from instants to x."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

#: A pause is collapsed when it is longer than this and than this part of the whole.
_LEAST_PAUSE = timedelta(seconds=90)
_LEAST_PART = 0.06
#: How wide a collapsed pause is drawn, and how much of it is kept on either side.
BREAK_WIDTH = 34.0
_MARGIN_PART = 0.015
#: Between two ticks there is at least this much room.
_TICK_ROOM = 96.0
_STEPS = tuple(
    timedelta(seconds=s)
    for s in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400)
)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the axis: from instant to instant, from x to x; `collapsed` when nothing happens in it."""

    since: datetime
    until: datetime
    left: float
    right: float
    collapsed: bool


@dataclass(frozen=True, slots=True)
class Axis:
    """Where instants lie."""

    spans: tuple[Span, ...]

    def x(self, at: datetime) -> float:
        """Returns the x of that instant, or of the nearer end of the axis when the instant lies outside of it."""
        first, last = self.spans[0], self.spans[-1]
        if at <= first.since:
            return first.left
        for span in self.spans:
            if at <= span.until:
                whole = (span.until - span.since).total_seconds()
                part = (at - span.since).total_seconds() / whole if whole else 0.0
                return span.left + part * (span.right - span.left)
        return last.right

    def ticks(self) -> list[tuple[float, datetime]]:
        """Returns where round instants lie, far enough apart to be labelled."""
        found: list[tuple[float, datetime]] = []
        for span in self.spans:
            if span.collapsed or span.right <= span.left:
                continue
            per_second = (span.right - span.left) / max((span.until - span.since).total_seconds(), 0.001)
            step = next((s for s in _STEPS if s.total_seconds() * per_second >= _TICK_ROOM), _STEPS[-1])
            seconds = int(step.total_seconds())
            at = span.since.replace(microsecond=0)
            at += timedelta(seconds=-(at.hour * 3600 + at.minute * 60 + at.second) % seconds)
            while at <= span.until:
                x = self.x(at)
                if at >= span.since and (not found or x - found[-1][0] >= _TICK_ROOM * 0.75):
                    found.append((x, at))
                at += step
        return found


def axis_of(busy: Iterable[tuple[datetime, datetime]], left: float, right: float) -> Axis:
    """Returns an axis from `left` to `right` over these intervals (an instant is an interval of no length).

    Time between two of them in which nothing happens is collapsed when it is long.
    """
    merged = _merged(busy)
    if not merged:
        raise ValueError("an axis needs at least one instant")
    whole = max(merged[-1][1] - merged[0][0], timedelta(seconds=1))
    least = max(_LEAST_PAUSE, whole * _LEAST_PART)
    groups: list[list[datetime]] = [list(merged[0])]
    for _, (since, until) in pairwise(merged):
        if since - groups[-1][1] > least:
            groups.append([since, until])
        else:
            groups[-1][1] = until
    shown = sum(((until - since) for since, until in groups), timedelta())
    margin = max(shown * _MARGIN_PART, timedelta(seconds=1))
    spans = [(since - margin, until + margin) for since, until in groups]
    room = right - left - BREAK_WIDTH * (len(spans) - 1)
    seconds = sum((until - since).total_seconds() for since, until in spans)
    made: list[Span] = []
    x = left
    for number, (since, until) in enumerate(spans):
        if number:
            made.append(Span(spans[number - 1][1], since, x, x + BREAK_WIDTH, collapsed=True))
            x += BREAK_WIDTH
        width = room * (until - since).total_seconds() / seconds
        made.append(Span(since, until, x, x + width, collapsed=False))
        x += width
    return Axis(tuple(made))


def _merged(intervals: Iterable[tuple[datetime, datetime]]) -> Sequence[tuple[datetime, datetime]]:
    merged: list[tuple[datetime, datetime]] = []
    for since, until in sorted(intervals):
        if merged and since <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], until))
        else:
            merged.append((since, max(since, until)))
    return merged
