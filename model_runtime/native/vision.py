"""InternViT, the pixel shuffle and the projector: tiles in, language embeddings out.

Both published towers are here: 300M (layer norms, biases) and 6B (RMS norms, normed queries
and keys). Every tile has the same size, so a batch of tiles is a plain rectangle.
"""

import torch
import torch.nn.functional as F

from model_runtime.native.config import VisionConfig
from model_runtime.native.linear import Linear
from model_runtime.native.weights import CheckpointWeights

_ROOT = "vision_tower."
_LAYER_NORM_EPS = 1e-5  # torch's default: the projector's norm has no eps of its own
_QK_NORM_EPS = 1e-6


class Norm:
    """A layer norm, or an RMS norm when the checkpoint's tower has those."""

    def __init__(
        self, weights: CheckpointWeights, prefix: str, eps: float, *, is_rms: bool = False
    ) -> None:
        self._weight = weights.take(f"{prefix}.weight")
        self._bias = None if is_rms else weights.take(f"{prefix}.bias")
        self._eps = eps

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        shape = (x.shape[-1],)
        if self._bias is None:
            return F.rms_norm(x, shape, self._weight, self._eps)
        return F.layer_norm(x, shape, self._weight, self._bias, self._eps)


class VisionLayer:
    """Attention and MLP, each behind a norm and scaled before it joins the residual."""

    def __init__(self, config: VisionConfig, weights: CheckpointWeights, layer: int) -> None:
        prefix = f"{_ROOT}encoder.layer.{layer}."
        attention = f"{prefix}attention."
        self._num_heads = config.num_heads
        self._norms = [
            Norm(weights, f"{prefix}layernorm_{place}", config.norm_eps, is_rms=config.is_rms_norm)
            for place in ("before", "after")
        ]
        self._qkv = _merged_linear(weights, [f"{attention}{part}_proj" for part in "qkv"])
        self._qk_norms = [
            Norm(weights, f"{attention}{part}_norm", _QK_NORM_EPS, is_rms=True)
            for part in "qk"
            if f"{attention}{part}_norm.weight" in weights
        ]
        self._project = _scaled_linear(weights, f"{attention}projection_layer", f"{prefix}lambda_1")
        self._up = _linear(weights, f"{prefix}mlp.fc1", is_gelu=True)
        self._down = _scaled_linear(weights, f"{prefix}mlp.fc2", f"{prefix}lambda_2")

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """`[num_tiles, 1 + patches, hidden]`, same out; may reuse its argument's memory."""
        x = self._project.add_to(x, self._attend(self._norms[0](x)))
        return self._down.add_to(x, self._up(self._norms[1](x)))

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        num_tiles, num_positions, hidden = x.shape
        query, key, value = torch.split(self._qkv(x), hidden, dim=-1)
        if self._qk_norms:
            query, key = self._qk_norms[0](query), self._qk_norms[1](key)
        query, key, value = (
            part.view(num_tiles, num_positions, self._num_heads, -1).transpose(1, 2)
            for part in (query, key, value)
        )
        output = F.scaled_dot_product_attention(query, key, value)
        return output.transpose(1, 2).reshape(x.shape)


class VisionTower:
    """Normalised tiles → embeddings of the language model."""

    def __init__(self, config: VisionConfig, weights: CheckpointWeights) -> None:
        self._config = config
        embeddings = f"{_ROOT}embeddings."
        self._patches = _linear(weights, f"{embeddings}patch_embeddings.projection")
        positions = weights.take(f"{embeddings}position_embeddings")[0]
        self._first = weights.take(f"{embeddings}cls_token")[0] + positions[:1]
        self._positions = positions[1:]
        self._layers = [VisionLayer(config, weights, i) for i in range(config.num_layers)]
        has_last_norm = f"{_ROOT}layernorm.weight" in weights
        self._last_norm = (
            Norm(weights, f"{_ROOT}layernorm", config.norm_eps) if has_last_norm else None
        )
        self._projector_norm = Norm(weights, "multi_modal_projector.layer_norm", _LAYER_NORM_EPS)
        self._project_1 = _linear(weights, "multi_modal_projector.linear_1", is_gelu=True)
        self._project_2 = _linear(weights, "multi_modal_projector.linear_2")
        self.tile_flops = 2.0 * weights.num_parameters(_ROOT) * len(self._positions)

    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """`[num_tiles, 3, height, width]` → `[num_tiles, tokens_per_tile, text hidden]`."""
        x = self._patches(self._cut(pixel_values)) + self._positions
        x = torch.cat([self._first.expand(len(x), 1, -1), x], dim=1)
        for layer in self._layers:
            x = layer(x)
        if self._last_norm is not None:
            x = self._last_norm(x)
        shuffled = self._shuffle(x[:, 1:])
        return self._project_2(self._project_1(self._projector_norm(shuffled)))

    def _cut(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Patches as rows, `[num_tiles, patches, 3 * patch_height * patch_width]`.

        A convolution whose stride is its kernel is a matrix product over patches.
        """
        num_tiles, channels, height, width = pixel_values.shape
        rows, columns = height // self._config.patch_height, width // self._config.patch_width
        patches = pixel_values.view(num_tiles, channels, rows, -1, columns, width // columns)
        return patches.permute(0, 2, 4, 1, 3, 5).reshape(num_tiles, rows * columns, -1)

    def _shuffle(self, x: torch.Tensor) -> torch.Tensor:
        """Pixel shuffle: each square of `merge` x `merge` patches becomes one wider token.

        Within a token, the square's patches follow each other row by row.
        """
        num_tiles, num_patches, hidden = x.shape
        side, merge = round(num_patches**0.5), self._config.merge
        squares = x.view(num_tiles, side // merge, merge, side // merge, merge, hidden)
        return squares.permute(0, 1, 3, 2, 4, 5).reshape(num_tiles, -1, merge * merge * hidden)


def _linear(weights: CheckpointWeights, prefix: str, *, is_gelu: bool = False) -> Linear:
    weight = weights.take(f"{prefix}.weight").flatten(1)
    bias = weights.take_optional(f"{prefix}.bias")
    return Linear(weight, bias, "gelu" if is_gelu else "none")


def _scaled_linear(weights: CheckpointWeights, prefix: str, scale_name: str) -> Linear:
    """A projection with the layer scale that follows it multiplied into it, in float32."""
    scale = weights.take(scale_name).float()
    weight, bias = weights.take(f"{prefix}.weight"), weights.take(f"{prefix}.bias")
    scaled = (scale[:, None] * weight.float()).to(weight.dtype)
    return Linear(scaled, (scale * bias.float()).to(bias.dtype))


def _merged_linear(weights: CheckpointWeights, prefixes: list[str]) -> Linear:
    weight = weights.take_merged([f"{prefix}.weight" for prefix in prefixes])
    has_bias = f"{prefixes[0]}.bias" in weights
    biases = [f"{prefix}.bias" for prefix in prefixes]
    return Linear(weight, weights.take_merged(biases) if has_bias else None)
