"""Bounds on what a connection may send, hold and wait for."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class HttpLimits:
    """Times in seconds, sizes in bytes."""

    max_head_bytes: int = 32 << 10  # request line and headers
    max_head_lines: int = 100
    max_framing_bytes: int = 16 << 10  # of a chunked body, between two pieces of it
    head_timeout: float = 10.0  # from the first byte, or from connecting
    body_timeout: float = 15.0  # and more by size:
    min_body_rate: int = 256 << 10  # per second
    stall_timeout: float = 30.0  # a reader is watched so often
    min_read_rate: int = 1 << 10  # per second, of a reader that has something to read
    send_buffer: int = 256 << 10  # in the kernel, which would take megabytes of an answer
    linger_timeout: float = 1.0  # after a refusal, for the client to read it
    max_connections: int = 1000
