"""Events that a document promises: written by the task that fulfils the promise."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from goalsvc.context import Context
from goalsvc.domain.events import Event
from goalsvc.domain.origin import Origin
from goalsvc.domain.outcome import Done, FollowUp, Outcome
from goalsvc.domain.promises import Promise
from goalsvc.tasks.task import task


@task(traced=False)
async def write_event(context: Context, *, event: Mapping[str, Any]) -> Outcome:
    """Writes the event; its id follows from what it tells of, so a repeat writes nothing."""
    told = Event.read(event)
    return Done(told.type, events=(told,))


def follow_up_of(event: Event) -> FollowUp:
    """The event as a follow-up, for a change whose own write can hold a promise."""
    return write_event.follow_up(event=event.arguments()).called(event.id)


def promise_of(event: Event, now: datetime, origin: Origin) -> Promise:
    """The event as a promise of a document that is to be inserted."""
    return Promise.of(event.id, write_event.name, {"event": event.arguments()}, now, origin)
