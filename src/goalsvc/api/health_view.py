"""The health of the whole service: its processes, the services that they call, and the work that waits."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Literal, Self

from pydantic import Field
from redis.asyncio import Redis
from redis.exceptions import RedisError

from goalsvc.api.dependencies import ContextOf, ResourcesOf
from goalsvc.api.errors import responses
from goalsvc.api.operation import operations
from goalsvc.api.views import Part, Text, Time, View, absent
from goalsvc.domain.lanes import Lane
from goalsvc.integrations.breaker import STATES, ServiceState
from goalsvc.models.census import Census, take_census
from goalsvc.tasks.arq_queue import queue_depths
from goalsvc.tasks.heartbeats import Heartbeat, heartbeats

router = operations("/v1/health", "Health")

_PATIENCE_SECONDS = 2.0
#: A promise that is due for longer is stuck.
_TOO_LATE = timedelta(seconds=60)


class ProcessView(Part):
    """A process that lives, as it said itself within the last 15 s."""

    process: str = Field(description="Its host and number.", examples=["goalsvc-worker-1:4711"])
    role: str = Field(description="`api` or `worker`.", examples=["worker"])
    host: str = Field(examples=["goalsvc-worker-1"])
    pid: int = Field(examples=[4711])
    version: str = Field(examples=["0.9.0"])
    started_at: datetime
    at: datetime = Field(description="When it said so.")
    lag_seconds: float = Field(description="How late its event loop last woke up.", examples=[0.002])
    lanes: list[str] = Field(description="The lanes whose jobs it runs; empty for `api`.", examples=[["money"]])
    jobs: int = Field(description="Jobs that it has in hand.", examples=[3])
    last_claim_at: Time = absent("When it last could ask Redis for jobs, whether there were any or not.")

    @classmethod
    def of(cls, beat: Heartbeat) -> Self:
        """The view of what that process said."""
        names = ("process", "role", "host", "pid", "version", "started_at", "at", "lag_seconds", "jobs")
        fields = {name: getattr(beat, name) for name in names}
        return cls(**fields, lanes=list(beat.lanes), last_claim_at=beat.last_claim_at)


class OutsideServiceView(Part):
    """How one service outside has answered one process."""

    service: str = Field(description="`pusher`, `s3`, `byteplus` or `hls` with its host.", examples=["pusher"])
    process: str = Field(examples=["goalsvc-worker-1:4711"])
    state: Literal["down", "failing", "works", "unused"] = Field(
        description="`unused`: no call has ended yet; `failing`: the last calls failed; `down`: calls fail at once, and one at "
        "a time probes it."
    )
    failures: int = Field(description="How many calls failed in a row.")
    down_since: Time = absent("Since when calls fail at once.")
    last_failed_at: Time = absent("When a call failed last.")
    last_failure: Text = absent("Why it failed.", examples=["answered 503"])

    @classmethod
    def of(cls, process: str, state: ServiceState) -> Self:
        """The view of how that service answered that process."""
        return cls.model_validate({"process": process, **asdict(state)})


class QueueView(Part):
    """The queue of one lane."""

    lane: str = Field(examples=["money"])
    due: int = Field(description="Jobs that are due and not running.", examples=[0])
    oldest_seconds: float = Field(description="For how long the oldest job has been due.", examples=[0.0])


class HealthView(View):
    """The health of the whole service."""

    at: datetime
    stuck: bool = Field(description="Whether a promise has been due for more than 60 s.")
    sentence: str = Field(description="The same in a sentence.", examples=["Nothing is stuck."])
    oldest_promise_seconds: float = Field(description="For how long the oldest promise has been due.")
    promises: dict[str, int] = Field(description="Promises that documents hold, by task.")
    dead_letters: dict[str, int] = Field(description="Dead letters that wait for an operator, by task.")
    running_clocks: int
    unconfirmed_clocks: int = Field(description="Running clocks that Pusher has not confirmed for long.")
    redis: bool = Field(description="Whether Redis answers; otherwise queues, processes and services are empty.")
    queues: list[QueueView] = Field(description="The queue of each lane, most urgent first.")
    processes: list[ProcessView] = Field(description="The processes that live, `api` before `worker`.")
    services: list[OutsideServiceView] = Field(
        description="The services that they call: what works least comes first. Endpoints of the platform's backend have a "
        "list of their own."
    )


@router.get("", summary="Read the health of the service", responses=responses(401, 503))
async def read_health(context: ContextOf, resources: ResourcesOf) -> HealthView:
    """What lives, what it calls, and what waits: each figure as the documents and Redis have it, no process's memory.

    Promises, dead letters and clocks are counted up to 20,000; more are not counted.
    """
    now = context.clock.now()
    within = timedelta(seconds=3 * context.settings.reconcile_seconds)
    census, redis = await asyncio.gather(take_census(now, within), _asked(resources.redis))
    depths, beats = redis if redis is not None else ({}, [])
    services = [OutsideServiceView.of(beat.process, state) for beat in beats for state in beat.services]
    return HealthView(
        at=now,
        stuck=census.oldest_promise > _TOO_LATE,
        sentence=_sentence(census, None if redis is None else beats),
        oldest_promise_seconds=census.oldest_promise.total_seconds(),
        promises=census.promises,
        dead_letters=census.dead_letters,
        running_clocks=census.running_clocks,
        unconfirmed_clocks=census.unconfirmed_clocks,
        redis=redis is not None,
        queues=[QueueView(lane=lane.value, due=due, oldest_seconds=oldest) for lane, (due, oldest) in depths.items()],
        processes=[ProcessView.of(beat) for beat in beats],
        services=sorted(services, key=lambda one: (STATES.index(one.state), one.service, one.process)),
    )


async def _asked(redis: Redis) -> tuple[Mapping[Lane, tuple[int, float]], list[Heartbeat]] | None:
    """Returns the queues and the heartbeats; None when Redis does not answer."""
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return await queue_depths(redis), await heartbeats(redis)
    except (RedisError, OSError, TimeoutError):
        return None


def _sentence(census: Census, beats: Sequence[Heartbeat] | None) -> str:
    """Returns whether anything is stuck; what is worst comes first."""
    letters = sum(census.dead_letters.values())
    if beats is None:
        return "Redis does not answer: what is promised stands in the documents and waits; nothing is lost."
    if not any(beat.role == "worker" for beat in beats):
        return "No worker runs: what is promised waits until one does."
    if census.oldest_promise > _TOO_LATE:
        seconds = round(census.oldest_promise.total_seconds())
        return f"A promise has been due for {seconds} s: workers are too few, stopped, or stuck."
    if letters:
        wait = "1 dead letter waits" if letters == 1 else f"{letters} dead letters wait"
        return f"Nothing waits too long, but {wait} for you."
    return "Nothing is stuck."
