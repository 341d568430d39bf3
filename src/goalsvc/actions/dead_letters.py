"""Redriving a dead letter: its task is promised again, where it was promised before."""

from goalsvc.context import Context
from goalsvc.domain.call import Call
from goalsvc.errors import ConflictError, NotFoundError
from goalsvc.models.records import DeadLetter
from goalsvc.tasks.redrive import redrive_letter


async def redrive(context: Context, call: Call, letter_id: str) -> DeadLetter:
    """Promises the letter's task again; raises NotFoundError, ConflictError `already_redriven`."""
    letter = await redrive_letter(context, letter_id, call.idempotency)
    if letter is not None:
        return letter
    found = await DeadLetter.find_one({"_id": letter_id})
    if found is None:
        raise NotFoundError(f"there is no dead letter {letter_id}")
    if call.made((found.model_extra or {}).get("redriven_by")):
        return found
    raise ConflictError("already_redriven", "the dead letter has been tried again before")
