"""One way to make HTTP clients for the services that we call, with the same precautions for all.

The APIs that we sign calls for are called by aiohttp: a call costs 0.3 ms of CPU there and 1.3 ms by httpx. Streams, whose
addresses come from outside, are fetched by httpx, whose transports can be guarded (`goalsvc.integrations.egress`).
"""

import asyncio
import logging
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING

import certifi

from goalsvc.integrations.tracecontext import exporting, outgoing

if TYPE_CHECKING:  # see `Outbound._open`
    import aiohttp

_KEPT_ALIVE_SECONDS = 30.0


class NoAnswerError(Exception):
    """The service could not be reached, or what came back was no answer. The text is the name of the error, no more: an
    address may hold a signature.
    """


class Outbound:
    """Calls one service over at most so many connections, which keep no cookies and follow no redirection.

    How long a call may take is the caller's business.
    """

    def __init__(self, *, connections: int) -> None:
        self._connections, self._exporting = connections, exporting()
        self._session: aiohttp.ClientSession | None = None

    async def call(
        self, method: str, url: str, *, content: bytes | str | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        """Status and body of the answer; the URL goes out as it is. Raises NoAnswerError."""
        session = self._session or await self._open()
        from aiohttp import ClientError
        from yarl import URL

        try:
            request = session.request(
                method,
                URL(url, encoded=True),
                data=content,
                headers={**headers, **outgoing(self._exporting)},
                allow_redirects=False,
            )
            async with request as answer:
                return answer.status, await answer.read()
        except (ClientError, ValueError) as error:
            raise NoAnswerError(type(error).__name__) from error

    async def close(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()

    async def _open(self) -> "aiohttp.ClientSession":
        # With the first call: loading it is a tenth of the start of an API process, which may never call a service.
        authorities = await asyncio.to_thread(load)
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._connections, keepalive_timeout=_KEPT_ALIVE_SECONDS, ssl=authorities
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
            )
        return self._session


@asynccontextmanager
async def open_outbound(*, connections: int) -> AsyncIterator[Outbound]:
    """An Outbound whose connections are closed on leaving."""
    outbound = Outbound(connections=connections)
    try:
        yield outbound
    finally:
        await outbound.close()


def load() -> ssl.SSLContext:
    """Loads what the first call needs, for a process that is sure to make one (some 0.2 s)."""
    import aiohttp  # noqa: F401 - for the next who imports it

    return trusted_authorities()


@cache
def trusted_authorities() -> ssl.SSLContext:
    """The certificate authorities that we trust, read once for all clients: reading them takes some 40 ms.

    `SSL_CERT_FILE` may name others, as everywhere.
    """
    return ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())


def keep_signatures_out_of_logs() -> None:
    """Silences httpx's own log line per request: it shows the whole URL, and with it Pusher's `auth_signature`.

    https://www.python-httpx.org/logging/
    """
    for name in ("httpx", "httpcore"):
        if logging.getLogger(name).level < logging.WARNING:
            logging.getLogger(name).setLevel(logging.WARNING)
