"""Frames on the socket between front end and worker: 8-byte length, then MessagePack.

Pure encoding plus the worker's blocking end; the front end brings its own asyncio reader.
Never pickle: bytes from the other side can only become the message types named here.
"""

import logging
import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Generic, TypeVar

import msgspec

logger = logging.getLogger(__name__)
_HEADER = struct.Struct("!Q")
MAX_FRAME_BYTES = 4 << 30
_RECEIVE_BYTES = 1 << 20
T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)
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
    """The worker's end. A thread reads ahead, so that a large picture does not trickle in by
    one socket buffer per step; the loop takes whole messages, and sends whole frames.
    """

    def __init__(
        self,
        connection: socket.socket,
        message_type: Any,
        on_closed: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_closed` is called in the thread when the front end is gone."""
        self._socket = connection
        self._on_closed = on_closed
        self._reader: FrameReader[T] = FrameReader(message_type)
        self._arrived: queue.SimpleQueue[T | None] = queue.SimpleQueue()  # None: closed
        threading.Thread(target=self._read_ahead, name="link", daemon=True).start()

    def receive(self, *, wait: bool, timeout_s: float | None = None) -> list[T]:
        """All messages that have arrived; with `wait`, blocks until there is at least one, or
        until the time is over.

        Raises LinkClosed when the front end is gone.
        """
        messages: list[T] = []
        with suppress(queue.Empty):
            while (wait and not messages) or not self._arrived.empty():
                message = self._arrived.get(timeout=timeout_s)
                if message is None:
                    raise LinkClosed
                messages.append(message)
        return messages

    def send(self, message: msgspec.Struct) -> None:
        header, payload = encode_frame(message)
        try:
            self._socket.sendall(header)
            self._socket.sendall(payload)
        except OSError as error:
            raise LinkClosed from error

    def _read_ahead(self) -> None:
        try:
            while data := self._socket.recv(_RECEIVE_BYTES):
                for message in self._reader.feed(data):
                    self._arrived.put(message)
        except (OSError, LinkClosed, msgspec.DecodeError):
            logger.exception("the link broke")
        self._arrived.put(None)
        self._on_closed()


def receive_one(connection: socket.socket, message_type: type[S]) -> S:
    """Read exactly one frame, blocking. Raises LinkClosed when the front end is gone."""
    (length,) = _HEADER.unpack(_receive_exactly(connection, _HEADER.size))
    return msgspec.msgpack.decode(_receive_exactly(connection, length), type=message_type)


def _receive_exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise LinkClosed
        data += part
    return data
