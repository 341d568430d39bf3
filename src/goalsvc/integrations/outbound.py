"""One way to make HTTP clients for the services that we call, with the same precautions for all."""

import logging
import ssl
from functools import cache

import httpx


def open_client(*, connections: int, timeout_seconds: float) -> httpx.AsyncClient:
    """A client with at most `connections` open, that gives up after `timeout_seconds` without progress.

    Redirects are not followed: none of the APIs that we sign calls for redirects, and a signature is for one address.
    """
    keep_signatures_out_of_logs()
    return httpx.AsyncClient(
        timeout=httpx.Timeout(timeout_seconds),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=30.0),
        follow_redirects=False,
        verify=trusted_authorities(),
    )


@cache
def trusted_authorities() -> ssl.SSLContext:
    """The certificate authorities that we trust, read once for all clients: reading them takes some 40 ms."""
    return httpx.create_ssl_context()


def keep_signatures_out_of_logs() -> None:
    """Silences httpx's own log line per request: it shows the whole URL, and with it Pusher's `auth_signature`.

    https://www.python-httpx.org/logging/
    """
    for name in ("httpx", "httpcore"):
        if logging.getLogger(name).level < logging.WARNING:
            logging.getLogger(name).setLevel(logging.WARNING)
