"""HEAD and OPTIONS, wherever a path can be read."""

import asyncio

from fastapi import FastAPI
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")


def methods_of(app: FastAPI, scope: Scope) -> list[str]:
    """Every method that the path knows, HEAD and OPTIONS among them where it can be read."""

    def known(method: str) -> bool:
        asked = {**scope, "method": method}
        return any(route.matches(asked)[0] is Match.FULL for route in app.routes)

    methods = [method for method in _METHODS if known(method)]
    return sorted({*methods, "HEAD", "OPTIONS"}) if "GET" in methods else methods


class ReadableMethods:
    """Answers HEAD as GET without its body, and OPTIONS with the methods of the path; both only where GET exists."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers OPTIONS itself, and passes everything else on."""
        method = scope.get("method")
        if scope["type"] != "http" or method not in ("HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        known = methods_of(scope["app"], scope)
        if "GET" not in known:
            await self._app(scope, receive, send)
            return
        if method == "OPTIONS":
            await Response(status_code=204, headers={"Allow": ", ".join(known)})(scope, receive, send)
            return

        await self._head({**scope, "method": "GET"}, receive, send)

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers as GET would, without the body; an answer that goes on, such as a stream of events, is not made further."""
        ended = False

        async def without_body(message: Message) -> None:
            nonlocal ended
            if message["type"] != "http.response.body":
                await send(message)
            elif not ended:
                ended = True
                await send({"type": "http.response.body", "body": b""})
                if message.get("more_body"):
                    answering.cancel()

        answering = asyncio.ensure_future(self._app(scope, receive, without_body))
        try:
            await answering
        except asyncio.CancelledError:
            if not ended:
                raise
