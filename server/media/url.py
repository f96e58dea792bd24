"""Reads media URLs strictly: what parsers disagree about is refused before anything parses it."""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import quote, urlsplit

from server.errors import MediaError

MAX_URL_CHARS = 8_192
DEFAULT_PORTS = {"http": 80, "https": 443}
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\]")
_HOST = re.compile(r"(?=.{1,253}\.?$)([a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?\.?)+$")
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*):")


@dataclass(frozen=True, slots=True)
class WebUrl:
    """An http(s) URL taken apart once; requests are rebuilt from these parts alone."""

    scheme: str
    host: str  # lower case, without brackets
    port: int
    target: str  # path and query, ASCII

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def is_literal_address(self) -> bool:
        return bool(re.fullmatch(r"[0-9.]+|0[xX][0-9a-fA-F.xX]+", self.host)) or ":" in self.host

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def scheme_of(url: str) -> str:
    """The lower-case scheme, or "" when there is none.

    White space in or before it hides it from nobody: its own reader will refuse the URL.
    """
    match = _SCHEME.match(_FORBIDDEN.sub("", url[:32]))
    return match.group(1).lower() if match else ""


def has_forbidden(url: str) -> bool:
    """White space, control characters, backslashes: parsers disagree about them."""
    return bool(_FORBIDDEN.search(url))


def parse_web_url(url: str, param: str) -> WebUrl:
    """Raises MediaError `media_url_invalid`."""
    if len(url) > MAX_URL_CHARS or has_forbidden(url):
        raise invalid_url(param)
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname or ""
    except ValueError as error:
        raise invalid_url(param) from error
    scheme = parts.scheme.lower()
    is_bracketed = "[" in parts.netloc
    if "@" in parts.netloc or not parts.netloc.isascii() or port == 0:
        raise invalid_url(param)
    if not _is_host(host) or is_bracketed != (":" in host):
        raise invalid_url(param)
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    if parts.query:
        target += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    return WebUrl(scheme, host, port or DEFAULT_PORTS[scheme], target)


def _is_host(host: str) -> bool:
    if ":" in host:
        try:
            return ip_address(host).version == 6 and "%" not in host  # a zone is this machine's
        except ValueError:
            return False
    return bool(_HOST.match(host))


def invalid_url(param: str) -> MediaError:
    return MediaError("The media URL is malformed.", param=param, code="media_url_invalid")
