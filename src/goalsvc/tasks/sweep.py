"""The sweep: finds the promises that nobody hurried, and enqueues them anew (law 1).

A crash between a write and its enqueue, a Redis that was emptied, a job that expired: all of them leave a promise behind,
and all of them are healed here. A job that is still waiting or running is not enqueued twice: its id is the promise's.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from goalsvc.context import Context
from goalsvc.domain.outcome import Done, Outcome, Reason, Returned
from goalsvc.models.promise import HasPromises
from goalsvc.tasks.dispatch import enqueue_promises
from goalsvc.tasks.task import Task, task

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
            query = model.find({"promises.at": {"$lte": overdue}}, with_children=True).sort("promises.at").limit(_BATCH)
            async for document in query:
                due: Sequence[str] = [promise.id for promise in document.promises if promise.at <= overdue]
                enqueue_promises(context, document, due)
                found += len(due)
        await context.queue.flush()
        return Done(f"{found} promises") if found else Returned(Reason.ALREADY_DONE)

    return sweep_promises
