"""The tests of the tests: goalsvc is broken on purpose, and the simulation must notice."""

import logging
from collections.abc import Iterator

import pytest

from .breaks import BREAKS, Break
from .run import play_one

#: Within so many histories a break must be noticed.
MOST_SEEDS = 100


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.__name__)
def test_is_noticed(broken: Break) -> None:
    with broken():
        noticed = any(play_one(seed)[1] for seed in range(MOST_SEEDS))
    assert noticed, f"{broken.__doc__} Nobody noticed within {MOST_SEEDS} histories."
