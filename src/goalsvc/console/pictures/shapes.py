"""What a picture is made of. A template escapes every text when it draws the shapes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from goalsvc.console.pictures.axis import Span

Anchor = Literal["start", "middle", "end"]
Sign = Literal["join", "leave", "flag", "dot"]


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line."""

    x1: float
    y1: float
    x2: float
    y2: float
    style: str
    title: str = ""
    path: str = ""
    """Where a click leads, below the console's own address."""
    kind: Literal["line"] = "line"


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float
    style: str
    title: str = ""
    path: str = ""
    """Where a click leads, below the console's own address."""
    kind: Literal["rect"] = "rect"


@dataclass(frozen=True, slots=True)
class Text:
    """A line of text; `x` is its start, middle or end."""

    x: float
    y: float
    text: str
    style: str = "label"
    anchor: Anchor = "start"
    kind: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class Polyline:
    """A path through points; closed when it is an area."""

    points: tuple[tuple[float, float], ...]
    style: str
    closed: bool = False
    title: str = ""
    kind: Literal["polyline"] = "polyline"


@dataclass(frozen=True, slots=True)
class Glyph:
    """A small sign at a point: a join, a leave, a dot or a flag; hollow when it did not count."""

    x: float
    y: float
    sign: Literal["join", "leave", "dot", "flag"]
    style: str
    title: str = ""
    hollow: bool = False
    path: str = ""
    """Where a click leads, below the console's own address."""
    kind: Literal["glyph"] = "glyph"


Shape = Line | Rect | Text | Polyline | Glyph


@dataclass(frozen=True, slots=True)
class Picture:
    """Shapes on a canvas, with the words that say the same to those who do not see it."""

    width: float
    height: float
    title: str
    description: str
    shapes: Sequence[Shape]
    spans: Sequence[Span] = ()
    """The stretches of its axis of time, by which a script finds the instant that is pointed at."""
