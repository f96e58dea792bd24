"""The tiny InternVL: its configuration, its initialisation and a fast attention for training."""

import math
from typing import Any

import torch
from torch import nn
from transformers import InternVLConfig, InternVLForConditionalGeneration
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from model_runtime.demo.training.scenes import COLORS, SHAPES
from model_runtime.demo.training.tiles import TILE_SIZE, TOKENS_PER_TILE

PATCH_SIZE = 14
VISION = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 2}
TEXT = {"hidden_size": 192, "num_hidden_layers": 5, "num_attention_heads": 3,
        "num_key_value_heads": 1, "intermediate_size": 512}  # fmt: skip
TRAINING_ATTENTION = "demo_matmul"
VISION_WORDS = (*SHAPES, *COLORS, "top", "middle", "bottom", "left", "center", "right",
                "shape", "background")  # fmt: skip
"""The words that visual tokens are taught to say."""


def matmul_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Plain attention in the tensors' own dtype, `[batch, heads, length, head_dim]`.

    On a CPU in bfloat16 it trains these sizes 3 to 5 times faster than SDPA does.
    """
    batch, heads, length, head_dim = query.shape
    kv_heads = key.shape[1]
    grouped = (query * (scaling or head_dim**-0.5)).reshape(batch, kv_heads, -1, head_dim)
    scores = grouped @ key.transpose(-1, -2)
    if attention_mask is not None:
        scores = scores.view(batch, kv_heads, -1, length, key.shape[2])
        scores = (scores + attention_mask[:, :, None]).flatten(2, 3)
    mixed = (torch.softmax(scores, -1) @ value).view(batch, heads, length, head_dim)
    return mixed.transpose(1, 2), None


ALL_ATTENTION_FUNCTIONS.register(TRAINING_ATTENTION, matmul_attention)


def build_config(vocab_size: int, image_token_id: int, eos_id: int, pad_id: int) -> InternVLConfig:
    config = InternVLConfig(
        vision_config={
            **VISION,
            "intermediate_size": 4 * VISION["hidden_size"],
            "image_size": [TILE_SIZE, TILE_SIZE],
            "patch_size": [PATCH_SIZE, PATCH_SIZE],
            "attention_bias": True,
            "use_qk_norm": False,
            "norm_type": "layer_norm",
            "layer_scale_init_value": 1.0,
            "use_mean_pooling": True,
            "hidden_act": "gelu",
        },
        text_config={
            **TEXT,
            "model_type": "qwen2",
            "vocab_size": vocab_size,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": eos_id,
            "pad_token_id": pad_id,
        },
        image_token_id=image_token_id,
        image_seq_length=TOKENS_PER_TILE,
        downsample_ratio=0.5,
        projector_hidden_act="gelu",
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    config.architectures = ["InternVLForConditionalGeneration"]
    return config


def build_model(config: InternVLConfig, seed: int) -> InternVLForConditionalGeneration:
    """A float32 model on the CPU, initialised to learn fast."""
    torch.manual_seed(seed)
    model = InternVLForConditionalGeneration(config)
    initialise(model)
    return model


@torch.no_grad()
def initialise(model: InternVLForConditionalGeneration) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name != "lm_head":
            _initialise_linear(model.config, name, module)
    _initialise_patches(model.model.vision_tower.embeddings)
    for layer in model.model.vision_tower.encoder.layer:
        _initialise_attention(layer.attention)
    model.model.language_model.embed_tokens.weight.normal_(0, 0.08)
    model.model.multi_modal_projector.linear_2.weight.mul_(0.2)


def _initialise_linear(config: InternVLConfig, name: str, linear: nn.Linear) -> None:
    """Gaussian by fan-in; the ends of residual branches smaller the deeper the tower."""
    std = 0.7 / math.sqrt(linear.in_features)
    if name.endswith(("o_proj", "down_proj", "fc2", "projection_layer")):
        tower = config.vision_config if "vision" in name else config.text_config
        std /= math.sqrt(2 * tower.num_hidden_layers)
    linear.weight.normal_(0, std)
    if linear.bias is not None:
        linear.bias.zero_()


def _initialise_patches(embeddings: Any) -> None:
    width = embeddings.position_embeddings.shape[-1]
    embeddings.patch_embeddings.projection.weight.copy_(cosine_filters(width) * 0.2)
    embeddings.patch_embeddings.projection.bias.zero_()
    positions = sine_positions(TILE_SIZE // PATCH_SIZE, width)
    embeddings.position_embeddings[0, 1:] = positions * 1.5


def _initialise_attention(attention: Any) -> None:
    """Start as trained vision transformers end (Trockman & Kolter 2023).

    Queries resemble keys, so that attention begins local; values times output is near -I/2.
    """
    width = attention.q_proj.weight.shape[0]
    noise = torch.randn(width, width) * 0.14 / math.sqrt(width)
    attention.k_proj.weight.copy_(attention.q_proj.weight + noise)
    orthogonal, _ = torch.linalg.qr(torch.randn(width, width))
    attention.v_proj.weight.copy_(0.7 * orthogonal)
    attention.projection_layer.weight.copy_(-0.5 * orthogonal.T + 0.02 * torch.randn(width, width))


def sine_positions(side: int, width: int) -> torch.Tensor:
    """2-D sine-cosine positions, `[side * side, width]`."""
    frequencies = 1.0 / 100 ** (torch.arange(width // 4) / (width // 4))
    angles = torch.arange(side).float()[:, None] * frequencies
    line = torch.cat([angles.sin(), angles.cos()], 1)
    rows, columns = line[:, None].expand(side, side, -1), line[None].expand(side, side, -1)
    return torch.cat([rows, columns], -1).reshape(side * side, width)


def cosine_filters(num: int) -> torch.Tensor:
    """`[num, 3, 14, 14]`: low-frequency cosine filters on opponent colours, randomly rotated.

    A patch embedding that starts by keeping what matters of a patch.
    """
    steps = torch.arange(PATCH_SIZE).float() + 0.5
    orders = torch.arange(PATCH_SIZE).float()
    basis = torch.cos(math.pi * steps[None] * orders[:, None] / PATCH_SIZE)
    basis = basis * math.sqrt(2 / PATCH_SIZE)
    basis[0] *= math.sqrt(0.5)
    chroma = torch.tensor([[1, 1, 1], [1, -1, 0], [0.5, 0.5, -1]])
    chroma = chroma / torch.tensor([3, 2, 1.5]).sqrt()[:, None]
    axes = range(PATCH_SIZE)
    ranked = sorted(
        (u * u + v * v + (0, 14, 14)[c], u, v, c) for u in axes for v in axes for c in range(3)
    )[:num]
    filters = torch.stack(
        [
            chroma[c][:, None, None] * (basis[u][:, None] * basis[v]) * math.sqrt(1 + u * u + v * v)
            for _, u, v, c in ranked
        ]
    )
    rotation, _ = torch.linalg.qr(torch.randn(num, num))
    rotated: torch.Tensor = rotation @ filters.flatten(1)
    return rotated.view(num, 3, PATCH_SIZE, PATCH_SIZE)
