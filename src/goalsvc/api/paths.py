"""Paths as people paste them and as proxies hand them on.

A trailing slash means nothing: a redirect would lead to plain http behind TLS. The prefix below which a proxy serves the API
may be in the path or not; from here on it is, as ASGI wants it, and `path_of` is the path without it.
"""

from starlette._utils import get_route_path
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send


def path_of(request: Request) -> str:
    """Returns the path of the request as the API's document names it, whatever the prefix."""
    return get_route_path(request.scope)


class ForgivingPaths:
    """Leaves out a trailing slash, and puts a missing prefix in front, before the request is routed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, with the path under which it is known."""
        if scope["type"] == "http":
            path, prefix = scope["path"], scope.get("root_path", "")
            if len(path) > 1 and path.endswith("/"):
                path = path.rstrip("/") or "/"
            if prefix and path != prefix and not path.startswith(f"{prefix}/"):
                path = prefix + path
            if path != scope["path"]:
                scope = {**scope, "path": path}
        await self._app(scope, receive, send)
