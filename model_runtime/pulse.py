"""A worker's signs of life, in a piece of memory that it shares with its front end.

The worker writes how many turns it has made, whether it waits for work, and who is to blame if it
dies now. The front end reads, also after the worker's death. Writing is no system call: it cannot
block on a full socket, and wakes nobody.
"""

import mmap
import os
import struct
import tempfile
from collections.abc import Iterable

_SIZE = 1 << 16
_TURNS = struct.Struct("@Q")
_IS_IDLE = struct.Struct("@?")
_NUM_BLAMED_BYTES = struct.Struct("@Q")
_IS_IDLE_AT, _NUM_BLAMED_BYTES_AT, _BLAMED_AT = 8, 16, 24
_SEPARATOR = "\0"


class Pulse:
    """Over a descriptor of `open_memory`. One process writes, another one reads."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, _SIZE)

    def close(self) -> None:
        self._memory.close()

    # ------------------------------------------------------------------ the worker's side

    def beat(self) -> None:
        """The loop got on: it did some work, or there was none to do."""
        _TURNS.pack_into(self._memory, 0, self.num_turns + 1)

    def rest(self, is_idle: bool) -> None:
        """The loop waits for work now, or has found some."""
        _IS_IDLE.pack_into(self._memory, _IS_IDLE_AT, is_idle)

    def blame(self, request_ids: Iterable[str]) -> None:
        """If the worker dies from now on, it died of one of these requests."""
        names = _SEPARATOR.join(request_ids).encode()[: _SIZE - _BLAMED_AT]
        self._set_num_blamed_bytes(0)  # dying in between blames nobody
        self._memory[_BLAMED_AT : _BLAMED_AT + len(names)] = names
        self._set_num_blamed_bytes(len(names))

    def _set_num_blamed_bytes(self, count: int) -> None:
        _NUM_BLAMED_BYTES.pack_into(self._memory, _NUM_BLAMED_BYTES_AT, count)

    # ------------------------------------------------------------------ the front end's side

    @property
    def num_turns(self) -> int:
        (count,) = _TURNS.unpack_from(self._memory, 0)
        return int(count)

    @property
    def is_idle(self) -> bool:
        """It waits for work, so it beats at least every `IDLE_BEAT_S`."""
        (is_idle,) = _IS_IDLE.unpack_from(self._memory, _IS_IDLE_AT)
        return bool(is_idle)

    @property
    def blamed(self) -> frozenset[str]:
        """Request ids. Read it when the worker is dead."""
        (count,) = _NUM_BLAMED_BYTES.unpack_from(self._memory, _NUM_BLAMED_BYTES_AT)
        names = self._memory[_BLAMED_AT : _BLAMED_AT + count].decode(errors="replace")
        return frozenset(names.split(_SEPARATOR)) - {""}


IDLE_BEAT_S = 1.0


def open_memory() -> int:
    """A descriptor of nameless memory, to be inherited and closed; nothing of it stays behind."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("pulse")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, _SIZE)
    return descriptor
