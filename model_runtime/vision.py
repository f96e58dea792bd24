"""Owns the embeddings of the media that live sequences refer to, by content hash."""

from collections import Counter
from collections.abc import Iterable

import torch

from model_runtime.checkpoint import TileProcessing
from model_runtime.model import Model
from model_runtime.protocol import TileSet


class VisionEncoder:
    """Encodes tiles of all requests together and keeps the result while somebody needs it.

    Two live sequences with the same content hash share one embedding.
    """

    def __init__(self, model: Model, tiles: TileProcessing, max_tiles_per_pass: int) -> None:
        self._model = model
        self._tiles = tiles
        self._max_tiles_per_pass = max_tiles_per_pass
        self._embeddings: dict[bytes, torch.Tensor] = {}
        self._num_users: Counter[bytes] = Counter()

    def is_encoded(self, content_hash: bytes) -> bool:
        return content_hash in self._embeddings

    def embedding(self, content_hash: bytes) -> torch.Tensor:
        """`[num_tokens of the item, hidden]`."""
        return self._embeddings[content_hash]

    def retain(self, content_hashes: Iterable[bytes]) -> None:
        self._num_users.update(content_hashes)

    def release(self, content_hashes: Iterable[bytes]) -> None:
        for content_hash in content_hashes:
            self._num_users[content_hash] -= 1
            if self._num_users[content_hash] <= 0:
                del self._num_users[content_hash]
                self._embeddings.pop(content_hash, None)

    def encode(self, tile_sets: list[TileSet]) -> None:
        """Encode the sets' tiles in as few passes as the budget allows."""
        if not tile_sets:
            return
        pixels = torch.cat([self._pixels(tiles) for tiles in tile_sets])
        passes = torch.split(pixels, self._max_tiles_per_pass)
        features = torch.cat([self._model.encode_tiles(part) for part in passes])
        parts = torch.split(features, [tiles.num_tiles for tiles in tile_sets])
        for tiles, part in zip(tile_sets, parts, strict=True):
            self._embeddings[tiles.content_hash] = part.flatten(0, 1).clone()

    def check(self) -> None:
        """Assert that nothing is kept that nobody needs."""
        assert set(self._embeddings) <= set(self._num_users), "embeddings leaked"

    def _pixels(self, tiles: TileSet) -> torch.Tensor:
        """`[num_tiles, height, width, 3]`, uint8."""
        shape = (tiles.num_tiles, self._tiles.tile_height, self._tiles.tile_width, 3)
        return torch.frombuffer(bytearray(tiles.pixels), dtype=torch.uint8).view(shape)
