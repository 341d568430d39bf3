"""Redriving a dead letter: its task is owed again, where it was owed before."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from bson import ObjectId

from goalsvc.context import Context
from goalsvc.domain.origin import Origin
from goalsvc.domain.outcome import FollowUp
from goalsvc.domain.promises import Job, Promise, PromiseRef
from goalsvc.domain.trace import TracedFollowUp
from goalsvc.errors import ConflictError, GoalsvcError, UnusableDocumentError
from goalsvc.models.database import WITH_PROMISES
from goalsvc.models.promise import PLACE
from goalsvc.models.records import DeadLetter
from goalsvc.tasks.dispatch import enqueue_these

#: How long letters are held by the call that tries them again: one for as long as its promise takes to be written, a batch
#: for longer; the same redrive may go on with them at once after a crash.
_TAKEN, _BATCH_TAKEN = timedelta(seconds=3), timedelta(seconds=30)
#: A letter that cannot be tried again, by what its promise or document is.
_IMPOSSIBLE = (ConflictError, UnusableDocumentError)
_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class NotRedriven:
    """A letter that could not be tried again, and why; it stays dead."""

    letter_id: str
    error: GoalsvcError


async def redrive_letter(
    context: Context, letter_id: str, by: str | None = None, key: str | None = None
) -> DeadLetter | None:
    """Tries the letter's task again; the letter, or None when it is not a dead one, or another call is trying it again.

    `by` and the name of the `key` are noted as who asked for it. Raises ConflictError for a letter whose promise stands
    nowhere, or whose document is gone; then nothing is changed.
    """
    redriven, refused = await redrive_these(context, [letter_id], by, key)
    if refused:
        raise refused[0].error
    return await DeadLetter.find_one({"_id": letter_id}) if redriven else None


async def redrive_these(
    context: Context, letter_ids: Sequence[str], by: str | None, key: str | None
) -> tuple[list[str], list[NotRedriven]]:
    """Tries the tasks of those of these letters again that are dead: which were, and which could not be.

    Letters are taken first, so that two calls at once try each again once. The promises are written before the letters are
    marked: after a crash in between they are tried twice, never not at all. One that has died again by then stays dead.
    """
    now, taker = context.clock.now(), by or str(ObjectId())
    until = now + (_TAKEN if len(letter_ids) == 1 else _BATCH_TAKEN)
    turn = asyncio.Semaphore(_AT_ONCE)

    async def promise(document: Mapping[str, object]) -> NotRedriven | None:
        async with turn:
            try:
                await _promise_again(context, DeadLetter.parse(document))
            except _IMPOSSIBLE as error:
                return NotRedriven(str(document["_id"]), error)
        return None

    taken = await DeadLetter.take(letter_ids, now, until, taker)
    refused = [one for one in await asyncio.gather(*map(promise, taken)) if one is not None]
    impossible = [one.letter_id for one in refused]
    redriven = [one["_id"] for one in taken if one["_id"] not in impossible]
    if impossible:
        await DeadLetter.leave(impossible, taker)
    if redriven:
        await DeadLetter.redrive(redriven, context.clock.now(), taker, by, key)
    return redriven, refused


async def _promise_again(context: Context, letter: DeadLetter) -> None:
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
            owed: Sequence[Promise] | None = None if document is None else document.promises
        else:
            owed = await model.add_promises(ref.document_id, traced, context.clock.now()) or None
        if owed is None:
            where = f"{ref.collection}/{ref.document_id}"
            raise ConflictError("conflict", f"dead letter {letter.id}: promise: the document {where} is gone")
        enqueue_these(context, ref.collection, ref.document_id, owed)


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
