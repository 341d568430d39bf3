"""The client of Redis or Valkey, which leaves a server that has changed its role.

After a failover the old primary may live on as a replica with its connections open, and refuse each write for ever. A
connection that answers READONLY, LOADING, MOVED, CLUSTERDOWN, MASTERDOWN or NOAUTH is closed; the next try
resolves the name anew.
"""

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import AuthenticationError, BusyLoadingError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

_OTHER_ROLES = ("READONLY", "LOADING", "MOVED", "CLUSTERDOWN", "MASTERDOWN", "NOAUTH", "UNBLOCKED")


def has_another_role(error: Exception) -> bool:
    """Whether that answer means that the server is not, or not yet, the one to write to."""
    if isinstance(error, ReadOnlyError | BusyLoadingError | AuthenticationError):
        return True
    return isinstance(error, ResponseError) and str(error).startswith(_OTHER_ROLES)


class _Leaving(AbstractConnection):
    """A connection that closes itself on such an answer."""

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Reads an answer; see `AbstractConnection.read_response`."""
        try:
            return await super().read_response(*args, **options)
        except (ResponseError, BusyLoadingError, AuthenticationError) as error:
            if has_another_role(error):
                await self.disconnect(nowait=True)
            raise


class _LeavingConnection(_Leaving, Connection):
    """By TCP."""


class _LeavingSSLConnection(_Leaving, SSLConnection):
    """By TLS."""


class _LeavingUnixConnection(_Leaving, UnixDomainSocketConnection):
    """By a socket on this machine."""


_CLASSES: dict[type[AbstractConnection], type[AbstractConnection]] = {
    Connection: _LeavingConnection,
    SSLConnection: _LeavingSSLConnection,
    UnixDomainSocketConnection: _LeavingUnixConnection,
}


def tls_options(url: str) -> dict[str, bool]:
    """Returns what a client adds to that URL: with TLS, the certificate must be of the host that the URL names.

    The URL's own `ssl_check_hostname` has precedence.
    """
    checked = url.startswith("rediss:") and "ssl_cert_reqs=none" not in url
    return {"ssl_check_hostname": True} if checked else {}


def open_redis(url: str) -> Redis:
    """A client that reconnects by itself; it connects when it is first used."""
    pool: ConnectionPool = ConnectionPool.from_url(
        url,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries=3),
        retry_on_error=[RedisConnectionError, ReadOnlyError],
        socket_connect_timeout=2.0,
        health_check_interval=30,
        **tls_options(url),
    )
    pool.connection_class = _CLASSES[pool.connection_class]
    return Redis.from_pool(pool)
