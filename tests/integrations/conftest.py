"""What the tests of several integrations share: a stub server, settings, a clock that stands still."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from goalsvc.settings import Settings

from .stub_server import StubServer, open_stub_server


@dataclass
class StoppedClock:
    """A clock that shows what it is set to."""

    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at


@pytest.fixture
async def stub() -> AsyncIterator[StubServer]:
    async with open_stub_server() as server:
        yield server


def settings_with(**values: Any) -> Settings:
    """Settings of which only `values` matter."""
    return Settings(mongodb_url="mongodb://127.0.0.1/unused", redis_url="redis://127.0.0.1", **values)
