"""What must have come of a history: reckoned from what happened, by other means than goalsvc's.

The clock: joins and leaves in the order in which they arrived; for every prefix of the arrivals the milliseconds in which
somebody performed, laid out on a line; the largest of these is what counts (SPEC §4). The money: from what clients were
told, who must have how much when all is over (SPEC §7).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import permutations, zip_longest


@dataclass(frozen=True, slots=True)
class Mark:
    """A join or a leave, at so many milliseconds since 1970."""

    at: int
    joined: bool


def performed_ms(marks: Iterable[Mark]) -> int:
    """How many milliseconds of the line lie in a run: from a join to the next leave. One without a leave counts nothing.

    Millisecond by millisecond in truth; but between two neighbouring marks all milliseconds are alike.
    """
    joins = {mark.at for mark in marks if mark.joined}
    leaves = {mark.at for mark in marks if not mark.joined}
    instants = sorted(joins | leaves)
    total, running, since_join = 0, False, 0
    for here, following in zip_longest(instants, instants[1:]):
        if here in leaves:  # also together with a join: the clock runs while started is *later* than paused
            total, running, since_join = total + since_join, False, 0
        elif here in joins:
            running = True
        if running and following is not None:
            since_join += following - here
    return total


def runs(marks: Iterable[Mark]) -> bool:
    """Whether the clock runs after all of these."""
    marks = list(marks)
    if not marks:
        return False
    last = max(mark.at for mark in marks)
    return all(mark.joined for mark in marks if mark.at == last)


@dataclass(slots=True)
class ClockOracle:
    """The seconds of one goal."""

    marks: list[Mark] = field(default_factory=list)
    possible: set[int] = field(default_factory=lambda: {0})
    """What may have been counted by now. More than one number only where marks came in together: in what order, and
    therefore what the law gave in between, nobody can tell from outside."""

    def arrive(self, *together: Mark) -> None:
        """One more arrival, or several at the same instant; a repeat changes nothing."""
        new = [mark for mark in dict.fromkeys(together) if mark not in self.marks]
        peaks = set()
        for order in permutations(new) if len(new) <= 4 else [new]:
            prefixes = ([*self.marks, *order[: length + 1]] for length in range(len(order)))
            peaks.add(max((performed_ms(prefix) // 1000 for prefix in prefixes), default=0))
        self.marks += new
        self.possible = {max(known, peak) for known in self.possible for peak in peaks}

    def seconds(self, progress: int = -1) -> int:
        """What must have been counted; that progress, if it is one of several that are right."""
        return progress if progress in self.possible else max(self.possible)

    @property
    def running(self) -> bool:
        return runs(self.marks)


def performed_share(price: int, performed: int, target: int) -> int:
    """The performer's tokens of an exclusive: by the second, cut to whole tokens."""
    return price if performed >= target else price * performed // target


@dataclass(slots=True)
class Purses:
    """What every user must have in the end."""

    tokens: dict[str, int] = field(default_factory=dict)

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
