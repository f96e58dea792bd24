"""The README's table of memory is what the models' shapes add up to, and what the doctor reckons.

Sizes are those of the published configurations; transformers builds each model without memory.
"""

import dataclasses
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import InternVLConfig, InternVLForConditionalGeneration

from server.doctor.model import held_bytes

README = Path(__file__).parent.parent / "README.md"
KV_TOKENS = 8192
NF4_BYTES = 0.5 + 4 / 64  # a float32 scale for every 64 weights
SMALL_TOWER = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
LARGE_TOWER = {
    "hidden_size": 3200,
    "num_hidden_layers": 45,
    "num_attention_heads": 25,
    "intermediate_size": 12800,
    "norm_type": "rms_norm",
    "use_qk_norm": True,
}


@dataclass(frozen=True, slots=True)
class Decoder:
    """A Qwen2 or Qwen3 decoder with an output head of its own. `head_dim`: Qwen3's."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inter: int
    head_dim: int | None = None

    def config(self) -> dict[str, Any]:
        sizes: dict[str, Any] = {
            "hidden_size": self.hidden,
            "intermediate_size": self.inter,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "tie_word_embeddings": False,
        }
        if self.head_dim is None:
            return {"model_type": "qwen2", "vocab_size": 151674, **sizes}
        return {"model_type": "qwen3", "vocab_size": 151936, "head_dim": self.head_dim, **sizes}

    def kv_bytes(self) -> int:
        head_dim = self.head_dim or self.hidden // self.heads
        return 2 * self.layers * self.kv_heads * head_dim * 2 * KV_TOKENS


MODELS = {
    "InternVL3-1B-hf": Decoder(896, 24, 14, 2, 4864),
    "InternVL3-2B-hf": Decoder(1536, 28, 12, 2, 8960),
    "InternVL3-8B-hf": Decoder(3584, 28, 28, 4, 18944),
    "InternVL3-14B-hf": Decoder(5120, 48, 40, 8, 13824),
    "InternVL3-38B-hf": Decoder(5120, 64, 40, 8, 27648),
    "InternVL3-78B-hf": Decoder(8192, 80, 64, 8, 29568),
    "InternVL3_5-1B-HF": Decoder(1024, 28, 16, 8, 3072, 128),
    "InternVL3_5-2B-HF": Decoder(2048, 28, 16, 8, 6144, 128),
    "InternVL3_5-4B-HF": Decoder(2560, 36, 32, 8, 9728, 128),
    "InternVL3_5-8B-HF": Decoder(4096, 36, 32, 8, 12288, 128),
    "InternVL3_5-14B-HF": Decoder(5120, 40, 40, 8, 17408, 128),
    "InternVL3_5-38B-HF": Decoder(5120, 64, 64, 8, 25600, 128),
}


def gigabytes(num_bytes: float) -> str:
    number = num_bytes / 1e9
    return f"{number:.1f}" if number < 9.95 else f"{number:.0f}"


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of weights."""

    bfloat16: int
    int8: int
    bitsandbytes_8bit: int
    bitsandbytes: int


@cache
def weights(name: str) -> Memory:
    is_large = "-38B" in name or "-78B" in name
    config = InternVLConfig(
        vision_config=LARGE_TOWER if is_large else {**SMALL_TOWER, "attention_bias": True},
        text_config=MODELS[name].config(),
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        sizes = {
            path: weight.numel()
            for path, weight in InternVLForConditionalGeneration(config).named_parameters()
        }
    total = sum(sizes.values())
    products = sum(
        n for path, n in sizes.items() if "language_model" in path and path.endswith("proj.weight")
    )
    with_head = products + sizes["lm_head.weight"]
    return Memory(
        bfloat16=2 * total,
        int8=2 * (total - with_head) + with_head,
        bitsandbytes_8bit=2 * (total - products) + products,
        bitsandbytes=int(2 * (total - products) + NF4_BYTES * products),
    )


@pytest.mark.parametrize("name", MODELS)
def test_the_readme_tells_the_memory_of(name: str) -> None:
    memory = weights(name)
    numbers = (*dataclasses.astuple(memory), MODELS[name].kv_bytes())
    cells = [name, f"{memory.bfloat16 / 2e9:.2f} B", *map(gigabytes, numbers)]
    assert f"| {' | '.join(cells)} |" in README.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", MODELS)
def test_the_doctor_reckons_about_the_same(name: str) -> None:
    memory = dataclasses.asdict(weights(name))
    for quantization, computed in memory.items():
        held = held_bytes(memory["bfloat16"], quantization.replace("_", "-"))
        assert 0.85 < held / computed < 1.2, quantization
