"""A database or a Redis that hangs while livestreams are played: readiness says so, nothing is lost, nobody is restarted."""

import asyncio
import signal
from random import Random

import httpx
import pytest

from goalsvc.devstack.waiting import holds_within
from tests.faults.outside import Clients, DevStack, dev_stack, play_livestream, recorded_calls, settle, violations_of
from tests.support.waiting import comes_to_hold

pytestmark = pytest.mark.real

LIVESTREAMS = 6
#: Within this, readiness must have noticed, and have noticed that it is over.
NOTICED_SECONDS = 30.0
#: Which part hangs, and by which name readiness knows it.
HANGING = {"valkey": "redis", "mongod": "mongodb"}


def readiness(stack: DevStack) -> tuple[int, dict[str, str]]:
    """What `/readyz` answers."""
    answer = httpx.get(f"{stack.addresses['api_url']}/readyz", timeout=10.0, trust_env=False)
    return answer.status_code, answer.json()


async def notices(stack: DevStack, *, ready: bool) -> bool:
    """Whether readiness came to say so in time."""
    return await comes_to_hold(lambda: asyncio.to_thread(says, stack, ready), NOTICED_SECONDS, every=0.01)


def says(stack: DevStack, ready: bool) -> bool:
    return (readiness(stack)[0] == 200) is ready


@pytest.mark.parametrize("part", HANGING)
async def test_readiness_tells_and_all_heals_by_itself(part: str) -> None:
    async with dev_stack() as stack:
        clients = Clients(stack.addresses, Random(1))
        before = {name: stack.pid(name) for name in ("api", "worker", part)}
        playing = [asyncio.create_task(play_livestream(clients, Random(number))) for number in range(LIVESTREAMS)]
        assert await asyncio.to_thread(holds_within, 30.0, lambda: clients.tally.webhooks >= 3)
        stack.signal(part, signal.SIGSTOP)
        try:
            assert await notices(stack, ready=False)
            status, told = await asyncio.to_thread(readiness, stack)
            assert status == 503
            assert told.pop(HANGING[part]).startswith("unreachable")
            assert set(told.values()) == {"ok"}, "of the other one it says the truth too"
            healthy = await asyncio.to_thread(httpx.get, f"{stack.addresses['api_url']}/healthz")
            assert healthy.status_code == 200
        finally:
            stack.signal(part, signal.SIGCONT)
        assert await notices(stack, ready=True)
        shows = await asyncio.gather(*playing)
        await settle(clients, stack.addresses, clients.wrong)
        wrong = clients.wrong + violations_of(stack.addresses, shows, await recorded_calls(stack.addresses))
        after = {name: stack.pid(name) for name in before}
        await clients.close()
    assert not wrong, "\n".join(wrong)
    assert after == before, "somebody was restarted"
