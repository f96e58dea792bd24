"""Three sizes of model, and what each costs: bytes to read and FLOPs. Pure arithmetic.

A FLOP is an addition or a multiplication; element-wise work is left out.
"""

from dataclasses import dataclass
from typing import Any

import torch

PATCH = 14


@dataclass(frozen=True, slots=True)
class Tower:
    """Sizes of a stack of transformer layers."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inter: int

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def attention_weights(self) -> int:
        """Of one layer's four projections."""
        return 2 * self.hidden * (self.heads + self.kv_heads) * self.head_dim


@dataclass(frozen=True, slots=True)
class Shape:
    """An InternVL with a Qwen2 decoder (gated MLP) and an InternViT tower (plain MLP)."""

    name: str
    dtype: torch.dtype
    vision: Tower
    text: Tower
    tile: int  # pixels per side
    vocab: int
    is_tied: bool
    context_len: int
    rope: tuple[tuple[str, Any], ...]

    @property
    def tokens_per_tile(self) -> int:
        return (self.tile // PATCH // 2) ** 2

    @property
    def image_token_id(self) -> int:
        return self.vocab - 7  # as published: 151667 of 151674

    @property
    def num_text_ids(self) -> int:
        """Ids below this are plain text: 151643 of 151674."""
        return self.vocab - 31

    @property
    def body_weights(self) -> int:
        """Matrix elements of the decoder's layers."""
        text = self.text
        return text.layers * (text.attention_weights + 3 * text.hidden * text.inter)

    @property
    def head_weights(self) -> int:
        return self.vocab * self.text.hidden

    @property
    def kv_bytes_per_token(self) -> int:
        text = self.text
        return 2 * text.layers * text.kv_heads * text.head_dim * self.dtype.itemsize

    def decode_bytes(self, batch: int, context: int) -> int:
        """What a decode step must read at least: every weight once, every sequence's KV."""
        weights = (self.body_weights + self.head_weights) * self.dtype.itemsize
        return weights + batch * context * self.kv_bytes_per_token

    def prefill_flops(self, num_tokens: int) -> int:
        """A prompt without a cached part; logits of its last token only."""
        attention = 2 * num_tokens * num_tokens * self.text.hidden * self.text.layers  # causal
        return 2 * (self.body_weights * num_tokens + self.head_weights) + attention

    def tile_flops(self) -> int:
        """Patches, tower and projector of one tile."""
        vision, text = self.vision, self.text
        num_patches = (self.tile // PATCH) ** 2
        rows = num_patches + 1
        layer = vision.attention_weights + 2 * vision.hidden * vision.inter
        tower = vision.layers * (2 * rows * layer + 4 * rows * rows * vision.hidden)
        patches = 2 * num_patches * 3 * PATCH**2 * vision.hidden
        projector = 2 * self.tokens_per_tile * (4 * vision.hidden + text.hidden) * text.hidden
        return tower + patches + projector


_DEFAULT_ROPE = (("rope_type", "default"), ("rope_theta", 1e6))
_DYNAMIC_ROPE = (("rope_type", "dynamic"), ("factor", 2.0), ("rope_theta", 1e6))

SHAPES = {
    shape.name: shape
    for shape in (
        Shape(
            name="tiny",
            dtype=torch.float32,
            vision=Tower(hidden=64, layers=2, heads=2, kv_heads=2, inter=256),
            text=Tower(hidden=128, layers=2, heads=4, kv_heads=2, inter=384),
            tile=112,
            vocab=2048,
            is_tied=True,
            context_len=2048,
            rope=_DEFAULT_ROPE,
        ),
        Shape(
            name="small",
            dtype=torch.bfloat16,
            vision=Tower(hidden=384, layers=6, heads=6, kv_heads=6, inter=1536),
            text=Tower(hidden=512, layers=8, heads=8, kv_heads=2, inter=1536),
            tile=448,
            vocab=151674,
            is_tied=True,
            context_len=4096,
            rope=_DEFAULT_ROPE,
        ),
        Shape(  # InternVL3-1B
            name="1b",
            dtype=torch.bfloat16,
            vision=Tower(hidden=1024, layers=24, heads=16, kv_heads=16, inter=4096),
            text=Tower(hidden=896, layers=24, heads=14, kv_heads=2, inter=4864),
            tile=448,
            vocab=151674,
            is_tied=False,
            context_len=32768,
            rope=_DYNAMIC_ROPE,
        ),
    )
}
