"""Trying a group of dead letters again: in a worker, a batch at a time, so that no call waits and no lane is held."""

from time import monotonic

from goalsvc.context import Context
from goalsvc.domain.lanes import Lane
from goalsvc.domain.outcome import Done, Outcome, Reason, Returned
from goalsvc.errors import NotYetError
from goalsvc.models.redrive import Redrive
from goalsvc.tasks.redrive import redrive_these
from goalsvc.tasks.task import task

#: How many letters are read, tried again and noted together.
_BATCH = 200
#: A run goes on for so long; then its place in the lane is given to what waits there.
_TURN_SECONDS = 5.0


@task(lane=Lane.ANALYTICS, timeout=60)
async def redrive_letters(context: Context, *, redrive_id: str) -> Outcome:
    """Tries the letters of a redrive again, and notes how far it has come."""
    redrive, until = await Redrive.read(redrive_id), monotonic() + _TURN_SECONDS
    while redrive is not None and redrive.finished_at is None:
        letters = await redrive.next_letters(_BATCH)
        if not letters:
            finished = await redrive.finish(context.clock.now())
            if finished is None:
                break
            context.note(redriven=finished.redriven, failed=finished.failed)
            return Done(f"{finished.redriven} letters tried again")
        _, refused = await redrive_these(context, letters, redrive.id, redrive.key)
        failures = [{"letter_id": one.letter_id, "reason": one.error.message} for one in refused]
        # Another run of the same job may have come further: then that is where this one goes on.
        came = await redrive.came_to(letters[-1], failures, context.clock.now())
        redrive = came or await Redrive.read(redrive_id)
        if monotonic() > until:
            raise NotYetError("there are more letters to try again", 0.0)
    return Returned(Reason.ALREADY_DONE)
