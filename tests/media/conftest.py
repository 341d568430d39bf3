"""What the tests of streams have in common."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from pathlib import Path

import pytest

from goalsvc.domain.clips import Clip
from goalsvc.integrations.egress import EgressRules
from goalsvc.integrations.media import CutLimits, FfmpegCutter
from tests.integrations.stub_server import open_stub_server

from .studio import Clock, Origin, Reel, Seen, film, look

#: The picture has B-frames, whose order of decoding is another one, and a key frame every second.
B_FRAMES = ("-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-x264-params", "scenecut=0")

#: Set by `make media`.
HEAVY = "GOALSVC_TEST_MEDIA"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves the heavier tests to `make media`."""
    if not os.environ.get(HEAVY):
        for item in items:
            if item.get_closest_marker("media"):
                item.add_marker(pytest.mark.skip(reason="takes minutes: run by `make media`"))


Cutting = Callable[..., Awaitable[tuple[Clip, Seen]]]


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with open_stub_server() as stub:
        yield Origin(stub, Clock())


@pytest.fixture
def cut(origin: Origin) -> Cutting:
    """Cuts a clip and looks into it."""

    async def cutting(
        url: str,
        begins_at: datetime,
        seconds: float,
        *,
        latest_begin: datetime | None = None,
        lag_seconds: float = 0.0,
        timeshift_url: str = "",
        limits: CutLimits | None = None,
    ) -> tuple[Clip, Seen]:
        cutter = FfmpegCutter(
            EgressRules(private=True),
            origin.clock,
            limits,
            lag_seconds=lag_seconds,
            timeshift_url=timeshift_url,
            sleep=origin.clock.sleep,
        )
        async with cutter.cut(url, begins_at, seconds, latest_begin=latest_begin) as clip:
            return clip, await asyncio.to_thread(look, clip.path)

    return cutting


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Reel:
    """A minute, with B-frames, as segments of 2 s with two groups of pictures each."""
    return film(tmp_path_factory.mktemp("plain"), 60, coder=B_FRAMES)


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return tmp_path_factory.mktemp
