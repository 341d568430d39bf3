"""The limit of what comes before a request's body. uvicorn's quick parser has none: one connection could fill the memory."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Request line, headers, trailers, and what frames the chunks of a body. Clients need a few hundred bytes of it.
LIMIT_BYTES = 64 * 1024
#: What frames a chunk that is no larger than it has to be.
_FRAME_BYTES = 12


class LimitedHead(HttpToolsProtocol):
    """Closes a connection that sends more than the limit of what is no body, with 400. What has come is not waited for to
    be complete; what comes in one piece is checked when it has been parsed, so that a little more may get through.
    """

    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Parses what has come."""
        self._head_bytes += len(data)
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
        super().on_message_complete()
