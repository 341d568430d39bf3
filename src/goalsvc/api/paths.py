"""Paths as people paste them: a trailing slash means nothing. A redirect would lead to plain http behind TLS."""

from starlette.types import ASGIApp, Receive, Scope, Send


class ForgivingPaths:
    """Leaves out a trailing slash before the request is routed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, with the path under which it is known."""
        if scope["type"] == "http" and len(scope["path"]) > 1 and scope["path"].endswith("/"):
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        await self._app(scope, receive, send)
