"""The app for every test in here, on fakes."""

from collections.abc import AsyncIterator

import pytest

from tests.receivers.fakes import Stage

from .app import Service, open_service


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with open_service() as opened:
        yield opened


@pytest.fixture
def stage(service: Service) -> Stage:
    return service.stage
