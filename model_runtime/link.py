"""Frames on the socket between front end and worker: 8-byte length, then MessagePack.

Pure encoding plus the worker's blocking end; the front end brings its own asyncio reader.
Never pickle: bytes from the other side can only become the message types named here.
"""

import select
import socket
import struct
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import msgspec

_HEADER = struct.Struct("!Q")
MAX_FRAME_BYTES = 4 << 30
_RECEIVE_BYTES = 1 << 20
T = TypeVar("T")
_encoder = msgspec.msgpack.Encoder()


class LinkClosed(Exception):
    """The other side is gone."""


def encode_frame(message: msgspec.Struct) -> tuple[bytes, bytes]:
    """Header and payload, apart so that a large payload is not copied once more."""
    payload = _encoder.encode(message)
    return _HEADER.pack(len(payload)), payload


class FrameReader(Generic[T]):
    """Collects received bytes and yields whole messages of type `T`."""

    def __init__(self, message_type: Any) -> None:
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(message_type)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[T]:
        self._buffer += data
        while (message := self._take()) is not None:
            yield message

    def _take(self) -> T | None:
        if len(self._buffer) < _HEADER.size:
            return None
        (length,) = _HEADER.unpack_from(self._buffer)
        if length > MAX_FRAME_BYTES:
            raise LinkClosed(f"frame of {length} bytes")
        end = _HEADER.size + length
        if len(self._buffer) < end:
            return None
        with memoryview(self._buffer) as view:
            message = self._decoder.decode(view[_HEADER.size : end])
        del self._buffer[:end]
        return message


class WorkerLink(Generic[T]):
    """The worker's end: receives without waiting while there is work, sends whole frames."""

    def __init__(self, connection: socket.socket, message_type: Any) -> None:
        self._socket = connection
        self._reader: FrameReader[T] = FrameReader(message_type)

    def receive(self, *, wait: bool) -> list[T]:
        """All messages that have arrived; with `wait`, blocks until there is at least one.

        Raises LinkClosed when the front end is gone.
        """
        messages: list[T] = []
        while self._is_readable(wait=wait and not messages):
            data = self._socket.recv(_RECEIVE_BYTES)
            if not data:
                raise LinkClosed
            messages.extend(self._reader.feed(data))
        return messages

    def send(self, message: msgspec.Struct) -> None:
        header, payload = encode_frame(message)
        try:
            self._socket.sendall(header)
            self._socket.sendall(payload)
        except OSError as error:
            raise LinkClosed from error

    def _is_readable(self, *, wait: bool) -> bool:
        timeout = None if wait else 0
        readable, _, _ = select.select([self._socket], [], [], timeout)
        return bool(readable)
