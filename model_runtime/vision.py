"""Owns the embeddings of media by content hash: those in use, and those seen lately."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable

import torch

from model_runtime.checkpoint import TileProcessing
from model_runtime.protocol import MediaSpan, TileSet
from model_runtime.scheduler import ScheduledTiles


class VisionEncoder:
    """Encodes tiles of all requests together; a picture seen before is not encoded again.

    An embedding that a live sequence refers to stays. The others stay as long as all together
    fit `cache_bytes`, the least recently used goes first. What is in use is bounded by the KV
    cache, of which it is a fraction: sequences run only with room for all their tokens.
    """

    def __init__(
        self,
        encode_tiles: Callable[[torch.Tensor], torch.Tensor],
        tiles: TileProcessing,
        *,
        cache_bytes: int,
    ) -> None:
        """`encode_tiles`: as `Model.encode_tiles`, perhaps replaying a graph."""
        self._encode_tiles = encode_tiles
        self._tiles = tiles
        self._cache_bytes = cache_bytes
        self._embeddings: OrderedDict[bytes, torch.Tensor] = OrderedDict()  # oldest use first
        self._num_encoded_tokens: dict[bytes, int] = {}
        self._num_bytes = 0
        self._num_users: Counter[bytes] = Counter()
        self._news: tuple[list[bytes], list[bytes]] = ([], [])

    def num_encoded_tokens(self, content_hash: bytes) -> int:
        """Leading tokens of the item whose embeddings are there; 0 when it is unknown."""
        return self._num_encoded_tokens.get(content_hash, 0)

    def embedding(self, content_hash: bytes) -> torch.Tensor:
        """`[num_tokens of the item, hidden]`; rows that are not encoded yet hold anything."""
        return self._embeddings[content_hash]

    def retain(self, spans: Iterable[MediaSpan]) -> None:
        """A sequence refers to these media from now on."""
        for span in spans:
            self._num_users[span.content_hash] += 1
            if span.content_hash in self._embeddings:
                self._embeddings.move_to_end(span.content_hash)

    def release(self, spans: Iterable[MediaSpan]) -> None:
        for span in spans:
            self._num_users[span.content_hash] -= 1
            if self._num_users[span.content_hash] == 0:
                del self._num_users[span.content_hash]
        self._evict(self._cache_bytes)

    def encode(self, parts: list[ScheduledTiles]) -> None:
        """Encode the step's tiles of all pictures in one pass."""
        if not parts:
            return
        pixels = torch.cat([self._pixels(part.tiles)[part.start : part.end] for part in parts])
        features = self._encode_tiles(pixels)
        split = torch.split(features, [part.end - part.start for part in parts])
        for part, rows in zip(parts, split, strict=True):
            self._keep(part, rows)
        self._evict(self._cache_bytes)

    def drop_unused(self) -> None:
        """Memory is short: keep only what is in use."""
        self._evict(limit_bytes=0)

    def take_news(self) -> tuple[list[bytes], list[bytes]]:
        """The hashes encoded and evicted since the last call."""
        news, self._news = self._news, ([], [])
        return news

    def check(self) -> None:
        """Assert that the bytes are counted rightly, and that only media in use exceed them."""
        assert self._num_bytes == sum(tensor.nbytes for tensor in self._embeddings.values())
        idle = [h for h in self._embeddings if h not in self._num_users]
        assert self._num_bytes <= self._cache_bytes or not idle, "embeddings leaked"
        assert set(self._num_encoded_tokens) == set(self._embeddings)
        assert all(count > 0 for count in self._num_users.values())

    def _keep(self, part: ScheduledTiles, rows: torch.Tensor) -> None:
        """`rows`: `[tiles of the part, tokens_per_tile, hidden]`."""
        content_hash, tokens_per_tile = part.tiles.content_hash, rows.shape[1]
        if content_hash not in self._embeddings:
            shape = (part.tiles.num_tiles * tokens_per_tile, rows.shape[2])
            self._embeddings[content_hash] = rows.new_empty(shape)
            self._num_bytes += self._embeddings[content_hash].nbytes
        first, last = part.start * tokens_per_tile, part.end * tokens_per_tile
        self._embeddings[content_hash][first:last] = rows.flatten(0, 1)
        self._num_encoded_tokens[content_hash] = last
        if part.end == part.tiles.num_tiles:
            self._news[0].append(content_hash)

    def _evict(self, limit_bytes: int) -> None:
        """Drop what nobody uses, oldest first, until the rest fits."""
        if self._num_bytes <= limit_bytes:
            return
        for content_hash in [h for h in self._embeddings if h not in self._num_users]:
            self._num_bytes -= self._embeddings.pop(content_hash).nbytes
            del self._num_encoded_tokens[content_hash]
            self._news[1].append(content_hash)
            if self._num_bytes <= limit_bytes:
                return

    def _pixels(self, tiles: TileSet) -> torch.Tensor:
        """`[num_tiles, height, width, 3]`, uint8."""
        shape = (tiles.num_tiles, self._tiles.tile_height, self._tiles.tile_width, 3)
        return torch.frombuffer(bytearray(tiles.pixels), dtype=torch.uint8).view(shape)
