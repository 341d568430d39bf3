"""`goalsvc dead-letters`: tasks that were tried for the last time, listed and tried again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from urllib.parse import quote

from goalsvc.commands.api import Api, Target
from goalsvc.commands.words import counted
from goalsvc.domain.documents import Json

_PAGE = "200"
#: How often a redrive is asked how far it is.
_LOOK_AGAIN_SECONDS = 0.5


async def _letters(api: Api, state: str) -> AsyncIterator[Json]:
    query = {"state": state, "limit": _PAGE}
    while True:
        page = await api.get("/v1/dead-letters", **query)
        for letter in page["items"]:
            yield letter
        if page["next"] is None:
            return
        query["cursor"] = page["next"]


async def list_letters(target: Target, *, state: str) -> list[Json]:
    """The dead letters in that state, in the order of their ids. Raises CommandError."""
    async with Api.open(target) as api:
        return [letter async for letter in _letters(api, state)]


def told(letter: Json) -> str:
    """A letter in two lines: its id, and what became of its task."""
    return (
        f"{letter['id']}\n    {letter['task']}, {counted(letter['tries'], 'try')}, {letter['at']}: {letter['reason']}"
    )


async def redrive_letter(target: Target, letter_id: str) -> None:
    """Tries that letter again. Raises CommandError, also when there is no such letter or it has been tried again."""
    async with Api.open(target) as api:
        await _redrive(api, letter_id)


async def redrive_all(target: Target, tell: Callable[[str], None]) -> Json:
    """Has a worker try all that are dead again, tells how far it is, and returns the redrive when it is finished.

    Raises CommandError; the redrive then goes on by itself.
    """
    async with Api.open(target) as api:
        redrive: Json = await api.post("/v1/redrives", {})
        said = ""
        while redrive["state"] == "running":
            if (line := progress_of(redrive)) != said:
                tell(said := line)
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            redrive = await api.get(f"/v1/redrives/{quote(redrive['id'])}")
        return redrive


def progress_of(redrive: Json) -> str:
    """How far a redrive is: `380 of 600 dead letters tried again, 1 could not be, 4 were by others`."""
    others = sum(one["letters"] for one in redrive["by_others"])
    told = f"{redrive['redriven']} of {counted(redrive['found'], 'dead letter')} tried again"
    told += f", {redrive['failed']} could not be" if redrive["failed"] else ""
    return told + (f", {others} were by others" if others else "")


def failures_of(redrive: Json) -> list[str]:
    """The letters of a redrive that could not be tried again, one line each."""
    return [f"{one['letter_id']}: {one['reason']}" for one in redrive["failures"]]


async def _redrive(api: Api, letter_id: str) -> None:
    await api.post(f"/v1/dead-letters/{quote(letter_id)}/redrive")
