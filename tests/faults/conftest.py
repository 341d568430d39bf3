"""`pytest tests/faults --seed N` plays one history again."""

import logging
from collections.abc import Iterator

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="play the history of this seed, and no other")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int | None:
    """The seed that was asked for, if any."""
    # Only known where this file was loaded before the command line was read: `pytest tests/faults …`.
    asked: int | None = request.config.getoption("--seed", default=None)
    return asked


@pytest.fixture
def silence() -> Iterator[None]:
    """Nothing is logged: what breaks on purpose is not worth a word."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
