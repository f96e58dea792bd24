"""The model behind one small interface; this implementation runs transformers' own modules.

`embed`, `encode_tiles`, `forward`, `logits`: all that the runner asks of a model.
"""

from typing import Any

import torch
from transformers import InternVLForConditionalGeneration

from model_runtime.attention import ATTENTION_NAME
from model_runtime.batch import Batch
from model_runtime.checkpoint import Checkpoint, TileProcessing
from model_runtime.kv_cache import KVCache, KVGeometry

MODEL_IMPL = "transformers"


class TransformersModel:
    """`InternVLForConditionalGeneration` with our paged attention in its language model."""

    def __init__(
        self, checkpoint: Checkpoint, *, dtype: torch.dtype | str, device: torch.device
    ) -> None:
        self._model: Any = InternVLForConditionalGeneration.from_pretrained(
            checkpoint.path,
            dtype=dtype,
            attn_implementation={"text_config": ATTENTION_NAME, "vision_config": "sdpa"},
        )
        self._model.to(device).eval()
        self._tiles = checkpoint.tiles
        self.device = device
        self.dtype: torch.dtype = self._model.dtype

    @property
    def kv_geometry(self) -> KVGeometry:
        config = self._model.config.text_config
        head_dim = getattr(config, "head_dim", None) or (
            config.hidden_size // config.num_attention_heads
        )
        return KVGeometry(
            config.num_hidden_layers, config.num_key_value_heads, head_dim, self.dtype
        )

    def embed(self, token_ids: torch.Tensor) -> torch.Tensor:
        """`[num_tokens]` → `[num_tokens, hidden]`."""
        embeddings: torch.Tensor = self._model.get_input_embeddings()(token_ids)
        return embeddings

    def encode_tiles(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 `[num_tiles, height, width, 3]` → `[num_tiles, tokens_per_tile, hidden]`."""
        pixel_values = normalise(pixels.to(self.device), self._tiles).to(self.dtype)
        features: torch.Tensor = self._model.get_image_features(pixel_values).pooler_output
        return features

    def forward(self, embeddings: torch.Tensor, batch: Batch, cache: KVCache) -> torch.Tensor:
        """`[num_tokens, hidden]` → `[num_tokens, hidden]`, writing the tokens' KV."""
        output = self._model.model.language_model(
            inputs_embeds=embeddings.unsqueeze(0),
            position_ids=batch.positions.unsqueeze(0),
            use_cache=False,
            batch=batch,
            cache=cache,
        )
        hidden: torch.Tensor = output.last_hidden_state.squeeze(0)
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[num_sampled, hidden]` → float32 `[num_sampled, vocab_size]`."""
        logits: torch.Tensor = self._model.lm_head(hidden)
        return logits.float()


def normalise(pixels: torch.Tensor, tiles: TileProcessing) -> torch.Tensor:
    """uint8 `[n, height, width, 3]` → float32 `[n, 3, height, width]`, as the processor does."""
    values = pixels.permute(0, 3, 1, 2).float() * tiles.rescale_factor
    mean = torch.tensor(tiles.mean, device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(tiles.std, device=pixels.device).view(1, 3, 1, 1)
    return (values - mean) / std
