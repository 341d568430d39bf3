"""The balance of an account over time, as a curve of steps: one for each line of its statement."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from goalsvc.console.pictures.axis import axis_of
from goalsvc.console.pictures.scale import LEFT, RIGHT, WIDTH, breaks, name, ticks
from goalsvc.console.pictures.shapes import Glyph, Line, Picture, Polyline, Shape, Text

_TOP, _HEIGHT = 14.0, 110.0


@dataclass(frozen=True, slots=True)
class Change:
    """A transfer: when, by how much, what the balance was after it, and where it is shown."""

    at: datetime
    amount: int
    balance: int
    path: str = ""


def draw(account: str, opening: int, changes: Sequence[Change]) -> Picture | None:
    """Returns the picture of a balance, from the opening one on; None when nothing has changed it."""
    if not changes:
        return None
    axis = axis_of([(change.at, change.at) for change in changes], LEFT, RIGHT)
    balances = [opening, *(change.balance for change in changes)]
    highest, lowest = max(*balances, 1), min(*balances, 0)
    bottom = _TOP + _HEIGHT

    def y(balance: int) -> float:
        return bottom - _HEIGHT * (balance - lowest) / (highest - lowest)

    points: list[tuple[float, float]] = [(LEFT, y(opening))]
    for change in changes:
        x = axis.x(change.at)
        points += [(x, points[-1][1]), (x, y(change.balance))]
    points.append((RIGHT, points[-1][1]))
    shapes: list[Shape] = [
        *ticks(axis, bottom + 6),
        *breaks(axis, bottom + 6),
        name(_TOP + _HEIGHT / 2 + 4, "balance"),
        Line(LEFT, y(0), RIGHT, y(0), "row"),
        Polyline((*points, (RIGHT, y(0)), (LEFT, y(0))), "progress-area", closed=True),
        Polyline(tuple(points), "progress", title=f"from {opening} to {balances[-1]} tokens"),
        Text(LEFT - 12, _TOP + 4, str(highest), "tick", "end"),
    ]
    shapes.append(Text(LEFT - 12, bottom + 4, str(lowest), "tick", "end"))
    for change in changes:
        title = f"{change.amount:+} to {change.balance} tokens at {change.at:%H:%M:%S}"
        shapes.append(Glyph(axis.x(change.at), y(change.balance), "dot", "progress-dot", title, path=change.path))
    told = (
        f"{len(changes)} transfers took it from {opening} to {balances[-1]} tokens; the statement has the same figures."
    )
    return Picture(WIDTH, bottom + 30, f"Balance of {account} over time", told, shapes)
