"""Our own InternVL: the same safetensors as transformers' model, in far fewer operations.

transformers' modules cost about 40 operations a text layer and 15 a vision layer; small
models are bound by that count on GPUs and by memory traffic on CPUs. It knows InternViT
(300M and 6B) with Qwen2 or Qwen3 dense decoders: InternVL3 1B to 78B, dense InternVL3.5.
"""

from typing import Any

import torch

from model_runtime.batch import Batch
from model_runtime.checkpoint import Checkpoint
from model_runtime.kv_cache import KVCache, KVGeometry
from model_runtime.model import Normaliser
from model_runtime.native.config import read_text_config, read_vision_config
from model_runtime.native.ops import Ops
from model_runtime.native.text import TextDecoder
from model_runtime.native.vision import VisionTower
from model_runtime.native.weights import CheckpointWeights


class NativeModel:
    """Implements `model_runtime.model.Model`."""

    impl = "native"

    def __init__(
        self,
        checkpoint: Checkpoint,
        config: Any,
        *,
        dtype: torch.dtype | None,
        device: torch.device,
        ops: Ops,
        is_int8: bool = False,
    ) -> None:
        """`config`: transformers' `InternVLConfig`; `dtype` None: the checkpoint's own.

        `is_int8`: the decoder's products in whole numbers, for CPUs.
        Raises UnsupportedError when the checkpoint holds a module that this model lacks.
        """
        text, vision = read_text_config(config), read_vision_config(config, checkpoint.tiles)
        weights = CheckpointWeights(checkpoint.path, dtype, device)
        self._normalise = Normaliser(checkpoint.tiles, device)
        self._decoder = TextDecoder(text, weights, ops, is_int8=is_int8)
        self._tower = VisionTower(vision, weights)
        weights.require_all_taken()
        self.device = device
        self.dtype = weights.dtype
        self.hidden_size = text.hidden_size
        self.tile_flops = self._tower.tile_flops
        self.kv_geometry: KVGeometry = text.kv_geometry(weights.dtype)

    def embed(self, token_ids: torch.Tensor) -> torch.Tensor:
        return self._decoder.embed(token_ids)

    def encode_tiles(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._tower(self._normalise(pixels.to(self.device)).to(self.dtype))

    def forward(self, embeddings: torch.Tensor, batch: Batch, cache: KVCache) -> torch.Tensor:
        return self._decoder.forward(embeddings, batch, cache)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return self._decoder.logits(hidden)
