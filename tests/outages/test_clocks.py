"""An API whose clock is ahead of the worker's, or behind it: whole livestreams are played, and time and money are right."""

import asyncio
import os
import shutil
from pathlib import Path
from random import Random
from time import monotonic

import pytest

from tests.faults.outside import Clients, dev_stack, play_livestream, recorded_calls, settle, violations_of
from tests.outages.beside import api_beside

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.environ.get("GOALSVC_TEST_DRILLS") != "all", reason="takes a minute: run by make drills"),
    pytest.mark.skipif(shutil.which("faketime") is None, reason="needs faketime (Debian's package faketime)"),
]

LIVESTREAMS = 4
#: An effect that waits for the other clock to catch up takes at least as long as they differ.
APART_SECONDS = 30


@pytest.mark.parametrize("apart", [f"+{APART_SECONDS}s", f"-{APART_SECONDS}s"], ids=["ahead", "behind"])
async def test_livestreams_through_an_api_with_another_clock(tmp_path: Path, apart: str) -> None:
    # What sleeps and times out goes by the monotonic clock, which no host sets.
    environment = {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    async with dev_stack() as stack:
        with api_beside(
            stack, tmp_path / "api.log", before=["faketime", "-f", apart], environment=environment
        ) as addresses:
            clients = Clients(addresses, Random(1))
            begun = monotonic()
            shows = await asyncio.gather(*(play_livestream(clients, Random(number)) for number in range(LIVESTREAMS)))
            await settle(clients, addresses, clients.wrong)
            took = monotonic() - begun
            wrong = clients.wrong + violations_of(addresses, shows, await recorded_calls(addresses))
            await clients.close()
    assert not wrong, "\n".join(wrong)
    assert sum(show.performed for show in shows) > 0
    assert took < APART_SECONDS, "something waited until the other clock came to the same time"
