"""Which heads of requests are refused before the application sees them. Pure functions.

What is left ambiguous between two HTTP implementations is refused: that is how requests are
smuggled past a proxy.
"""

import re
from collections.abc import Sequence

from server.errors import (
    ApiError,
    ExpectationError,
    InvalidRequestError,
    MethodNotAllowedError,
    NotFoundError,
)

Headers = Sequence[tuple[bytes, bytes]]  # names in lower case

_HOST = re.compile(rb"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


def check_head(version: str, method: bytes, target: bytes, headers: Headers) -> None:
    """Raises ApiError. `target` is what stands between method and version."""
    if version not in ("1.0", "1.1"):
        raise InvalidRequestError("This server speaks HTTP/1.1.")
    if method == b"CONNECT":
        raise MethodNotAllowedError("This server is no proxy.")
    path = target.partition(b"?")[0].lower()
    if not path.startswith(b"/") or (b"%2f" in path and b"/models/" not in path):
        raise NotFoundError("There is no such route.")
    _check_host(version, headers)
    _check_framing(version, headers)
    _check_wishes(headers)


def values_of(headers: Headers, name: bytes) -> list[bytes]:
    return [value for own_name, value in headers if own_name == name]


def _check_host(version: str, headers: Headers) -> None:
    hosts = values_of(headers, b"host")
    if version == "1.0" and not hosts:
        return
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        raise InvalidRequestError("Send one Host header with a host name.")


def _check_framing(version: str, headers: Headers) -> None:
    """The parser has refused two lengths, bad lengths, and a length beside chunks."""
    encodings = values_of(headers, b"transfer-encoding")
    if encodings and (version == "1.0" or [e.lower() for e in encodings] != [b"chunked"]):
        raise InvalidRequestError("The only Transfer-Encoding taken is chunked, in HTTP/1.1.")


def _check_wishes(headers: Headers) -> None:
    if any(value.lower() != b"100-continue" for value in values_of(headers, b"expect")):
        raise ExpectationError("The only expectation met is 100-continue.")
    tokens = b",".join(values_of(headers, b"connection")).lower().split(b",")
    if b"upgrade" in (token.strip() for token in tokens):
        raise InvalidRequestError("Connections are not upgraded: tell the client to use HTTP/1.1.")


def unreadable(data: bytes) -> ApiError:
    """For bytes that the parser gave up on at their beginning."""
    if re.match(rb"[A-Z]{1,20} /", data):
        return MethodNotAllowedError("This server takes GET and POST.")
    return InvalidRequestError("This is no valid HTTP request.")


def has_no_version(data: bytes) -> bool:
    """HTTP/0.9: the parser would wait for a second line."""
    line, end, _ = data.lstrip(b"\r\n").partition(b"\r\n")
    return bool(end) and line.startswith(b"GET ") and b" HTTP/" not in line
