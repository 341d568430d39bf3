"""Histories on the simulated machine: whatever breaks on the way, what must hold holds in the end."""

import os

import pytest

from .crash_points import CHAINS, Chain, differences
from .run import play_many, play_one, report

pytestmark = pytest.mark.usefixtures("silence")

#: So many are played by `make test`; `make faults` plays ten thousand others.
HISTORIES = 320


def test_histories(seed: int | None) -> None:
    if seed is not None:
        _, violations = play_one(seed)
        assert not violations, "\n".join(violations)
        return
    result = play_many(range(HISTORIES), processes=min(2, os.cpu_count() or 1))
    assert result.histories == HISTORIES
    assert not result.violations, report(result)
    # That nothing broke would prove nothing.
    figures = result.figures
    assert min(figures.kills, figures.duplicates, figures.lost, figures.reordered, figures.dead_letters) > 20, figures


def test_a_seed_plays_the_same_history_again() -> None:
    (first, _), (second, _) = play_one(2), play_one(2)
    assert first.figures == second.figures
    assert first.inside.contents() == second.inside.contents()


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.name)
def test_a_crash_at_any_point_changes_nothing(chain: Chain) -> None:
    tried, found = differences(chain)
    assert tried > 30
    assert not found, "\n".join(found)
