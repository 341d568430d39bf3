"""Clips are cut in a process of their own: it may hang or be killed, and money is not touched by that."""

import asyncio
import os
import signal
from pathlib import Path
from random import Random

import pytest

from goalsvc.devstack.waiting import holds_within
from tests.faults.outside import Clients, DevStack, dev_stack, play_livestream, recorded_calls, settle, violations_of

pytestmark = pytest.mark.real


def clip_process_of(stack: DevStack) -> int | None:
    """The child of the worker that cuts clips, if it runs."""
    worker = stack.pid("worker")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == worker and b"clips" in (entry / "cmdline").read_bytes():
                return int(entry.name)
        except (OSError, ValueError):
            continue  # it has ended meanwhile
    return None


async def test_it_may_hang_or_be_killed_while_shows_are_paid() -> None:
    async with dev_stack() as stack:
        worker = stack.pid("worker")
        assert await asyncio.to_thread(holds_within, 30.0, lambda: clip_process_of(stack) is not None)
        first = clip_process_of(stack)
        assert first is not None
        os.kill(first, signal.SIGSTOP)  # as when a decoder never ends
        clients = Clients(stack.addresses, Random(1))
        shows = await asyncio.gather(*(play_livestream(clients, Random(number)) for number in range(4)))
        await settle(clients, stack.addresses, clients.wrong)
        wrong = clients.wrong + violations_of(stack.addresses, shows, await recorded_calls(stack.addresses))
        assert not wrong, "\n".join(wrong)

        os.kill(first, signal.SIGKILL)  # as when memory runs out
        assert await asyncio.to_thread(holds_within, 30.0, lambda: clip_process_of(stack) not in (None, first))
        assert stack.pid("worker") == worker, "the worker itself goes on"
        second = clip_process_of(stack)
        assert second is not None
        stack.signal("worker", signal.SIGTERM)
        assert await asyncio.to_thread(holds_within, 20.0, lambda: not Path(f"/proc/{second}").exists()), (
            "SIGTERM is passed on"
        )
        await clients.close()
