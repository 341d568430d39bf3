"""What must have come of a history: reckoned from what happened, by other means than goalsvc's.

The clock: joins and leaves in the order in which they arrived, each with its owner; for every prefix of the arrivals the
milliseconds that were performed, laid out on a line; the largest of these is what counts. The money: from what clients were
told, who must have how much when all is over.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import permutations, zip_longest

#: An unowned leave is none if anyone joins within so many milliseconds after it.
DEBOUNCE_MS = 10_000


@dataclass(frozen=True, slots=True)
class Mark:
    """A join or a leave, at so many milliseconds since 1970: of the performer, the viewer (of an exclusive) or nobody known."""

    at: int
    joined: bool
    who: str = "p"


@dataclass(frozen=True, slots=True)
class Line:
    """Who is there after each instant, by these marks; in an exclusive, or in a channel that only the performer enters."""

    marks: frozenset[Mark]
    exclusive: bool = False

    def there(self, who: str, at: int) -> bool:
        """Whether that one is there right after that instant: they have joined since they left last."""
        left = max((mark.at for mark in self.marks if self._is_leave_of(mark, who) and mark.at <= at), default=-1)
        return any(mark.who == who and mark.joined and left < mark.at <= at for mark in self.marks)

    def _is_leave_of(self, mark: Mark, who: str) -> bool:
        if mark.joined or mark.who != "u":
            return mark.who == who and not mark.joined
        return not any(join.joined and 0 < join.at - mark.at <= DEBOUNCE_MS for join in self.marks)

    def performed(self, at: int) -> bool:
        """Whether there is performance right after that instant."""
        if not self.exclusive or any(mark.who != "u" for mark in self.marks):
            viewer_came = any(mark.who == "v" and mark.joined for mark in self.marks)
            return self.there("p", at) and (self.there("v", at) if viewer_came else True)
        return self.there("u", at)


def performed_ms(
    marks: Iterable[Mark], end: int | None = None, *, exclusive: bool = False, closed: bool = False
) -> int:
    """How many milliseconds of the line were performed, up to the end; what nothing has ended yet only with `closed`.

    Millisecond by millisecond in truth; but between two neighbouring marks all milliseconds are alike.
    """
    line = Line(frozenset(mark for mark in marks if end is None or mark.at <= end), exclusive)
    instants = sorted({mark.at for mark in line.marks})
    total = since_begun = 0
    for here, following in zip_longest(instants, instants[1:]):
        if not line.performed(here):
            total, since_begun = total + since_begun, 0
        elif following is not None:
            since_begun += following - here
        elif closed and end is not None:
            total += since_begun + end - here
    return total


def runs(marks: Iterable[Mark], end: int | None = None, *, exclusive: bool = False) -> bool:
    """Whether the clock runs after all of these."""
    known = frozenset(mark for mark in marks if end is None or mark.at <= end)
    return bool(known) and Line(known, exclusive).performed(max(mark.at for mark in known))


@dataclass(slots=True)
class ClockOracle:
    """The seconds of one goal."""

    marks: list[Mark] = field(default_factory=list)
    possible: set[int] = field(default_factory=lambda: {0})
    """What may have been counted by now. More than one number only where marks came in together: in what order, and
    therefore what the law gave in between, nobody can tell from outside."""
    exclusive: bool = False
    end: int | None = None
    """When the goal ended, or will at the latest."""

    def arrive(self, *together: Mark) -> None:
        """One more arrival, or several at the same instant; a repeat changes nothing."""
        new = [mark for mark in dict.fromkeys(together) if mark not in self.marks]
        peaks = set()
        for order in permutations(new) if len(new) <= 4 else [new]:
            prefixes = ([*self.marks, *order[: length + 1]] for length in range(len(order)))
            peaks.add(max((self._seconds(prefix) for prefix in prefixes), default=0))
        self.marks += new
        self.possible = {max(known, peak) for known in self.possible for peak in peaks}

    def close(self) -> None:
        """No mark counts any more, and what ran at the end counts."""
        whole = performed_ms(self.marks, self.end, exclusive=self.exclusive, closed=True) // 1000
        self.possible = {max(known, whole) for known in self.possible}

    def _seconds(self, marks: Iterable[Mark]) -> int:
        return performed_ms(marks, self.end, exclusive=self.exclusive) // 1000

    def seconds(self, progress: int = -1) -> int:
        """What must have been counted; that progress, if it is one of several that are right."""
        return progress if progress in self.possible else max(self.possible)

    @property
    def running(self) -> bool:
        return runs(self.marks, self.end, exclusive=self.exclusive)

    def present(self) -> set[str]:
        """Who is there after all marks, whenever they happened."""
        line, last = Line(frozenset(self.marks), self.exclusive), max((mark.at for mark in self.marks), default=0)
        owned = not self.exclusive or any(mark.who != "u" for mark in self.marks)
        return {who for who in ("pv" if owned else "u") if line.there(who, last)}


def performed_share(price: int, performed: int, target: int) -> int:
    """The performer's tokens of an exclusive: by the second, cut to whole tokens."""
    return price if performed >= target else price * performed // target


def fee_part(amount: int, fee_bps: int) -> int:
    """The platform's tokens of a payout: hundredths of a percent, cut to whole tokens."""
    return int(Fraction(amount * fee_bps, 10_000))


@dataclass(slots=True)
class Purses:
    """What every user must have in the end."""

    tokens: dict[str, int] = field(default_factory=dict)
    fees: int = 0

    def pay(self, user: str, amount: int, fee_bps: int) -> None:
        """Gives a payout to the user and to the platform."""
        self.give(user, amount - fee_part(amount, fee_bps))
        self.fees += fee_part(amount, fee_bps)

    def give(self, user: str, amount: int) -> None:
        self.tokens[user] = self.tokens.get(user, 0) + amount

    def take(self, user: str, amount: int) -> None:
        self.give(user, -amount)


def sums_of(transfers: Sequence[dict[str, object]]) -> dict[str, int]:
    """What every account must hold after these transfers, and no others."""
    sums: dict[str, int] = {}
    for transfer in transfers:
        amount = transfer["amount"]
        assert isinstance(amount, int)
        sums[str(transfer["debit"])] = sums.get(str(transfer["debit"]), 0) - amount
        sums[str(transfer["credit"])] = sums.get(str(transfer["credit"]), 0) + amount
    return sums
