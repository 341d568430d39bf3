"""`goalsvc dead-letters`: tasks that were tried for the last time, listed and tried again."""

from collections.abc import AsyncIterator, Callable
from urllib.parse import quote

from goalsvc.commands.api import Api, ApiRefusedError, Target
from goalsvc.commands.words import counted
from goalsvc.domain.documents import Json

_PAGE = "200"


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


async def redrive_all(target: Target, tell: Callable[[str], None]) -> list[str]:
    """Tries every dead letter again and tells its id; returns the ids. Raises CommandError."""
    async with Api.open(target) as api:
        ids = [letter["id"] async for letter in _letters(api, "dead")]
        redriven = []
        for letter_id in ids:
            try:
                await _redrive(api, letter_id)
            except ApiRefusedError as error:
                if error.code != "already_redriven":  # another caller was faster
                    raise
                continue
            tell(letter_id)
            redriven.append(letter_id)
    return redriven


async def _redrive(api: Api, letter_id: str) -> None:
    await api.post(f"/v1/dead-letters/{quote(letter_id)}/redrive")
