"""What the tests share: a context of fakes; the real mongod and Valkey, and a world to play in."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pymongo import MongoClient

from goalsvc.context import WorkerContext
from goalsvc.devstack import private_mongod, private_valkey

from .receivers.fakes import Stage, open_stage
from .support.drivers import InTheHandOf
from .world import World, empty, open_world

#: The driver in whose hand every document of every story is between goalsvc's turns (`make drivers`).
DRIVER = os.environ.get("GOALSVC_TEST_DRIVER", "")


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors, but for one that no code of ours can avoid. What tests start heeds Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has what it starts in the background do
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Beanie's lazy_model reads `model_fields` of an instance: https://github.com/BeanieODM/lazy_model/issues
    config.addinivalue_line("filterwarnings", "ignore:Accessing the 'model_fields' attribute:DeprecationWarning")


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """Fakes of all that goalsvc calls, and the documents in memory."""
    async with open_stage() as opened:
        yield opened


@pytest.fixture
def context(stage: Stage) -> WorkerContext:
    """The context of these fakes."""
    return stage.context


@pytest.fixture(scope="session")
def mongodb_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A replica set of one member, for the whole run. It removes nothing by itself: worlds live in other times than its own."""
    with private_mongod(tmp_path_factory.mktemp("mongod")) as server:
        with MongoClient[dict[str, Any]](server.url) as client:
            client.admin.command("setParameter", 1, ttlMonitorEnabled=False)
        yield server.url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Valkey, for the whole run."""
    with private_valkey() as url:
        yield url


@pytest.fixture(scope="session")
def all_documents(mongodb_url: str) -> Iterator[MongoClient[dict[str, Any]]]:
    """Reads and writes documents past goalsvc, as another service would."""
    with MongoClient[dict[str, Any]](mongodb_url) as client:
        yield client


@pytest.fixture
def documents(all_documents: MongoClient[dict[str, Any]]) -> MongoClient[dict[str, Any]]:
    """The same, when every collection is empty."""
    empty(all_documents)
    return all_documents


@pytest.fixture
async def world(documents: MongoClient[dict[str, Any]], mongodb_url: str, redis_url: str) -> AsyncIterator[World]:
    """A world whose jobs are run in this process. When the story is over, all that must always hold is checked."""
    async with open_world(documents, mongodb_url, redis_url) as opened:
        if DRIVER:
            opened.turn = InTheHandOf(opened.database, DRIVER)
        yield opened
        await opened.check_invariants()


@pytest.fixture
async def busy_world(documents: MongoClient[dict[str, Any]], mongodb_url: str, redis_url: str) -> AsyncIterator[World]:
    """A world whose jobs are run by real workers on the real Valkey."""
    async with open_world(documents, mongodb_url, redis_url, real_workers=True) as opened:
        if DRIVER:
            opened.turn = InTheHandOf(opened.database, DRIVER)
        yield opened
        await opened.check_invariants()
