"""The connections behind a context, for those endpoints that need one itself. `goalsvc.wiring` opens them.

They are no part of the Context: no receiver and no task is to touch a client library.
"""

from dataclasses import dataclass

from redis.asyncio import Redis

from goalsvc.context import ObjectStore
from goalsvc.integrations.breaker import Breakers
from goalsvc.integrations.cache import RedisCache
from goalsvc.integrations.pusher import PusherNotifier
from goalsvc.models.database import Database
from goalsvc.models.event_log import EventLog


@dataclass(frozen=True, slots=True)
class Resources:
    """What readiness asks, where cached views are read, and who signs channel authorisations and links to clips."""

    database: Database
    redis: Redis
    cache: RedisCache
    pusher: PusherNotifier
    breakers: Breakers
    events: EventLog
    store: ObjectStore
