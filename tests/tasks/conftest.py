"""A context of fakes for every test in here."""

from collections.abc import AsyncIterator

import pytest

from goalsvc.context import WorkerContext
from tests.receivers.fakes import Stage, open_stage


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with open_stage() as opened:
        yield opened


@pytest.fixture
def context(stage: Stage) -> WorkerContext:
    return stage.context
