"""A client that costs little: raw HTTP over kept connections, streams only measured, not parsed.

On a small machine a comfortable client takes the processor from the server that it measures.
"""

import asyncio
import json
import time
from dataclasses import dataclass

_READ_BYTES = 1 << 16
_END = b"0\r\n\r\n"  # of a chunked body


@dataclass(frozen=True, slots=True)
class Reply:
    """Times in seconds."""

    status: int
    late_s: float  # sent later than due: the client's own fault
    head_s: float  # from sending to the answer's head
    first_token_s: float  # from when it was due
    ended: float  # by the monotonic clock
    is_whole: bool  # a stream with a finish_reason and [DONE], or an error in words
    has_retry_after: bool


class LightClient:
    """Sends prepared requests to one path. As many connections as there are requests at a time."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def warm(self, num_connections: int) -> None:
        """Open connections before they are needed."""
        opening = (asyncio.open_connection(*self._address) for _ in range(num_connections))
        self._idle += await asyncio.gather(*opening)

    async def ask(self, request: bytes, due: float) -> Reply:
        """`due` by the monotonic clock."""
        connection = self._idle.pop() if self._idle else None
        reader, writer = connection or await asyncio.open_connection(*self._address)
        sent = time.monotonic()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        head_s = time.monotonic() - sent
        if b"chunked" in head:
            first_token_s, is_whole = await _read_stream(reader, due)
        else:
            first_token_s, is_whole = head_s, b'"error"' in await _read_body(reader, head)
        if b"connection: close" in head.lower():
            writer.close()
        else:
            self._idle.append((reader, writer))
        return Reply(
            int(head[9:12]), sent - due, head_s, first_token_s, time.monotonic(), is_whole,
            b"\r\nretry-after:" in head.lower(),
        )  # fmt: skip

    async def close(self) -> None:
        for _, writer in self._idle:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in self._idle))


def request_bytes(path: str, body: dict[str, object]) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


async def _read_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    length = head.lower().split(b"content-length:")[1].split(b"\r\n")[0]
    return await reader.readexactly(int(length))


async def _read_stream(reader: asyncio.StreamReader, due: float) -> tuple[float, bool]:
    """When the first text came, and whether the end was told."""
    said, first_token_s = b"", 0.0
    while not said.endswith(_END):
        data = await reader.read(_READ_BYTES)
        if not data:
            return first_token_s, False
        said += data
        if not first_token_s and _has_text(said):
            first_token_s = time.monotonic() - due
    is_whole = b"data: [DONE]" in said and b'"finish_reason":"length"' in said
    return first_token_s, is_whole and b'"error"' not in said


def _has_text(said: bytes) -> bool:
    return said.count(b'"content":"') > said.count(b'"content":""')
