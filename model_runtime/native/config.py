"""What the native model must know of a checkpoint's config, and which checkpoints it can run."""

from dataclasses import dataclass
from typing import Any

from model_runtime.checkpoint import TileProcessing
from model_runtime.kv_cache import KVGeometry

_TEXT_MODELS = ("qwen2", "qwen3")
_ROPE_TYPES = ("default", "dynamic")  # dynamic changes nothing below max_position_embeddings


class UnsupportedError(Exception):
    """The native model does not know a module of this checkpoint; the message names it."""


@dataclass(frozen=True, slots=True)
class TextConfig:
    """A Qwen2 or Qwen3 dense decoder."""

    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    norm_eps: float
    rope_theta: float
    context_len: int

    def kv_geometry(self, dtype: Any) -> KVGeometry:
        return KVGeometry(self.num_layers, self.num_kv_heads, self.head_dim, dtype)


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """InternViT. `is_rms_norm`: the 6B variant's norms, else layer norms."""

    num_layers: int
    hidden_size: int
    num_heads: int
    patch_height: int
    patch_width: int
    norm_eps: float
    is_rms_norm: bool
    merge: int  # patches merged per side by the pixel shuffle


def read_text_config(config: Any) -> TextConfig:
    """From transformers' `InternVLConfig`. Raises UnsupportedError."""
    text = config.text_config
    _require(text.model_type in _TEXT_MODELS, f"the text model {text.model_type!r}")
    _require(text.hidden_act == "silu", f"the activation {text.hidden_act!r}")
    _require(not _has_sliding_window(text), "sliding-window attention")
    rope = text.rope_parameters
    _require(rope["rope_type"] in _ROPE_TYPES, f"RoPE of type {rope['rope_type']!r}")
    _require(rope.get("partial_rotary_factor", 1.0) == 1.0, "partial RoPE")
    return TextConfig(
        num_layers=text.num_hidden_layers,
        hidden_size=text.hidden_size,
        num_heads=text.num_attention_heads,
        num_kv_heads=text.num_key_value_heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        norm_eps=text.rms_norm_eps,
        rope_theta=rope["rope_theta"],
        context_len=text.max_position_embeddings,
    )


def read_vision_config(config: Any, tiles: TileProcessing) -> VisionConfig:
    """From transformers' `InternVLConfig`. Raises UnsupportedError."""
    vision = config.vision_config
    _require(vision.norm_type in ("layer_norm", "rms_norm"), f"the norm {vision.norm_type!r}")
    _require(vision.hidden_act == "gelu", f"the activation {vision.hidden_act!r}")
    _require(config.projector_hidden_act == "gelu", "the projector's activation")
    _require(config.vision_feature_layer == -1, "features from an inner layer")
    _require(config.vision_feature_select_strategy == "default", "features with the CLS token")
    _require(vision.use_absolute_position_embeddings, "a vision tower without positions")
    is_native_size = tuple(vision.image_size) == (tiles.tile_height, tiles.tile_width)
    _require(is_native_size, "tiles of another size than the vision tower's")
    _require(tiles.tile_height == tiles.tile_width, "tiles that are not square")
    return VisionConfig(
        num_layers=vision.num_hidden_layers,
        hidden_size=vision.hidden_size,
        num_heads=vision.num_attention_heads,
        patch_height=vision.patch_size[0],
        patch_width=vision.patch_size[1],
        norm_eps=vision.layer_norm_eps,
        is_rms_norm=vision.norm_type == "rms_norm",
        merge=round(1 / config.downsample_ratio),
    )


def _has_sliding_window(text: Any) -> bool:
    layer_types = getattr(text, "layer_types", None) or []
    return any(layer_type != "full_attention" for layer_type in layer_types)


def _require(is_known: bool, what: str) -> None:
    if not is_known:
        raise UnsupportedError(f"the native model does not know {what}")
