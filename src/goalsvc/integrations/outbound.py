"""One way to make HTTP clients for the services that we call, with the same precautions for all.

The APIs that we sign calls for are called by aiohttp: a call costs 0.3 ms of CPU there and 1.3 ms by httpx. Streams, whose
addresses come from outside, are fetched by httpx, whose transports can be guarded (`goalsvc.integrations.egress`).
"""

import logging
import os
import ssl
from functools import cache

import aiohttp
import certifi

_KEPT_ALIVE_SECONDS = 30.0


def open_session(*, connections: int) -> aiohttp.ClientSession:
    """A client with at most `connections` open, which keeps no cookies. How long a call may take is the caller's business."""
    connector = aiohttp.TCPConnector(
        limit=connections, keepalive_timeout=_KEPT_ALIVE_SECONDS, ssl=trusted_authorities()
    )
    unlimited = aiohttp.ClientTimeout(total=None)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=unlimited)


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
