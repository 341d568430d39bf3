"""How the demo is told: what is wrong is named, and the exit status says so."""

import io

import pytest
from rich.console import Console

from goalsvc.devstack.demo_story import Story


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def story(screen: io.StringIO) -> Story:
    return Story(Console(file=screen, width=200), steps=2)


def test_all_of_it_held(story: Story, screen: io.StringIO) -> None:
    with story.telling(), story.step("counting") as step:
        story.expect("the sum", 3, 3)
        step.result = "3"
    assert story.verdict() == 0
    first, *_, last = screen.getvalue().splitlines()
    assert first.startswith("✓")
    assert first.endswith("counting: 3")
    assert last.startswith("✓ all 1 figures are as expected")


def test_a_figure_is_wrong(story: Story, screen: io.StringIO) -> None:
    with story.telling():
        with story.step("counting"):
            story.expect("the sum", 4, 3)
            story.expect("the rest", 0, 0)
        with story.step("going on"):
            pass
    assert story.verdict() == 1
    lines = screen.getvalue().splitlines()
    assert lines[0].startswith("✗")
    assert lines[1].strip() == "the sum: 4, expected 3"
    assert lines[2].startswith("✓")
    assert lines[-2:] == ["1 of 2 figures are wrong:", "  ✗ the sum: 4, expected 3"]


def test_a_step_that_breaks_off(story: Story, screen: io.StringIO) -> None:
    with pytest.raises(RuntimeError), story.telling(), story.step("breaking"):
        raise RuntimeError
    assert screen.getvalue().splitlines()[0].endswith("breaking")
