"""Redriving a dead letter: its task is owed again, where it was owed before."""

from collections.abc import Sequence

from goalsvc.context import Context
from goalsvc.domain.origin import Origin
from goalsvc.domain.outcome import FollowUp
from goalsvc.domain.promises import Job, Promise, PromiseRef
from goalsvc.domain.trace import TracedFollowUp
from goalsvc.errors import ConflictError
from goalsvc.models.database import WITH_PROMISES
from goalsvc.models.promise import PLACE
from goalsvc.models.records import DeadLetter
from goalsvc.tasks.dispatch import enqueue_these


async def redrive_letter(context: Context, letter_id: str, by: str | None = None) -> DeadLetter | None:
    """Tries the letter's task again; the letter, or None when it is not a dead one. `by` is noted as who asked for it.

    The promise is written before the letter is marked: after a crash in between it is tried twice, never not at all. Raises
    ConflictError for a letter whose promise stands nowhere; then nothing is changed.
    """
    letter = await DeadLetter.find_one({"_id": letter_id, "state": "dead"})
    if letter is None:
        return None
    origin = Origin.read(letter.parent, letter.cause)
    if origin.traceparent:
        context.note(traceparent=origin.traceparent)
    if letter.promise is None:
        context.queue.enqueue(Job(letter.id, letter.task, letter.arguments, origin=origin))
    else:
        ref = _place_of(letter.id, letter.promise)
        follow_up = FollowUp(ref.promise_id, letter.task, letter.arguments, progress=letter.progress)
        traced = [TracedFollowUp(follow_up, origin)]
        model = WITH_PROMISES[ref.collection]
        if ref.promise_id.startswith(PLACE):  # it had no id that could be read: what stands there now is run
            document = await model.read(ref.document_id)
            owed: Sequence[Promise] = document.promises if document is not None else ()
        else:
            owed = await model.add_promises(ref.document_id, traced, context.clock.now())
        enqueue_these(context, ref.collection, ref.document_id, owed)
    return await DeadLetter.redrive(letter_id, context.clock.now(), by)


def _place_of(letter_id: str, promise: str) -> PromiseRef:
    """Where the letter's promise stood; another service may have written the letter."""
    try:
        ref = PromiseRef.parse(promise)
    except ValueError:
        raise ConflictError(
            "conflict", f"dead letter {letter_id}: promise: must be collection/document/promise"
        ) from None
    if ref.collection not in WITH_PROMISES:
        held = ", ".join(WITH_PROMISES)
        raise ConflictError("conflict", f"dead letter {letter_id}: promise: must begin with one of {held}")
    return ref
