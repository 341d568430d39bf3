"""The tests of the tests: goalsvc is broken on purpose, and the simulation must notice."""

from copy import copy

import pytest

from .breaks import (
    BREAKS,
    Break,
    clocks_trusted_to_agree,
    jobs_are_believed,
    reversal_takes_from_escrows_being_paid,
)
from .machine import MOST_SKEW_SECONDS, Faults
from .run import play_one

pytestmark = pytest.mark.usefixtures("silence")

#: Within so many histories a break must be noticed; the rarest shows in one of fifty.
MOST_SEEDS = 250


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.__name__)
def test_is_noticed(broken: Break) -> None:
    with broken():
        noticed = any(play_one(seed)[1] for seed in range(MOST_SEEDS))
    assert noticed, f"{broken.__doc__} Nobody noticed within {MOST_SEEDS} histories."


def noticed(broken: Break, faults: Faults) -> int:
    """The first history with these faults in which the break is noticed; the same history without it is right."""
    with broken():
        seed = next((seed for seed in range(MOST_SEEDS) if play_one(seed, copy(faults))[1]), None)
    assert seed is not None, f"{broken.__doc__} Nobody noticed within {MOST_SEEDS} histories."
    assert play_one(seed, copy(faults))[1] == []
    return seed


def test_a_restored_database_is_noticed() -> None:
    noticed(jobs_are_believed, Faults(restored=1))


def test_a_reversal_in_the_middle_of_a_payout_is_noticed() -> None:
    """Jobs that wait make such middles long enough for a reversal to come."""
    noticed(reversal_takes_from_escrows_being_paid, Faults(job_delayed=0.8))


def test_clocks_that_differ_are_noticed() -> None:
    """The same histories without such clocks find nothing: it is they that show it."""
    seed = noticed(clocks_trusted_to_agree, Faults(skew=MOST_SKEW_SECONDS, api_steps=15, worker_steps=60))
    with clocks_trusted_to_agree():
        assert play_one(seed, Faults(api_steps=15, worker_steps=60))[1] == []
