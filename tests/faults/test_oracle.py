"""The oracle itself, against the plainest way to say it: one look at every millisecond."""

from random import Random

import pytest

from .oracle import ClockOracle, Mark, performed_ms, performed_share, runs


def by_every_millisecond(marks: list[Mark]) -> int:
    """Milliseconds at which the last mark so far is a join, up to the last leave."""
    leaves = [mark.at for mark in marks if not mark.joined]
    performed = 0
    for now in range(max(leaves, default=0)):
        so_far = [mark for mark in marks if mark.at <= now]
        performed += runs(so_far)
    return performed


@pytest.mark.parametrize("seed", range(60))
def test_agrees_with_a_look_at_every_millisecond(seed: int) -> None:
    random = Random(seed)
    marks = [Mark(random.randrange(1, 60), random.random() < 0.5) for _ in range(random.randrange(0, 9))]
    assert performed_ms(marks) == by_every_millisecond(marks)


def test_what_was_counted_is_never_taken_back() -> None:
    clock = ClockOracle()
    for mark in (Mark(0, True), Mark(9_000, False), Mark(4_000, False), Mark(9_000, False)):
        clock.arrive(mark)
    assert performed_ms(clock.marks) == 4_000
    assert clock.possible == {9}


def test_what_arrives_together_may_have_come_in_any_order() -> None:
    clock = ClockOracle()
    clock.arrive(Mark(0, True))
    clock.arrive(Mark(9_000, False), Mark(4_000, False))
    assert clock.possible == {4, 9}
    assert (clock.seconds(4), clock.seconds(9), clock.seconds(5)) == (4, 9, 9)


@pytest.mark.parametrize(
    ("price", "performed", "target", "share"),
    [(100, 0, 60, 0), (100, 59, 60, 98), (100, 60, 60, 100), (100, 90, 60, 100), (1, 59, 60, 0)],
)
def test_the_share_is_cut_to_whole_tokens(price: int, performed: int, target: int, share: int) -> None:
    assert performed_share(price, performed, target) == share
