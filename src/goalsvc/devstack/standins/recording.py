"""What both emulators share: they record what they accept, and can be told to make trouble."""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Entry = dict[str, Any]


class Recording:
    """The last things that were accepted, oldest first; older ones are forgotten."""

    def __init__(self, keep: int = 20_000) -> None:
        self._entries: deque[Entry] = deque(maxlen=keep)

    def add(self, **entry: object) -> None:
        """Records one entry, with the time of now (`at`, ISO 8601, UTC)."""
        at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        self._entries.append({"at": at, **entry})

    def entries(self) -> list[Entry]:
        """All that is remembered, oldest first."""
        return list(self._entries)

    def clear(self) -> None:
        """Forgets all of it."""
        self._entries.clear()


@dataclass(slots=True)
class Trouble:
    """What the next calls meet instead of a good answer."""

    count: int = 0
    """How many calls it lasts."""
    status: int | None = None
    """The HTTP status that they are refused with; None: none of them is refused."""
    hang_seconds: float = 0.0
    """How long they are kept waiting first."""
    error: str = ""
    """The error code in the answer, where the API has such."""

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "Trouble":
        """Reads `{"status"?, "hang_seconds"?, "error"?, "count"?}`; raises ValueError for what is not of this form."""
        if unknown := set(body) - {"status", "hang_seconds", "error", "count"}:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        status = body.get("status")
        return cls(
            count=int(body.get("count", 1)),
            status=int(status) if status is not None else None,
            hang_seconds=float(body.get("hang_seconds", 0)),
            error=str(body.get("error", "")),
        )


class StandIn:
    """The endpoints that every emulator has beside those that it stands in for."""

    def __init__(self) -> None:
        self.recording = Recording()
        self.trouble = Trouble()

    async def meet_trouble(self) -> Trouble | None:
        """Hangs if it was told to; gives the trouble that this call must be refused with, if any."""
        trouble = self.trouble
        if trouble.count <= 0:
            return None
        trouble.count -= 1
        await asyncio.sleep(trouble.hang_seconds)
        return trouble if trouble.status is not None else None

    def matches(self, entry: Entry, wanted: Mapping[str, str]) -> bool:
        """Whether an entry is what the query parameters of GET /recorded ask for."""
        return all(str(entry.get(name)) == value for name, value in wanted.items())

    def own_routes(self) -> list[Route]:
        """The routes `/recorded` and `/trouble`."""
        return [
            Route("/recorded", self._list_recorded, methods=["GET"]),
            Route("/recorded", self._forget_recorded, methods=["DELETE"]),
            Route("/trouble", self._begin_trouble, methods=["POST"]),
            Route("/trouble", self._end_trouble, methods=["DELETE"]),
        ]

    async def _list_recorded(self, request: Request) -> Response:
        wanted = dict(request.query_params)
        limit = wanted.pop("limit", "")
        found = [entry for entry in self.recording.entries() if self.matches(entry, wanted)]
        return JSONResponse(found[-int(limit) :] if limit.isdigit() and int(limit) else found)

    async def _forget_recorded(self, _request: Request) -> Response:
        self.recording.clear()
        return Response(status_code=204)

    async def _begin_trouble(self, request: Request) -> Response:
        try:
            self.trouble = Trouble.from_json(await request.json())
        except (ValueError, TypeError, AttributeError) as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        return Response(status_code=204)

    async def _end_trouble(self, _request: Request) -> Response:
        self.trouble = Trouble()
        return Response(status_code=204)
