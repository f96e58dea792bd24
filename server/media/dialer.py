"""Connects the HTTP pool: resolves once, checks every answer, dials the address it checked.

So a name cannot answer one address to the check and another to the connection, and TLS still
verifies the name that the client wrote.
"""

import asyncio
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Any

import httpcore

from server.media.address import IPNetwork, is_allowed

WEB_PORTS = (80, 443)
_MAX_TRIED = 4
_NUM_RESOLVERS = 16


class AddressNotAllowedError(Exception):
    """The host resolves to an address, or the URL names a port, that is not to be reached."""


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """httpcore's network backend with the address policy in it."""

    def __init__(self, allowed_networks: tuple[IPNetwork, ...], dns_timeout_s: float) -> None:
        self._inner = httpcore.AnyIOBackend()
        self._allowed_networks = allowed_networks
        self._dns_timeout_s = dns_timeout_s
        # Names that never resolve hold these threads, and nobody else's.
        self._threads = ThreadPoolExecutor(_NUM_RESOLVERS, thread_name_prefix="dns")

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises AddressNotAllowedError before a packet is sent, or httpcore.ConnectError."""
        addresses = await self._resolve(host, port)
        self._check(addresses, port)
        error: Exception = httpcore.ConnectError("no address")
        for address in addresses[:_MAX_TRIED]:
            try:
                return await self._inner.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failure:
                error = failure
        raise error

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        raise AddressNotAllowedError

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)

    def _check(self, addresses: list[str], port: int) -> None:
        """One bad address refuses the host; other ports only inside allowed networks."""
        if not all(is_allowed(address, self._allowed_networks) for address in addresses):
            raise AddressNotAllowedError
        if port not in WEB_PORTS and not self._are_private(addresses):
            raise AddressNotAllowedError

    def _are_private(self, addresses: list[str]) -> bool:
        return bool(addresses) and all(
            any(ip_address(address) in network for network in self._allowed_networks)
            for address in addresses
        )

    async def _resolve(self, host: str, port: int) -> list[str]:
        asked = asyncio.get_running_loop().run_in_executor(self._threads, lookup, host, port)
        try:
            return await asyncio.wait_for(asked, self._dns_timeout_s)
        except (OSError, UnicodeError, TimeoutError) as error:
            raise httpcore.ConnectError("name resolution failed") from error


def lookup(host: str, port: int) -> list[str]:
    """All addresses of a name, in the resolver's order."""
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in infos))
