"""Requests as proxies and probes send them: a trailing slash means nothing, and HEAD is answered wherever GET is."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Answers that do not end by themselves.
_STREAMS = ("/v1/events/stream",)


class ForgivingPaths:
    """Leaves out a trailing slash instead of redirecting (behind TLS a redirect would lead to plain http), and answers HEAD."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, with the path and the method under which it is known."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        if len(path) > 1 and path.endswith("/"):
            scope = {**scope, "path": path.rstrip("/") or "/"}
        if scope["method"] == "HEAD" and not scope["path"].endswith(_STREAMS):
            await self._app({**scope, "method": "GET"}, receive, _WithoutBody(send))
        else:
            await self._app(scope, receive, send)


class _WithoutBody:
    """Sends the head of an answer, and the end of its body alone."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._ended = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            if not self._ended:
                self._ended = True
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        await self._send(message)
