"""transformers' own modules with our paged attention: what runs any InternVL checkpoint.

It serves what the native model does not know, and is the differential test for it.
"""

import importlib.util
from typing import Any

import torch
from transformers import (
    AttentionInterface,
    BitsAndBytesConfig,
    InternVLForConditionalGeneration,
)

from model_runtime.attention import attend
from model_runtime.batch import Batch
from model_runtime.checkpoint import Checkpoint, CheckpointError
from model_runtime.kv_cache import KVCache, KVGeometry
from model_runtime.model import Normaliser
from model_runtime.native.weights import has_head
from model_runtime.protocol import Quantization

ATTENTION_NAME = "internvl_paged"
_EXACT_MODULES = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]


class TransformersModel:
    """Implements `model_runtime.model.Model` with `InternVLForConditionalGeneration`."""

    impl = "transformers"

    def __init__(
        self,
        checkpoint: Checkpoint,
        config: Any,
        *,
        dtype: torch.dtype | None,
        device: torch.device,
        quantization: Quantization | None = None,
    ) -> None:
        """`config`: transformers' `InternVLConfig`; `dtype` None: the checkpoint's own."""
        _require_full_attention(config)
        _tie_as_stored(config, checkpoint)
        self._model: Any = InternVLForConditionalGeneration.from_pretrained(
            checkpoint.path,
            config=config,
            dtype=dtype or "auto",
            attn_implementation={"text_config": ATTENTION_NAME, "vision_config": "sdpa"},
            **_quantized(quantization, device),
        )
        if quantization is None:
            self._model.to(device)
        self._model.eval()
        self._normalise = Normaliser(checkpoint.tiles, device)
        self.device = device
        self.dtype: torch.dtype = self._model.dtype
        self.hidden_size: int = config.text_config.hidden_size

    @property
    def tile_flops(self) -> float:
        tower = self._model.model.vision_tower
        num_parameters = sum(parameter.numel() for parameter in tower.parameters())
        return float(2 * num_parameters * tower.embeddings.patch_embeddings.num_patches)

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
        embeddings: torch.Tensor = self._model.get_input_embeddings()(token_ids)
        return embeddings

    def encode_tiles(self, pixels: torch.Tensor) -> torch.Tensor:
        pixel_values = self._normalise(pixels.to(self.device)).to(self.dtype)
        features: torch.Tensor = self._model.get_image_features(pixel_values).pooler_output
        return features

    def forward(self, embeddings: torch.Tensor, batch: Batch, cache: KVCache) -> torch.Tensor:
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
        logits: torch.Tensor = self._model.lm_head(hidden)
        return logits


def _quantized(quantization: Quantization | None, device: torch.device) -> dict[str, Any]:
    """What `from_pretrained` is told: 4-bit (NF4) or 8-bit weights by bitsandbytes.

    The decoder holds most of the weights; vision, projector and head stay as they are.
    """
    if quantization is None:
        return {}
    if not all(importlib.util.find_spec(name) for name in ("bitsandbytes", "accelerate")):
        raise CheckpointError(
            f"--quantization {quantization} needs two more packages: "
            "pip install 'internvl-server[bitsandbytes]'"
        )
    is_8bit = quantization == "bitsandbytes-8bit"
    bits = BitsAndBytesConfig(
        load_in_8bit=is_8bit,
        load_in_4bit=not is_8bit,
        bnb_4bit_quant_type="nf4",
        llm_int8_skip_modules=_EXACT_MODULES,
    )
    return {"quantization_config": bits, "device_map": {"": device}}


def _require_full_attention(config: Any) -> None:
    """Our paged attention has no window; serving such a layer would be silently wrong."""
    layer_types = set(getattr(config.text_config, "layer_types", None) or ["full_attention"])
    if layer_types != {"full_attention"}:
        raise CheckpointError(f"Layers of type {sorted(layer_types)} are not supported.")


def _tie_as_stored(config: Any, checkpoint: Checkpoint) -> None:
    """A stored head is used, a missing one is the embedding table, whatever the config says."""
    is_tied = not has_head(checkpoint.path)
    config.tie_word_embeddings = is_tied
    config.text_config.tie_word_embeddings = is_tied


def _transformers_attention(
    module: torch.nn.Module,
    query: torch.Tensor,  # [1, num_heads, num_tokens, head_dim]
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    batch: Batch,
    cache: KVCache,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention hook: unpack its layout, attend, give `[1, num_tokens, ...]` back."""
    assert attention_mask is None, "a packed batch carries no mask. This is a bug."
    query, key, value = (tensor.squeeze(0).transpose(0, 1) for tensor in (query, key, value))
    layer: int = module.layer_idx  # type: ignore[assignment]
    cache.write(layer, batch.slot_mapping, key, value)
    output = attend(query, key, value, layer=layer, batch=batch, cache=cache, scale=scaling)
    return output.unsqueeze(0), None


AttentionInterface.register(ATTENTION_NAME, _transformers_attention)
