"""Redriving dead letters, one or a group: their tasks are promised again, where they were promised before."""

from pymongo.errors import DuplicateKeyError

from goalsvc.context import Context
from goalsvc.domain.call import Call
from goalsvc.errors import ConflictError, NotFoundError
from goalsvc.models.records import DeadLetter
from goalsvc.models.redrive import Group, Redrive
from goalsvc.tasks.dispatch import enqueue_promises
from goalsvc.tasks.redrive import redrive_letter
from goalsvc.tasks.redrives import redrive_letters


async def redrive(context: Context, call: Call, letter_id: str) -> DeadLetter:
    """Promises the letter's task again; raises NotFoundError, ConflictError `already_redriven`."""
    letter = await redrive_letter(context, letter_id, call.idempotency, call.caller.name)
    if letter is not None:
        return letter
    found = await known_letter(letter_id)
    if call.made(found.redriven_by):
        return found
    if found.state == "dead":
        raise ConflictError("already_redriven", "the dead letter is being tried again by another call at this moment")
    who = f" by key {found.redriven_key}" if found.redriven_key else ""
    when = f" at {found.redriven_at.isoformat(timespec='seconds')}" if found.redriven_at else ""
    raise ConflictError("already_redriven", f"the dead letter has been tried again before{who}{when}")


async def known_letter(letter_id: str) -> DeadLetter:
    """The dead letter of that id; raises NotFoundError."""
    found = await DeadLetter.find_one({"_id": letter_id})
    if found is None:
        raise NotFoundError(f"there is no dead letter {letter_id}")
    return found


async def redrive_group(context: Context, call: Call, group: Group, limit: int | None, reason: str | None) -> Redrive:
    """Begins to try a group of dead letters again; a worker does it. A repeat of the call finds the one that it began."""
    now = context.clock.now()
    found = await group.count(now)
    redrive_id = f"rdr_{call.new_id}"
    promised = redrive_letters.follow_up(redrive_id=redrive_id) if found else None
    made = Redrive.begun(redrive_id, group, found, limit, call.caller, reason, now, promised, context.origin)
    try:
        await made.insert()
    except DuplicateKeyError:
        return await known_redrive(redrive_id)
    enqueue_promises(context, made, [promise.id for promise in made.promises])
    return made


async def known_redrive(redrive_id: str) -> Redrive:
    """The redrive of that id; raises NotFoundError."""
    found = await Redrive.read(redrive_id)
    if found is None:
        raise NotFoundError(f"there is no redrive {redrive_id}")
    return found
