"""The ribbon of an escrow: from those who paid into it to those whom it paid, each as wide as its tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from goalsvc.console.pictures.scale import WIDTH, shortened
from goalsvc.console.pictures.shapes import Picture, Polyline, Rect, Shape, Text

_TOP, _HEIGHT, _GAP = 34.0, 190.0, 6.0
_LEFT, _RIGHT, _NODE = 230.0, WIDTH - 230.0, 10.0
_MIDDLE = WIDTH / 2
#: So many parties are drawn by themselves on each side, the largest first; the others together.
_MOST = 10
_STEPS = 14
#: Each has at least so much room, for its name.
_READABLE = 11.0


@dataclass(frozen=True, slots=True)
class Party:
    """Someone who paid tokens into an escrow, or was paid by it; `left` is what the escrow still holds."""

    name: str
    amount: int
    left: bool = False
    count: int = 1
    """How many it stands for; several are drawn last."""


def draw(escrow: str, payers: Sequence[Party], payees: Sequence[Party]) -> Picture | None:
    """Returns the ribbon of an escrow; None when nothing was ever paid into it. What is not paid out is held."""
    came, went = sum(party.amount for party in payers), sum(party.amount for party in payees)
    if came <= 0:
        return None
    right = [*payees, *([Party("held", came - went, left=True)] if came > went else [])]
    left_side, right_side = _laid_out(payers, came), _laid_out(right, max(came, went))
    bottom = max([_TOP + _HEIGHT, *(place.bottom for place in (*left_side, *right_side))])
    shapes: list[Shape] = [
        Text(_LEFT, 18.0, "paid in", "lane", "end"),
        Text(_MIDDLE, 18.0, f"escrow: {came} tokens in, {went} out, {came - went} held", "lane", "middle"),
        Text(_RIGHT, 18.0, "paid out", "lane"),
        Rect(_MIDDLE - _NODE / 2, _TOP, _NODE, _HEIGHT, "node", f"{came} tokens came in, {went} went out"),
    ]
    shapes += _side(left_side, _LEFT, into=True)
    shapes += _side(right_side, _RIGHT, into=False)
    payers_number, payees_number = (sum(party.count for party in side) for side in (payers, payees))
    told = (
        f"{payers_number} paid {came} tokens into it; it paid {went} tokens to {payees_number}; {came - went} are held."
    )
    title = f"From contributors to payees of {escrow}"
    return Picture(WIDTH, bottom + 8, title, f"{told} The statement has the same figures.", shapes)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a party is drawn: at its edge, and at the escrow, from these heights on."""

    party: Party
    outer: float
    inner: float
    high: float

    @property
    def bottom(self) -> float:
        """Where the next party may begin."""
        return self.outer + max(self.high, _READABLE) + _GAP


def _laid_out(parties: Sequence[Party], whole: int) -> list[_Place]:
    """Returns where the parties of one side are drawn: the largest by themselves, and the others as one."""
    ordered = sorted(parties, key=lambda party: (party.count > 1, -party.amount))
    rest = ordered[_MOST:]
    others = Party(f"{sum(one.count for one in rest)} others", sum(one.amount for one in rest))
    drawn = [*ordered[:_MOST], *([others] if rest else [])]
    places: list[_Place] = []
    outer = inner = _TOP
    for party in drawn:
        places.append(_Place(party, outer, inner, _HEIGHT * party.amount / whole if whole else 0.0))
        outer, inner = places[-1].bottom, inner + places[-1].high
    return places


def _side(places: Sequence[_Place], edge: float, *, into: bool) -> Iterator[Shape]:
    """Yields the ribbons between one edge and the escrow, with names and tokens."""
    for place in places:
        party, high = place.party, place.high
        title = f"{party.name}: {party.amount} tokens"
        style = "ribbon-held" if party.left else "ribbon-in" if into else "ribbon-out"
        towards = _MIDDLE - _NODE / 2 if into else _MIDDLE + _NODE / 2
        yield Polyline(_band(edge, place.outer, towards, place.inner, high), style, closed=True, title=title)
        yield Rect(edge - (_NODE / 2 if into else 0.0), place.outer, _NODE / 2, max(high, 1.0), "node", title)
        x, y = edge - _NODE if into else edge + _NODE, place.outer + max(high, 2.0) / 2 + 4
        yield Text(x, y, f"{shortened(party.name, 22)} {party.amount}", "label", "end" if into else "start")


def _band(edge: float, outer: float, towards: float, inner: float, high: float) -> tuple[tuple[float, float], ...]:
    """Returns the outline of a ribbon that leads smoothly from one height to another."""
    parts = [number / _STEPS for number in range(_STEPS + 1)]
    upper = [(edge + (towards - edge) * part, outer + (inner - outer) * part * part * (3 - 2 * part)) for part in parts]
    return (*upper, *((x, y + high) for x, y in reversed(upper)))
