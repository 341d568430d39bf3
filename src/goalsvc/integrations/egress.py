"""Which addresses may be fetched on behalf of others.

A stream's address comes from outside. Without a guard it could name this network's own machines, or the cloud's metadata
service, and the clip would carry out what they answer. So each request, a redirect's and a segment's too, is checked; and
because a name may resolve to another address the next moment (DNS rebinding), the connection goes to the very address that
was checked, with the name kept for TLS and the Host header.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Collection
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx

from goalsvc.domain.addresses import is_public
from goalsvc.errors import ClipImpossibleError, ExternalServiceError
from goalsvc.integrations.outbound import trusted_authorities


@dataclass(frozen=True, slots=True)
class EgressRules:
    """What may be called: `hosts`, if any are named, are all that may; `private` allows addresses that are not public."""

    hosts: Collection[str] = ()
    private: bool = False
    service: str = "hls"
    """The service that an ExternalServiceError names."""
    private_setting: str = "GOALSVC_HLS_ALLOW_PRIVATE"
    """The setting that `private` is, which an error names."""

    async def addresses_of(self, url: httpx.URL) -> list[str]:
        """The addresses to connect to for `url`, in the resolver's order.

        Raises ClipImpossibleError when the rules forbid it, if only for one of the addresses, and ExternalServiceError
        when the host cannot be resolved (at the moment).
        """
        host = _host(url).rstrip(".").lower()
        if url.scheme not in ("http", "https") or not host:
            raise ClipImpossibleError("the address is not one of http or https")
        if self.hosts and host not in {allowed.strip().rstrip(".").lower() for allowed in self.hosts}:
            raise ClipImpossibleError(f"host {host} is not in GOALSVC_HLS_ALLOW_HOSTS")
        try:
            addresses = await _resolved(host, url.port or (443 if url.scheme == "https" else 80))
        except (OSError, UnicodeError) as error:  # UnicodeError: a label that is empty or too long
            raise ExternalServiceError(self.service, f"host {host} cannot be resolved") from error
        if not self.private and not all(is_public(ipaddress.ip_address(address)) for address in addresses):
            raise ClipImpossibleError(f"host {host} is not a public one ({self.private_setting})")
        return addresses


class GuardedTransport(httpx.AsyncBaseTransport):
    """Sends requests of an httpx client to addresses that the rules allow, and to no others.

    Every host has a connection pool of its own, so that a connection made for one name is never used for another that
    resolves to the same address. Proxies of the environment are not used: they would resolve the name once more.
    """

    def __init__(self, rules: EgressRules, ssl_context: ssl.SSLContext | None = None) -> None:
        self._rules = rules
        self._ssl_context = ssl_context or trusted_authorities()
        self._pools: dict[str, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Checks, pins and sends the request; tries the next address when one takes no connection."""
        addresses = await self._rules.addresses_of(request.url)
        host = _host(request.url)
        if (pool := self._pools.get(host)) is None:
            pool = self._pools[host] = httpx.AsyncHTTPTransport(verify=self._ssl_context, trust_env=False)
        *others, last = addresses
        for address in others:
            try:
                return await pool.handle_async_request(_pinned(request, address))
            except httpx.ConnectError:
                continue
        return await pool.handle_async_request(_pinned(request, last))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes all connections."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            await pool.aclose()


def _host(url: httpx.URL) -> str:
    """The host as it goes over the wire: in ASCII (punycode), an IPv6 address without brackets."""
    return url.raw_host.decode("ascii")


def _pinned(request: httpx.Request, address: str) -> httpx.Request:
    """The request, addressed to `address`; its Host header names the host still, and so does TLS.

    https://www.encode.io/httpcore/extensions/#sni_hostname
    """
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions=request.extensions | {"sni_hostname": _host(request.url)},
    )


async def _resolved(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # A scoped address ("fe80::1%eth0") is link-local whatever its scope.
    return list(dict.fromkeys(str(sockaddr[0]).partition("%")[0] for *_, sockaddr in found))
