"""HEAD of an answer that goes on: its headers, and no stream left behind."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI
from starlette.responses import StreamingResponse
from starlette.types import Message

from goalsvc.api.methods import ReadableMethods


class Streaming:
    """An application with one path that streams without end, and what became of the stream."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.closed = asyncio.Event()
        self.app.get("/stream")(self.stream)

    async def stream(self) -> StreamingResponse:
        return StreamingResponse(self._lines(), media_type="text/event-stream")

    async def _lines(self) -> AsyncIterator[str]:
        try:
            while True:
                yield ": ok\n\n"
                await asyncio.sleep(0)
        finally:
            self.closed.set()

    async def head(self, *, spec: str) -> list[Message]:
        """Asks for the head of the stream, as a server of that ASGI version does: a client that stays connected."""
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": spec},
            "http_version": "1.1",
            "method": "HEAD",
            "path": "/stream",
            "raw_path": b"/stream",
            "root_path": "",
            "query_string": b"",
            "headers": [],
            "app": self.app,
        }
        sent: list[Message] = []
        asked = asyncio.Event()

        async def receive() -> Message:
            if asked.is_set():
                await asyncio.Event().wait()
            asked.set()
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        await asyncio.wait_for(ReadableMethods(self.app)(scope, receive, send), 10)
        return sent


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
async def test_the_head_of_a_stream_ends_and_so_does_the_stream(spec: str) -> None:
    streaming = Streaming()
    start, body = await streaming.head(spec=spec)
    assert (start["type"], start["status"]) == ("http.response.start", 200)
    assert (b"content-type", b"text/event-stream; charset=utf-8") in start["headers"]
    assert body == {"type": "http.response.body", "body": b""}
    await asyncio.wait_for(streaming.closed.wait(), 10)


async def test_a_call_that_is_given_up_is_given_up() -> None:
    async def never(scope: object, receive: object, send: object) -> None:
        await asyncio.Event().wait()

    streaming = Streaming()
    scope = {"type": "http", "method": "HEAD", "path": "/stream", "headers": [], "app": streaming.app, "root_path": ""}
    call = asyncio.ensure_future(ReadableMethods(never)(scope, never, never))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
