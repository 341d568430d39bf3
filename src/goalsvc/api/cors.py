"""Cross-origin calls of `/pusher/auth` and `/v1/channels/…`: pages of the platform have another origin than goalsvc."""

from starlette._utils import get_route_path
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from goalsvc.context import Context

#: What browsers call, with the user's own token; the rest is for the platform's own servers.
OPEN_PATH, OPEN_PREFIX = "/pusher/auth", "/v1/channels/"

_THIS_MACHINE = r"https?://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?"


class CrossOrigin:
    """Lets pages of the configured origins call what is open to them. The settings are known only once the app has started."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._guarded: CORSMiddleware | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Adds the headers of CORS, and answers preflights, where they are wanted."""
        if scope["type"] != "http" or not _is_open(get_route_path(scope)):
            await self._app(scope, receive, send)
            return
        if self._guarded is None:
            context: Context = scope["app"].state.context
            self._guarded = CORSMiddleware(
                self._app,
                allow_origins=context.settings.cors_origins,
                # In `goalsvc dev` any page of this machine may call.
                allow_origin_regex=_THIS_MACHINE if context.settings.dev_dir else None,
                allow_methods=["POST", "GET"],
                allow_headers=["authorization", "content-type", *context.settings.cors_headers],
                max_age=600,
            )
        await self._guarded(scope, receive, send)


def _is_open(path: str) -> bool:
    return path == OPEN_PATH or path.startswith(OPEN_PREFIX)
