"""Limits of a connection that uvicorn does not have: the size of a head, and the time that a request takes to arrive."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Request line, headers, trailers, and what frames the chunks of a body. Clients need a few hundred bytes of it.
LIMIT_BYTES = 64 * 1024
#: A request must have arrived this long after its first byte. Pusher gives up after 4 s, a slow upload of 1 MiB takes less.
ARRIVAL_SECONDS = 20.0
#: What frames a chunk that is no larger than it has to be.
_FRAME_BYTES = 12


class LimitedHead(HttpToolsProtocol):
    """Closes a connection whose head is over the limit (400), or whose request does not arrive in time (408).

    A head that comes in one piece is checked when it has been parsed, so that a little more may get through.
    """

    _head_bytes = 0
    _arrival: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Parses what has come."""
        self._head_bytes += len(data)
        if self._arrival is None:
            self._arrival = self.loop.call_later(ARRIVAL_SECONDS, self._too_slow)
        super().data_received(data)
        if self._head_bytes > LIMIT_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")

    def on_body(self, body: bytes) -> None:
        """Leaves out what is counted elsewhere."""
        self._head_bytes = max(0, self._head_bytes - len(body) - _FRAME_BYTES)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Counts anew for the next request of the connection."""
        self._head_bytes = 0
        self._stop_waiting()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops to wait for the rest of a request."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _stop_waiting(self) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self.transport.close()
