"""More than a process can carry is refused, not piled up."""

import asyncio
from dataclasses import dataclass, field

import pytest

from goalsvc.models.clocks import GoalClocks

from .app import Service
from .test_errors import assert_problem
from .test_webhook import body_of

MOST = 3


@dataclass
class SlowDatabase:
    """Clocks whose writes do not end until `answers` is set; `full` is, once as many wait as may."""

    full: asyncio.Event = field(default_factory=asyncio.Event)
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0


@pytest.fixture
def slow_database(service: Service, monkeypatch: pytest.MonkeyPatch) -> SlowDatabase:
    slow, move = SlowDatabase(), GoalClocks.move

    async def waits(self: GoalClocks, *arguments: object) -> object:
        slow.waiting += 1
        if slow.waiting == MOST:
            slow.full.set()
        await slow.answers.wait()
        return await move(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(GoalClocks, "move", waits)
    monkeypatch.setattr(service.app.state.webhooks_under_way, "most", MOST)
    return slow


async def test_webhooks_beyond_the_limit_are_to_be_repeated(service: Service, slow_database: SlowDatabase) -> None:
    taken = [asyncio.create_task(service.webhook(body_of())) for _ in range(MOST)]
    await slow_database.full.wait()
    refused = await asyncio.gather(*(service.webhook(body_of()) for _ in range(5)))
    for answer in refused:
        assert_problem(answer, 503, "unavailable")
        assert answer.headers["Retry-After"] == "1"
    assert_problem(await service.webhook(body_of(), secret="wrong"), 401, "bad_signature")
    slow_database.answers.set()
    assert [answer.status_code for answer in await asyncio.gather(*taken)] == [200] * MOST
    assert (await service.webhook(body_of())).status_code == 200
    assert service.app.state.webhooks_under_way.count == 0
