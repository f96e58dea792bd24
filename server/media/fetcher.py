"""Downloads media bytes under the URL policy. Nothing else in the product opens a connection.

Built on httpcore's pool: no cookies, no proxies, no netrc, no decompression, no automatic
redirects to switch off.
"""

import asyncio
import ssl
from contextlib import aclosing
from urllib.parse import urljoin
from weakref import WeakValueDictionary

import httpcore

from server.errors import MediaError
from server.media.address import parse_networks
from server.media.budget import ByteLoan
from server.media.dialer import WEB_PORTS, AddressNotAllowedError, GuardedBackend
from server.media.settings import MediaSettings
from server.media.types import MediaRequest
from server.media.url import WebUrl, parse_web_url, scheme_of

USER_AGENT = "internvl-server"
_MAX_HEADER_BYTES = 64 << 10
_REDIRECTS = {301, 302, 303, 307, 308}


class Fetcher:
    """One connection pool and its limits."""

    def __init__(self, settings: MediaSettings) -> None:
        self._settings = settings
        self._domains = frozenset(domain.lower() for domain in settings.allowed_media_domains)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=settings.max_connections,
            max_keepalive_connections=0,
            network_backend=GuardedBackend(
                parse_networks(settings.allowed_media_networks), settings.dns_timeout_s
            ),
        )
        self._slots: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def close(self) -> None:
        await self._pool.aclose()

    def _slot(self, host: str) -> asyncio.Semaphore:
        """One for each host, kept by those who use it."""
        fresh = asyncio.Semaphore(self._settings.max_connections_per_host)
        return self._slots.setdefault(host, fresh)

    async def fetch(self, request: MediaRequest, loan: ByteLoan) -> bytes:
        """The body behind the request's URL, taken from the loan as it arrives.

        Raises OverloadedError, MediaError: media_url_invalid, media_url_blocked,
        media_fetch_failed, media_too_large.
        """
        url = parse_web_url(request.url, request.param)
        self._check_domain(url, request.param)
        try:
            async with asyncio.timeout(self._settings.fetch_timeout_s(request.kind)):
                return await self._follow(url, request, loan)
        except (TimeoutError, OSError, httpcore.ConnectError, *_HTTP_ERRORS) as error:
            raise _failed(request.param) from error

    async def _follow(self, url: WebUrl, request: MediaRequest, loan: ByteLoan) -> bytes:
        """The chain of redirects, each hop through the same gate.

        Only a URL that plainly names a forbidden place is called blocked; whatever a name or
        a redirect leads to is a failed fetch, so that answers do not map the network.
        """
        for hop in range(self._settings.max_redirects + 1):
            try:
                async with self._slot(url.host):
                    body, location = await self._get(url, request, loan)
            except AddressNotAllowedError as error:
                is_plain = hop == 0 and (url.is_literal_address or url.port not in WEB_PORTS)
                raise (_blocked if is_plain else _failed)(request.param) from error
            if location is None:
                return body
            url = self._next_hop(url, location, request.param)
        raise _failed(request.param)

    async def _get(
        self, url: WebUrl, request: MediaRequest, loan: ByteLoan
    ) -> tuple[bytes, str | None]:
        """One exchange: the body, or where it redirects to."""
        response = await self._pool.handle_async_request(self._http_request(url))
        try:
            headers = [(name.lower(), value) for name, value in response.headers]
            if sum(len(name) + len(value) for name, value in headers) > _MAX_HEADER_BYTES:
                raise _failed(request.param)
            if response.status in _REDIRECTS:
                return b"", _single_location(headers, request.param)
            _check_answer(response.status, headers, request.param)
            return await self._read(response, headers, request, loan), None
        finally:
            await response.aclose()

    async def _read(
        self,
        response: httpcore.Response,
        headers: list[tuple[bytes, bytes]],
        request: MediaRequest,
        loan: ByteLoan,
    ) -> bytes:
        limit = self._settings.max_bytes(request.kind)
        announced = dict(headers).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > limit:
            raise too_large(request, limit)
        body = bytearray()
        async with aclosing(response.aiter_stream()) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                loan.take(len(chunk))
                body += chunk
                if len(body) > limit:
                    raise too_large(request, limit)
        return bytes(body)

    def _http_request(self, url: WebUrl) -> httpcore.Request:
        timeouts = {"connect": self._settings.connect_timeout_s, "pool": 30.0}
        return httpcore.Request(
            "GET",
            str(url),
            headers={
                "Host": url.authority,
                "User-Agent": USER_AGENT,
                "Accept": "image/*, video/*, */*;q=0.5",
                "Accept-Encoding": "identity",
                "Connection": "close",
            },
            extensions={"timeout": timeouts},
        )

    def _next_hop(self, url: WebUrl, location: str, param: str) -> WebUrl:
        try:
            target = urljoin(str(url), location)  # ValueError: no URL at all
            if scheme_of(target) not in ("http", "https"):
                raise _failed(param)
            hop = parse_web_url(target, param)
            self._check_domain(hop, param)
        except (MediaError, ValueError) as error:
            raise _failed(param) from error
        if url.scheme == "https" and hop.scheme == "http":
            raise _failed(param)
        return hop

    def _check_domain(self, url: WebUrl, param: str) -> None:
        if self._domains and url.host.rstrip(".") not in self._domains:
            raise _blocked(param)


_HTTP_ERRORS = (
    httpcore.ConnectTimeout,
    httpcore.ReadTimeout,
    httpcore.PoolTimeout,
    httpcore.ReadError,
    httpcore.WriteError,
    httpcore.ProtocolError,
)


def _single_location(headers: list[tuple[bytes, bytes]], param: str) -> str:
    locations = [value for name, value in headers if name == b"location"]
    if len(locations) != 1:
        raise _failed(param)
    return locations[0].decode("latin-1")


def _check_answer(status: int, headers: list[tuple[bytes, bytes]], param: str) -> None:
    if status != 200:
        raise _failed(param)
    encoding = dict(headers).get(b"content-encoding", b"identity")
    if encoding.lower() != b"identity":
        raise _failed(param)


def _failed(param: str) -> MediaError:
    return MediaError(
        "The media could not be fetched. Check that the URL answers with the file itself "
        "(status 200) from a public address.",
        param=param,
        code="media_fetch_failed",
    )


def _blocked(param: str) -> MediaError:
    return MediaError(
        "The media URL names a host, port or address that this server does not fetch from.",
        param=param,
        code="media_url_blocked",
    )


def too_large(request: MediaRequest, limit: int) -> MediaError:
    return MediaError(
        f"The {request.kind} is larger than {limit >> 20} MiB.",
        param=request.param,
        code="media_too_large",
    )
