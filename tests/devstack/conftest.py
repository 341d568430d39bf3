from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .stack import Stack

StartStack = Callable[..., Stack]


@pytest.fixture
def start_stack(tmp_path: Path) -> Iterator[StartStack]:
    """Starts stacks, in the test's own data directory unless told otherwise; stops what the test left running."""
    started: list[Stack] = []

    def start(
        *words: str,
        directory: Path = tmp_path / "data",
        port: int | None = None,
        environment: dict[str, str] | None = None,
        terminal: bool = False,
    ) -> Stack:
        stack = Stack(directory, *words, port=port, environment=environment, terminal=terminal)
        started.append(stack)
        return stack

    yield start
    for stack in reversed(started):
        stack.stop()
    assert all(stack.leaves_nothing() for stack in started)
