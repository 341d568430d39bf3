"""The limit of request bodies, checked before anything is read or parsed. (The webhook has its own, and checks it itself.)"""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from goalsvc.api.errors import problem

#: The largest body that any operation of the API has use for is far below this.
LIMIT_BYTES = 1024 * 1024


class BodyLimit:
    """Refuses bodies over the limit with 413, whether their length is announced or not."""

    def __init__(self, app: ASGIApp, limit_bytes: int = LIMIT_BYTES) -> None:
        self._app = app
        self._limit = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, with a `receive` that counts."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if announced.isdigit() and int(announced) > self._limit:
            await problem(413, "too_large", f"the body is over {self._limit} bytes")(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise HTTPException(413, f"the body is over {self._limit} bytes")
            return message

        await self._app(scope, counted, send)
