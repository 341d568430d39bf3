"""What pictures with an axis of time have in common: their width, the names of lanes, ticks, and what was collapsed."""

from collections.abc import Iterator

from goalsvc.console.pictures.axis import Axis
from goalsvc.console.pictures.shapes import Line, Rect, Shape, Text
from goalsvc.domain.durations import duration_text

WIDTH = 1120.0
LEFT, RIGHT = 132.0, WIDTH - 16.0
#: The width of a character of a label.
CHARACTER = 6.6


def ticks(axis: Axis, bottom: float) -> Iterator[Shape]:
    """Yields a line and the time of day for round instants."""
    for x, at in axis.ticks():
        yield Line(x, 8.0, x, bottom, "grid")
        yield Text(min(x, RIGHT - 24), bottom + 14, f"{at:%H:%M:%S}", "tick", "middle")


def breaks(axis: Axis, bottom: float) -> Iterator[Shape]:
    """Yields a stripe for each pause that was collapsed; it says how long it was."""
    for span in axis.spans:
        if span.collapsed:
            length = duration_text(span.until - span.since)
            yield Rect(
                span.left, 8.0, span.right - span.left, bottom - 8.0, "break", f"{length} in which nothing happened"
            )
            yield Text((span.left + span.right) / 2, bottom + 14, "⋯", "tick", "middle")


def name(y: float, text: str) -> Text:
    """Returns the text that names a lane, to its left."""
    return Text(LEFT - 12, y, text, "lane", "end")


def shortened(text: str, most: int = 17) -> str:
    """Returns a text that fits left of a lane."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
