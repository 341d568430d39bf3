"""Serves an emulator from a thread: of a test's process, or of the process that `goalsvc dev` starts for them."""

import contextlib
import threading
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from goalsvc.devstack.ports import HOST, free_port
from goalsvc.devstack.waiting import holds_within


@contextlib.contextmanager
def serving(app: ASGIApp, port: int | None = None) -> Iterator[str]:
    """Serves one emulator's `app` from a thread of this process and gives its URL, without a slash at the end."""
    port = port or free_port()
    config = uvicorn.Config(
        app,
        host=HOST,
        port=port,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="websockets-sansio",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    # Off the main thread uvicorn leaves the signal handlers alone.
    thread = threading.Thread(target=server.run, name=f"emulator:{port}", daemon=True)
    thread.start()
    try:
        holds_within(10, lambda: server.started or not thread.is_alive())
        if not server.started:
            raise OSError(f"the emulator could not be served on {HOST}:{port}")
        yield f"http://{HOST}:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
