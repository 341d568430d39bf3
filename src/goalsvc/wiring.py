"""Wiring: the only place where real clients are made and closed. The API and the worker share it."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from goalsvc.clock import Clock, MovableClock, SystemClock, clock_file
from goalsvc.context import Context, WorkerContext
from goalsvc.domain.performance import Rule
from goalsvc.integrations.breaker import Breakers
from goalsvc.integrations.cache import RedisCache
from goalsvc.integrations.pace import NoticePace
from goalsvc.integrations.pusher import open_notifier
from goalsvc.integrations.redis import open_redis
from goalsvc.integrations.rtc import open_rtc
from goalsvc.integrations.storage import open_store
from goalsvc.integrations.tracecontext import open_spans
from goalsvc.models.clocks import GoalClocks
from goalsvc.models.contributions import Contributions
from goalsvc.models.database import open_database
from goalsvc.models.event_log import EventLog
from goalsvc.models.ledger import Ledger
from goalsvc.models.recorder import BulkRecorder
from goalsvc.receivers import ALL as RECEIVERS
from goalsvc.resources import Resources
from goalsvc.settings import Settings
from goalsvc.signals.bus import SignalBus
from goalsvc.tasks import ALL as TASKS
from goalsvc.tasks.arq_queue import ArqQueue
from goalsvc.tasks.signing import JobSigner

log = logging.getLogger(__name__)


def clock_of(settings: Settings) -> Clock:
    """Returns the machine's clock; in `goalsvc dev` the test clock that its processes share."""
    return MovableClock(clock_file(Path(settings.dev_dir))) if settings.dev_dir else SystemClock()


@asynccontextmanager
async def open_context(settings: Settings, *, clock: Clock | None = None) -> AsyncIterator[tuple[Context, Resources]]:
    """Opens everything that receivers and endpoints need; on leaving, writes what is pending and closes it."""
    clock = clock or clock_of(settings)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(settings.mongodb_url))
        redis = open_redis(settings.redis_url)
        stack.push_async_callback(redis.aclose)
        breakers = Breakers(clock)
        notifier = await stack.enter_async_context(open_notifier(settings, breaker=breakers.of("pusher")))
        cache = RedisCache(redis)
        exporter = open_spans(log.warning)
        if exporter is not None:
            stack.push_async_callback(exporter.close)
        recorder = BulkRecorder(None if exporter is None else exporter.export)
        events = EventLog(database)
        stack.push_async_callback(events.close)
        queue = ArqQueue(redis, TASKS, clock, JobSigner.from_settings(settings))
        stack.push_async_callback(recorder.flush)
        stack.push_async_callback(queue.flush)
        context = Context(
            settings=settings,
            clock=clock,
            bus=SignalBus(RECEIVERS),
            queue=queue,
            recorder=recorder,
            notifier=notifier,
            cache=cache,
            ledger=Ledger(database),
            contributions=Contributions(database, clock.now, allow_self_payment=settings.allow_self_payment),
            pace=NoticePace(redis),
            clocks=GoalClocks(clock, Rule(settings.exclusive_clock)),
            events=events,
        )
        store = await stack.enter_async_context(open_store(settings, breaker=breakers.of("s3")))
        yield context, Resources(database, redis, cache, notifier, breakers, events, store)


@asynccontextmanager
async def open_worker_context(
    settings: Settings, *, clock: Clock | None = None
) -> AsyncIterator[tuple[WorkerContext, Resources]]:
    """Opens what `open_context` opens, and the clients of the services that workers alone call."""
    from goalsvc.integrations.media import GuardedCutter  # it takes a tenth of the start of an API, which cuts no clips

    async with open_context(settings, clock=clock) as (context, resources):
        breakers = resources.breakers
        async with open_rtc(settings, context.clock, breaker=breakers.of("byteplus")) as rtc:
            cutter = GuardedCutter.from_settings(settings, context.clock, breakers)
            yield WorkerContext.of(context, resources.store, rtc, cutter), resources
