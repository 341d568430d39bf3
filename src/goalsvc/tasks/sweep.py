"""The sweep: finds promises whose jobs were lost, and enqueues them anew.

A crash between a write and its enqueue, a Redis that was emptied, a job that expired: each leaves a promise behind, and each is
healed here. A job that still waits or runs is not enqueued twice: its id is the promise's.

The sweep goes lane by lane, so that no promise waits behind those of a less urgent lane. As a rule it looks at what became due
since it last looked; what was looked at before is in the queue. From time to time, and as soon as Redis has been emptied, it
looks at everything.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from prometheus_client import Gauge

from goalsvc.context import Context
from goalsvc.domain.lanes import Lane
from goalsvc.domain.outcome import Done, Outcome, Reason, Returned
from goalsvc.domain.promises import Job, PromiseRef
from goalsvc.domain.reading import text
from goalsvc.models.promise import HasPromises, UnreadablePromise
from goalsvc.models.records import DeadLetter
from goalsvc.tasks.dead_letters import bury
from goalsvc.tasks.dispatch import job_for
from goalsvc.tasks.task import Task, task

log = logging.getLogger(__name__)

UNKNOWN = Gauge(
    "goalsvc_promises_unknown",
    "Due promises of tasks that this version does not have; they are left for a later version.",
    multiprocess_mode="max",
)

#: When an entry that could not be read is looked at again.
_REST = timedelta(hours=1)
#: How many promises are enqueued at a time.
_BATCH = 500
#: What became due this long before the last look is looked at again: clocks of hosts differ.
_OVERLAP = timedelta(seconds=30)
#: Everything is looked at this often, or less often where that would take more than a twentieth of the time.
_WHOLE_SECONDS = 30.0
_WHOLE_SHARE = 20.0
#: How many promises of unknown tasks one run looks at.
_MOST_UNKNOWN = 1000


def make_sweep(owing: Mapping[str, type[HasPromises]], tasks: Sequence[Task[object]]) -> Task[[]]:
    """Returns the sweep over these collections, for promises of these tasks."""
    lanes = {lane: [each.name for each in tasks if each.lane is lane] for lane in Lane}
    known = [each.name for each in tasks]
    logged: set[str] = set()

    @task(timeout=60)
    async def sweep_promises(context: Context) -> Outcome:
        """Enqueues every promise that has been due for longer than `GOALSVC_PROMISE_SWEEP_SECONDS`."""
        overdue = context.clock.now() - timedelta(seconds=context.settings.promise_sweep_seconds)
        found, whole = 0, False
        since = {lane: await _since(context, lane) for lane, names in lanes.items() if names}
        if await _nothing_is_due(owing, known, since.values(), overdue):
            for lane in since:
                await context.queue.note_swept(lane, overdue, None)
            return Returned(Reason.ALREADY_DONE)
        for lane, after in since.items():
            found += await _sweep_lane(context, owing, lane, lanes[lane], after, overdue)
            whole = whole or after is None
        if whole:
            found += await _look_at_unknown(context, owing, known, overdue, logged)
        return Done(f"{found} promises") if found else Returned(Reason.ALREADY_DONE)

    return sweep_promises


async def _since(context: Context, lane: Lane) -> datetime | None:
    """Returns since when what became due is to be looked at; None when everything is."""
    looked_until = await context.queue.swept_until(lane)
    return None if looked_until is None else looked_until - _OVERLAP


async def _nothing_is_due(
    owing: Mapping[str, type[HasPromises]],
    known: Sequence[str],
    since: Collection[datetime | None],
    overdue: datetime,
) -> bool:
    """Returns whether no lane has anything: one question for each collection, where the lanes ask one each."""
    after = [each for each in since if each is not None]
    if len(after) < len(since):
        return False
    for model in owing.values():
        if await model.owes(overdue, min(after), known):
            return False
    return True


async def _sweep_lane(
    context: Context,
    owing: Mapping[str, type[HasPromises]],
    lane: Lane,
    names: Sequence[str],
    since: datetime | None,
    overdue: datetime,
) -> int:
    """Returns how many promises were found."""
    clock = asyncio.get_running_loop()
    found, began = 0, clock.time()
    for collection, model in owing.items():
        batch: list[Job] = []
        async for document_id, promise in model.overdue(overdue, since, tasks=names):
            found += 1
            if isinstance(promise, UnreadablePromise):
                await _set_aside(context, model, promise)
                continue
            batch.append(job_for(PromiseRef(collection, document_id, promise.id), promise))
            if len(batch) == _BATCH:
                if not await context.queue.offer(lane, batch):
                    return found  # the lane is full, or Redis is: the next run goes on
                batch = []
        if batch and not await context.queue.offer(lane, batch):
            return found
    whole_again = max(_WHOLE_SECONDS, _WHOLE_SHARE * (clock.time() - began)) if since is None else None
    await context.queue.note_swept(lane, overdue, whole_again)
    return found


async def _look_at_unknown(
    context: Context,
    owing: Mapping[str, type[HasPromises]],
    known: Sequence[str],
    overdue: datetime,
    logged: set[str],
) -> int:
    """Counts due promises of tasks that this version does not have, and sets entries aside that name no task."""
    unknown = unreadable = 0
    for model in owing.values():
        async for _, promise in model.overdue(overdue, None, but_tasks=known, most=_MOST_UNKNOWN):
            if isinstance(promise, UnreadablePromise):
                unreadable += 1
                await _set_aside(context, model, promise)
                continue
            unknown += 1
            if promise.task not in logged and len(logged) < 100:
                logged.add(promise.task)
                log.warning("this version has no task %s; its promises are left to a later version", promise.task)
        async for undated in model.undated(_MOST_UNKNOWN):
            unreadable += 1
            await _set_aside(context, model, undated)
    UNKNOWN.set(unknown)
    return unreadable


async def _set_aside(context: Context, model: type[HasPromises], promise: UnreadablePromise) -> None:
    """Writes one dead letter that names the field, and lets the entry rest: once it is corrected, it is found again."""
    collection, now = model.get_settings().name or "", context.clock.now()
    ref = f"{collection}/{promise.document_id}/{promise.id}"
    arguments = promise.entry.get("arguments")
    letter = DeadLetter(
        id=ref,
        task=text(promise.entry.get("task")) or "unreadable",
        arguments=dict(arguments) if isinstance(arguments, Mapping) else {},
        reason=f"unusable_document: {collection}/{promise.document_id}: {promise.fault}",
        at=now,
        tries=0,
        promise=ref,
        goal_id=str(promise.document_id) if collection == "goals" else None,
    )
    if not await DeadLetter.is_dead(ref):
        await bury(context, letter)
        log.error("a promise cannot be read and is a dead letter: %s", letter.reason)
    await model.set_aside(promise, now + _REST)
