"""Intents: what a client wants once, however often it must ask; and what the answers to one intent may be."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: What a request about money may be answered with.
_STATUSES = frozenset({201, 402, 404, 409})
#: What of an answer is the same for every repeat.
_STABLE = (
    "id", "amount", "user_id", "reference", "created_at", "paid", "returned", "from_wallet", "from_escrows", "from_debt",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API answered."""

    status: int
    body: Any


@dataclass(slots=True)
class Intent:
    """One effect that a client wants. What is sent under its key is the first of the bodies, or by mistake another."""

    verb: str
    path: str
    bodies: Sequence[Mapping[str, Any]]
    key: str | None = None
    answers: list[tuple[int, Answer]] = field(default_factory=list)
    """Each with the number of the body that was sent, in the order in which they came."""

    def _taken(self) -> list[tuple[int, Answer]]:
        return [(number, answer) for number, answer in self.answers if answer.status == 201]

    @property
    def taken(self) -> Mapping[str, Any] | None:
        """The answer by which it was taken; None when it was refused."""
        return next((answer.body for _, answer in self._taken()), None)

    @property
    def body(self) -> Mapping[str, Any]:
        """What was taken."""
        return self.bodies[self._taken()[0][0]]

    def wrong(self) -> Iterator[str]:
        """Yields what may not be answered so: two effects of one intent, or two answers to it."""
        name = f"{self.verb} {self.path} ({self.key})"
        for _, answer in self.answers:
            if answer.status not in _STATUSES:
                yield f"{name} was answered with {answer}"
        taken = self._taken()
        if self.key is not None and len({number for number, _ in taken}) > 1:
            yield f"{name}: two bodies were taken under one key: {self.bodies}"
        said = {tuple(repr(answer.body.get(field)) for field in _STABLE) for _, answer in taken}
        if len(said) > 1:
            yield f"{name}: was answered in different ways: {[answer.body for _, answer in taken]}"

    def wrong_repeat(self, number: int, answer: Answer) -> Iterator[str]:
        """Yields what is wrong with the answer to a repeat that was sent once the intent had been taken."""
        first = self._taken()[0][0]
        expected = 201 if number == first or self.key is None else 409
        if answer.status != expected:
            yield f"{self.verb} {self.path} ({self.key}): a repeat with body {number} was answered with {answer}"
