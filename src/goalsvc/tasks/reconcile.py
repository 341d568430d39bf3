"""After an outage that outlasted Pusher's repeats, a leave may never be told: the clock would run for ever.

So Pusher is asked, now and then, who is in the channels of the goals whose clocks run. A performer who is missed for longer
than Pusher repeats a webhook has left, and nobody knows when: his clock is paused at the last moment at which he is known to
have been there. Not sooner: a leave that is still on its way tells the exact time.
"""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from goalsvc.context import Context
from goalsvc.domain.channels import goal_channel
from goalsvc.domain.origin import NOWHERE, Cause
from goalsvc.domain.outcome import Done, Outcome, Reason, Returned
from goalsvc.domain.promises import PromiseRef
from goalsvc.domain.trace import node_of, segment_document
from goalsvc.errors import ExternalServiceError
from goalsvc.models.clocks import Move, Moved, participants_of
from goalsvc.models.filters import ACTIVE
from goalsvc.models.goal import Goal
from goalsvc.tasks.dispatch import job_for
from goalsvc.tasks.task import task

#: How many goals one run asks about, and how many questions are under way at a time.
_BATCH = 500
_QUESTIONS_AT_ONCE = 8

_FIELDS = {"_cls": 1, "clock.known_at": 1, "context.started": 1, "metadata": 1, "conditions": 1}


@task(timeout=60)
async def reconcile_clocks(context: Context) -> Outcome:
    """Pauses clocks whose performer has left without our being told."""
    unknown_since = context.clock.now() - timedelta(seconds=context.settings.reconcile_seconds)
    where = {"clock.running": True, "clock.known_at": {"$lte": unknown_since}, "active": ACTIVE}
    found = await Goal.get_motor_collection().find(where, _FIELDS).sort("clock.known_at").to_list(_BATCH)
    turn = asyncio.Semaphore(_QUESTIONS_AT_ONCE)

    async def one(document: dict[str, Any]) -> bool:
        async with turn:
            return await _reconcile(context, document)

    paused = sum(await asyncio.gather(*map(one, found)))
    return Done(f"{paused} clocks paused") if paused else Returned(Reason.ALREADY_DONE)


async def _reconcile(context: Context, document: dict[str, Any]) -> bool:
    """Whether the goal's clock was paused."""
    goal_id: ObjectId = document["_id"]
    try:
        present = await context.notifier.users_in(goal_channel(str(goal_id)))
    except ExternalServiceError:
        return False  # nothing was learnt; the next run asks again
    now = context.clock.now()
    if participants_of(document) & set(present):
        await Goal.seen_performing(goal_id, now)
        return False
    missed_since = await Goal.missed(goal_id, now)
    if missed_since is None or now - missed_since < timedelta(seconds=context.settings.reconcile_patience):
        return False
    known_at: datetime = document["clock"]["known_at"]
    return await _pause(context, goal_id, known_at)


async def _pause(context: Context, goal_id: ObjectId, known_at: datetime) -> bool:
    at = context.clock.now()
    event_id = f"reconcile:{goal_id}:{known_at.isoformat()}"
    cause = Cause(goal_id=str(goal_id), event_id=event_id, task="reconcile_clocks", happened_at=known_at)
    origin = replace(NOWHERE, cause=cause).of_task("reconcile_clocks")
    move = Move(goal_id, False, None, known_at, event_id, origin)
    moved = await context.clocks.move(move)
    if not isinstance(moved, Moved) or not moved.turned.paused:
        return False
    what = f"missed by Pusher; paused at {known_at.isoformat()}, when the performer was known to be there"
    node = node_of("task", "reconcile_clocks", Done(what), at, 0.0) | {"place": origin.place}
    context.recorder.trace(segment_document(origin.segment, str(goal_id), None, at, node))
    for promise in moved.promises:
        context.queue.enqueue(job_for(PromiseRef("goals", goal_id, promise.id), promise))
    return True
