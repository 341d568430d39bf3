"""Figures and their words."""

import pytest

from goalsvc.commands.words import counted


@pytest.mark.parametrize(
    ("number", "thing", "text"),
    [
        (1, "day", "1 day"),
        (13, "day", "13 days"),
        (2, "try", "2 tries"),
        (0, "box", "0 boxes"),
        (2, "event", "2 events"),
    ],
)
def test_the_number_with_its_thing(number: int, thing: str, text: str) -> None:
    assert counted(number, thing) == text
