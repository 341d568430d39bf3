"""The requests that a real Pusher-protocol server sent (`fixtures/pusher_webhooks.jsonl`), replayed as they were recorded."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import pytest
from bson import ObjectId

from goalsvc.clock import from_epoch_milliseconds
from goalsvc.domain.goals import GoalKind, Level, Metadata
from goalsvc.models.goal import Goal, ShowGoal
from tests.receivers.scenes import a_goal

from .app import Service, open_service

PERFORMER = "u-alice-1"
SHOW = ObjectId("68143584d6945d32e732cc21")
JOINS = {"member_added", "channel_occupied"}
LEAVES = {"member_removed", "channel_vacated"}


@dataclass(frozen=True)
class Recorded:
    """One request, as it was sent."""

    scenario: str
    arrival_ms: int
    headers: dict[str, str]
    body: bytes

    @property
    def payload(self) -> Any:
        return json.loads(self.body)

    async def post(self, service: Service, body: bytes | None = None) -> httpx.Response:
        """Posts it at the time at which it arrived."""
        service.stage.clock.at = from_epoch_milliseconds(self.arrival_ms)
        return await service.post_webhook(self.body if body is None else body, self.headers)


def _recorded() -> Iterator[Recorded]:
    path = Path(__file__).parents[1] / "fixtures" / "pusher_webhooks.jsonl"
    for line in path.read_text("utf-8").splitlines():
        fields = json.loads(line)
        yield Recorded(fields["scenario"], fields["arrival_ms"], fields["headers"], fields["body"].encode())


RECORDED = list(_recorded())
#: The same scenes were recorded twice: event by event, and in batches.
SERIES = {name: list(requests) for name, requests in groupby(RECORDED, lambda one: one.scenario.partition("/")[0])}


def seconds_performed(requests: Sequence[Recorded]) -> int:
    """The law of docs/specification.md#clock on these requests, by hand: marks of strangers and other channels move nothing."""
    moves = sorted(
        (request.payload["time_ms"], event["name"] in LEAVES)
        for request in requests
        for event in request.payload["events"]
        if event["name"] in JOINS | LEAVES
        and event["channel"].endswith(f"goal@{SHOW}")
        and event.get("user_id") in (None, PERFORMER)
    )
    performed, since = 0, None
    for at, left in moves:
        if left and since is not None:
            performed, since = performed + at - since, None
        elif not left and since is None:
            since = at
    return performed // 1000


@pytest.fixture
async def spike() -> Any:
    async with open_service(pusher_key="spike-key", pusher_secret="spike-secret") as service:
        yield service


async def counted() -> int:
    """The seconds that the goal owes to its progress."""
    goal = await Goal.by_id(SHOW)
    assert goal is not None
    owed = [promise for promise in goal.promises if promise.task == "increment_goal_progress"]
    return sum(promise.arguments["amount"] for promise in owed)


async def a_show() -> None:
    levels = [Level(title="Ukulele medley", target=360)]
    await a_goal(GoalKind.SHOW, id=SHOW, progress=0, levels=levels, metadata=Metadata(user_id=PERFORMER), context={})
    assert ShowGoal.kind is GoalKind.SHOW


class TestRecordedRequests:
    def test_there_are_as_many_as_were_recorded(self) -> None:
        assert {name: len(requests) for name, requests in SERIES.items()} == {"single": 21, "batch": 13}

    @pytest.mark.parametrize("request_", RECORDED, ids=lambda one: one.scenario)
    async def test_each_is_taken_with_the_signature_it_came_with(self, spike: Service, request_: Recorded) -> None:
        answer = await request_.post(spike)
        assert (answer.status_code, answer.content) == (200, b"")
        assert len(spike.stage.recorder.segments) == len(request_.payload["events"])

    @pytest.mark.parametrize("request_", RECORDED[:6], ids=lambda one: one.scenario)
    async def test_with_one_byte_changed_none_is(self, spike: Service, request_: Recorded) -> None:
        assert (await request_.post(spike, request_.body.replace(b"time_ms", b"time_mz"))).status_code == 401

    @pytest.mark.parametrize("series", sorted(SERIES))
    async def test_played_in_order_they_come_to_the_seconds_that_they_say(self, spike: Service, series: str) -> None:
        await a_show()
        for request in SERIES[series]:
            assert (await request.post(spike)).status_code == 200
        assert await counted() == seconds_performed(SERIES[series]) > 0

    @pytest.mark.parametrize("series", sorted(SERIES))
    async def test_each_of_them_twice_comes_to_the_same(self, spike: Service, series: str) -> None:
        await a_show()
        for request in SERIES[series]:
            assert (await request.post(spike)).status_code == 200
            assert (await request.post(spike)).status_code == 200
        assert await counted() == seconds_performed(SERIES[series])
