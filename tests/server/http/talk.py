"""Raw bytes to a server, and what it says to them."""

import http.client
import json
import socket
import time
from dataclasses import dataclass
from typing import Any

import httpx

CHAT = b"/v1/chat/completions"
BODY = json.dumps({"messages": [{"role": "user", "content": "Hi"}]}).encode()
STREAM = json.dumps({**json.loads(BODY), "stream": True}).encode()


@dataclass(frozen=True)
class Heard:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str | None:
        """Of an error, whose shape is checked; None of anything else."""
        if self.status < 400:
            return None
        assert self.headers["content-type"] == "application/json" and self.headers["x-request-id"]
        error = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        code: str = error["code"]
        return code


def connect(url: str) -> socket.socket:
    address = httpx.URL(url)
    return socket.create_connection((address.host, address.port or 80), timeout=10)


def hear(connection: socket.socket, method: str = "POST") -> Heard:
    response = http.client.HTTPResponse(connection, method=method)
    response.begin()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Heard(response.status, headers, response.read())


def say(url: str, request: bytes) -> Heard:
    """The answer to exactly these bytes."""
    with connect(url) as connection:
        connection.sendall(request)
        return hear(connection)


def is_closed(connection: socket.socket) -> bool:
    """Within the socket's timeout; whatever is still said is skipped."""
    try:
        while connection.recv(65_536):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


def seconds_until_closed(connection: socket.socket, drip: bytes = b"") -> float:
    """While `drip` is sent again and again."""
    started = time.monotonic()
    connection.settimeout(0.05 if drip else 10)
    while time.monotonic() - started < 10:
        try:
            if drip:
                connection.sendall(drip)
            if not connection.recv(65_536):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - started


def request(
    *lines: str | bytes,
    start: bytes = b"POST /v1/chat/completions HTTP/1.1",
    host: str | None = "localhost",
    kind: str | None = "application/json",
    length: int | None = -1,
    body: bytes = BODY,
) -> bytes:
    """The base request with one thing changed. `length`: -1 is the body's own."""
    head: list[Any] = [start]
    head += [] if host is None else [f"Host: {host}"]
    head += [] if kind is None else [f"Content-Type: {kind}"]
    head += [] if length is None else [f"Content-Length: {len(body) if length < 0 else length}"]
    parts = [line if isinstance(line, bytes) else line.encode() for line in (*head, *lines)]
    return b"\r\n".join(parts) + b"\r\n\r\n" + body


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end
