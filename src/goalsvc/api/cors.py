"""Cross-origin calls of `/pusher/auth`: pusher-js runs in pages of the platform, which have another origin than goalsvc."""

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from goalsvc.context import Context

#: The one operation that browsers call; the rest is for the platform's own servers.
OPEN_PATH = "/pusher/auth"

_THIS_MACHINE = r"https?://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?"


class CrossOrigin:
    """Lets pages of the configured origins call `/pusher/auth`. The settings are known only once the app has started."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._guarded: CORSMiddleware | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Adds the headers of CORS, and answers preflights, where they are wanted."""
        if scope["type"] != "http" or scope["path"] != OPEN_PATH:
            await self._app(scope, receive, send)
            return
        if self._guarded is None:
            context: Context = scope["app"].state.context
            self._guarded = CORSMiddleware(
                self._app,
                allow_origins=context.settings.cors_origins,
                # In `goalsvc dev` any page of this machine may call.
                allow_origin_regex=_THIS_MACHINE if context.settings.dev_dir else None,
                allow_methods=["POST"],
                allow_headers=["authorization", "content-type"],
                max_age=600,
            )
        await self._guarded(scope, receive, send)
