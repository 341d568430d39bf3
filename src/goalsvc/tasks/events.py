"""Events that a document promises: written by the task that fulfils the promise."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from goalsvc.context import Context
from goalsvc.domain.events import Event
from goalsvc.domain.origin import Origin
from goalsvc.domain.outcome import Done, Outcome
from goalsvc.domain.promises import Promise
from goalsvc.tasks.arguments import Fields
from goalsvc.tasks.task import task

#: What `Event.arguments` returns.
EventArgument = Annotated[
    Mapping[str, Any],
    Fields(
        {
            "type": str,
            "identity": str,
            "created_at": datetime,
            "data": Mapping[str, object],
            "user_ids": list[str],
            "goal_id": str | None,
            "session_id": str | None,
            "cause": Mapping[str, object] | None,
        }
    ),
]


@task(traced=False)
async def write_event(context: Context, *, event: EventArgument) -> Outcome:
    """Writes the event; its id follows from what it tells of, so a repeat writes nothing."""
    told = Event.read(event)
    return Done(told.type, events=(told,))


def promise_of(event: Event, now: datetime, origin: Origin) -> Promise:
    """The event as a promise of a document that is to be inserted."""
    return Promise.of(event.id, write_event.name, {"event": event.arguments()}, now, origin)
