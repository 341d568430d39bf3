"""Writing dead letters: the one place, so that the platform's backend is told of each."""

from goalsvc.context import Context
from goalsvc.models.events import of_dead_letter
from goalsvc.models.records import DeadLetter


async def bury(context: Context, letter: DeadLetter) -> None:
    """Writes the letter, and before it the event that tells of this death (`dead_letter.created`)."""
    await context.events.write([of_dead_letter(letter)])
    await DeadLetter.bury(letter)
