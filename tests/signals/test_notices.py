"""Notices fit into what Pusher takes, whatever a goal is called."""

import json
from datetime import UTC, datetime

import pytest

from goalsvc.domain.goals import GoalKind, Level
from goalsvc.signals.notices import GoalProgressUpdated, LevelNotice, shortened

PUSHER_TAKES = 10_240


def notice(levels: list[Level]) -> GoalProgressUpdated:
    return GoalProgressUpdated(
        event_id="e" * 64,
        goal_id="6" * 24,
        kind=GoalKind.EXCLUSIVE,
        progress=10**12,
        level=100,
        levels=LevelNotice.of_levels(levels),
        user_id="u" * 128,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        session_id="6" * 24,
        amount=10**12,
        contributions=10**6,
    )


@pytest.mark.parametrize("character", ["a", "é", "☃", "😀", '"', "\n", "\x01"])
def test_a_hundred_long_titles_fit(character: str) -> None:
    levels = [Level(title=character * 256, target=10**12 - 100 + number) for number in range(100)]
    told = notice(levels)
    assert len(json.dumps(told.data(), ensure_ascii=False).encode()) <= PUSHER_TAKES
    assert [level.target for level in told.levels] == [level.target for level in levels]
    assert all(level.title.endswith("…") and level.title.strip("…" + character) == "" for level in told.levels)


def test_of_a_thousand_levels_the_first_hundred_are_told() -> None:
    levels = [Level(title="☃" * 256, target=number) for number in range(1, 1001)]
    told = notice(levels)
    assert len(json.dumps(told.data(), ensure_ascii=False).encode()) <= PUSHER_TAKES
    assert [level.target for level in told.levels] == list(range(1, 101))


def test_titles_that_fit_are_whole() -> None:
    levels = [Level(title="☃" * 256, target=1), Level(title="Ukulele", target=2)]
    assert [level.title for level in notice(levels).levels] == ["☃" * 256, "Ukulele"]


def test_only_long_titles_are_cut() -> None:
    levels = [Level(title="☃" * 256, target=number) for number in range(1, 10)] + [Level(title="Ukulele", target=99)]
    told = [level.title for level in notice(levels).levels]
    assert told == ["☃" * 149 + "…"] * 9 + ["Ukulele"]


@pytest.mark.parametrize(
    ("text", "most", "cut"), [("abcd", 4, "abcd"), ("abcde", 4, "a…"), ("ééé", 5, "é…"), ("", 0, "")]
)
def test_shortened(text: str, most: int, cut: str) -> None:
    assert shortened(text, most) == cut
