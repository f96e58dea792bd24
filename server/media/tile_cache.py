"""Decoded tiles by what they were decoded from, so that repeated media is decoded once.

Bounded in bytes, least recently used out first. Requests for the same at the same time share
one decoding.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from server.errors import MediaError
from server.media.types import LoadedMedia

Decode = Callable[[], Coroutine[Any, Any, LoadedMedia]]


@dataclass(slots=True)
class _Decoding:
    """Under way, for so many waiters."""

    task: asyncio.Task[LoadedMedia]
    num_waiters: int = 0


class TileCache:
    """Knows keys and sizes; what a key covers is the caller's."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._entries: OrderedDict[bytes, LoadedMedia] = OrderedDict()
        self._under_way: dict[bytes, _Decoding] = {}

    def find(self, key: bytes) -> LoadedMedia | None:
        media = self._entries.get(key)
        if media is not None:
            self._entries.move_to_end(key)
        return media

    async def decode_once(self, key: bytes, decode: Decode, param: str) -> LoadedMedia:
        """Kept afterwards. Raises MediaError that names this waiter's `param`.

        The work goes on as long as anybody waits for it.
        """
        decoding = self._under_way.get(key)
        if decoding is None:
            decoding = _Decoding(asyncio.create_task(self._decode(key, decode)))
            self._under_way[key] = decoding
        decoding.num_waiters += 1
        try:
            return await asyncio.shield(decoding.task)
        except MediaError as error:
            raise MediaError(error.message, param=param, code=error.code) from error
        finally:
            decoding.num_waiters -= 1
            if not decoding.num_waiters and not decoding.task.done():
                decoding.task.cancel()
                self._forget(key, decoding)

    async def _decode(self, key: bytes, decode: Decode) -> LoadedMedia:
        decoding = self._under_way[key]
        try:
            media = await decode()
        finally:
            self._forget(key, decoding)
        self._keep(key, media)
        return media

    def _forget(self, key: bytes, decoding: _Decoding) -> None:
        """A cancelled decoding may have a successor by now."""
        if self._under_way.get(key) is decoding:
            del self._under_way[key]

    def _keep(self, key: bytes, media: LoadedMedia) -> None:
        if media.num_bytes > self._max_bytes or key in self._entries:
            return
        self._entries[key] = media
        self._num_bytes += media.num_bytes
        while self._num_bytes > self._max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self._num_bytes -= oldest.num_bytes
