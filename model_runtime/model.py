"""The model behind one small interface: all that the runner and the vision encoder ask of it."""

from typing import Protocol

import torch

from model_runtime.batch import Batch
from model_runtime.checkpoint import TileProcessing
from model_runtime.kv_cache import KVCache, KVGeometry


class Model(Protocol):
    """A vision-language model over packed batches and a paged KV cache."""

    @property
    def impl(self) -> str:
        """Which implementation this is: native or transformers."""
        ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def hidden_size(self) -> int: ...

    @property
    def tile_flops(self) -> float:
        """Floating-point operations to encode a tile, about."""
        ...

    @property
    def kv_geometry(self) -> KVGeometry: ...

    def embed(self, token_ids: torch.Tensor) -> torch.Tensor:
        """`[num_tokens]` → `[num_tokens, hidden]`, the caller's to change."""
        ...

    def encode_tiles(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 `[num_tiles, height, width, 3]` → `[num_tiles, tokens_per_tile, hidden]`."""
        ...

    def forward(self, embeddings: torch.Tensor, batch: Batch, cache: KVCache) -> torch.Tensor:
        """`[num_tokens, hidden]` → `[num_tokens, hidden]`, writing the tokens' KV.

        May spoil `embeddings`.
        """
        ...

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[num_sampled, hidden]` → `[num_sampled, vocab_size]` in the model's dtype."""
        ...


class Normaliser:
    """uint8 `[n, height, width, 3]` → float32 `[n, 3, height, width]`, as the processor does."""

    def __init__(self, tiles: TileProcessing, device: torch.device) -> None:
        self._rescale_factor = tiles.rescale_factor
        self._mean = torch.tensor(tiles.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(tiles.std, device=device).view(1, 3, 1, 1)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        values = pixels.permute(0, 3, 1, 2).float().mul_(self._rescale_factor)
        return values.sub_(self._mean).div_(self._std)
