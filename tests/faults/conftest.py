"""`pytest tests/faults --seed N` plays one history again."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="play the history of this seed, and no other")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int | None:
    """The seed that was asked for, if any."""
    # Only known where this file was loaded before the command line was read: `pytest tests/faults …`.
    asked: int | None = request.config.getoption("--seed", default=None)
    return asked
