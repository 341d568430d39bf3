"""From promises to jobs: what a document holds is enqueued, so that a worker need not find it first."""

from collections.abc import Sequence

from goalsvc.context import Context
from goalsvc.domain.promises import Job, Promise, PromiseRef
from goalsvc.models.promise import HasPromises


def job_for(ref: PromiseRef, promise: Promise) -> Job:
    """Returns the job that fulfils this promise."""
    where = str(ref)
    return Job(where, promise.task, promise.arguments, promise.at, promise=where, origin=promise.origin)


def enqueue_promises(context: Context, document: HasPromises, promise_ids: Sequence[str]) -> None:
    """Enqueues the jobs for these promises of the document. The document holds the promise; the job is only a hint."""
    collection = document.get_settings().name or ""
    enqueue_these(context, collection, document.id, [each for each in document.promises if each.id in promise_ids])


def enqueue_these(context: Context, collection: str, document_id: object, promises: Sequence[Promise]) -> None:
    """Enqueues the jobs for these promises, which that document holds."""
    for promise in promises:
        context.queue.enqueue(job_for(PromiseRef(collection, document_id, promise.id), promise))
