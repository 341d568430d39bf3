"""The sweep: finds the promises that nobody hurried, and enqueues them anew (law 1).

A crash between a write and its enqueue, a Redis that was emptied, a job that expired: all of them leave a promise behind,
and all of them are healed here. A job that is still waiting or running is not enqueued twice: its id is the promise's.
"""

import logging
from collections.abc import Mapping
from datetime import timedelta

from goalsvc.context import Context
from goalsvc.domain.outcome import Done, Outcome, Reason, Returned
from goalsvc.models.promise import HasPromises, UnreadablePromise
from goalsvc.models.records import DeadLetter
from goalsvc.tasks.dispatch import enqueue_these
from goalsvc.tasks.task import Task, task

log = logging.getLogger(__name__)

#: When an entry that could not be read is looked at again.
_REST = timedelta(hours=1)

#: How many documents one run looks at in each collection; the oldest follow_ups come first, the next run finds the rest.
_BATCH = 1000


def make_sweep(owing: Mapping[str, type[HasPromises]]) -> Task[[]]:
    """The sweep over these collections."""

    @task()
    async def sweep_promises(context: Context) -> Outcome:
        """Enqueues every promise that has been due for longer than `GOALSVC_PROMISE_SWEEP_SECONDS`."""
        overdue = context.clock.now() - timedelta(seconds=context.settings.promise_sweep_seconds)
        found = 0
        for model in owing.values():
            collection = model.get_settings().name or ""
            async for document_id, promise in model.overdue(overdue, _BATCH):
                found += 1
                if isinstance(promise, UnreadablePromise):
                    await _set_aside(context, model, promise)
                else:
                    enqueue_these(context, collection, document_id, [promise])
        await context.queue.flush()
        return Done(f"{found} promises") if found else Returned(Reason.ALREADY_DONE)

    return sweep_promises


async def _set_aside(context: Context, model: type[HasPromises], promise: UnreadablePromise) -> None:
    """Writes one dead letter that names the field, and lets the entry rest: once it is corrected, it is found again."""
    collection, now = model.get_settings().name or "", context.clock.now()
    ref = f"{collection}/{promise.document_id}/{promise.id}"
    task, arguments = promise.entry.get("task"), promise.entry.get("arguments")
    letter = DeadLetter(
        id=ref,
        task=task if isinstance(task, str) else "unreadable",
        arguments=dict(arguments) if isinstance(arguments, Mapping) else {},
        reason=f"unusable_document: {collection}/{promise.document_id}: {promise.fault}",
        at=now,
        tries=0,
        promise=ref,
        goal_id=str(promise.document_id) if collection == "goals" else None,
    )
    if await DeadLetter.bury_once(letter):
        log.error("a promise cannot be run: %s", letter.reason)
    await model.set_aside(promise, now + _REST)
