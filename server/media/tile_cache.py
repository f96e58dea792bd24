"""Decoded tiles by what they were decoded from, so that repeated media is decoded once.

Bounded in bytes, least recently used out first. Knows keys and sizes; what a key covers is the
caller's.
"""

from collections import OrderedDict

from server.media.types import LoadedMedia


class TileCache:
    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._entries: OrderedDict[bytes, LoadedMedia] = OrderedDict()

    def find(self, key: bytes) -> LoadedMedia | None:
        media = self._entries.get(key)
        if media is not None:
            self._entries.move_to_end(key)
        return media

    def keep(self, key: bytes, media: LoadedMedia) -> None:
        if media.num_bytes > self._max_bytes or key in self._entries:
            return
        self._entries[key] = media
        self._num_bytes += media.num_bytes
        while self._num_bytes > self._max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self._num_bytes -= oldest.num_bytes
