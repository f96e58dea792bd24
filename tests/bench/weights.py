"""Writes a shape's random-weight checkpoint in the Hugging Face layout, once.

Knows transformers' classes and nothing of the engine. The weights are noise: speed does not
depend on them. Nothing is initialised twice: the module is built without memory, then filled.
"""

import hashlib
import logging
import math
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    GenerationConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    Qwen2Config,
)

from tests.bench.shapes import PATCH, Shape

CACHE = Path("runs/bench")
_SEED = 0

logger = logging.getLogger(__name__)


def prepare_checkpoint(shape: Shape, cache: Path = CACHE) -> Path:
    """The folder of `shape`'s checkpoint, written if it is not there. Never left half-written."""
    digest = hashlib.sha256(repr(shape).encode()).hexdigest()[:8]
    folder = cache / f"{shape.name}-{digest}"
    if folder.is_dir():
        return folder
    transformers.logging.disable_progress_bar()
    logger.info("writing random weights to %s (once)", folder)
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    _write(shape, unfinished)
    unfinished.rename(folder)
    return folder


def _write(shape: Shape, folder: Path) -> None:
    config = _config(shape)
    with torch.device("meta"):
        model = InternVLForConditionalGeneration(config).to(shape.dtype)
    model.to_empty(device="cpu")
    model.tie_weights()
    _fill(model)
    eos, pad = shape.num_text_ids + 2, shape.num_text_ids
    model.generation_config = GenerationConfig(eos_token_id=[eos, pad], pad_token_id=pad)
    model.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")


@torch.no_grad()
def _fill(model: torch.nn.Module) -> None:
    """Matrices keep the size of what flows through them; norms are one, biases nought."""
    generator = torch.Generator().manual_seed(_SEED)
    for name, weight in model.named_parameters():
        if weight.dim() > 1:
            is_table = "embed" in name and "projection" not in name
            std = 0.5 if is_table else 1 / math.sqrt(weight[0].numel())
            weight.normal_(0.0, std, generator=generator)
        else:
            weight.fill_(0.0 if name.endswith("bias") else 0.1 if "lambda" in name else 1.0)


def _config(shape: Shape) -> Any:
    vision, text = shape.vision, shape.text
    vision_config = InternVLVisionConfig(
        hidden_size=vision.hidden,
        num_hidden_layers=vision.layers,
        num_attention_heads=vision.heads,
        intermediate_size=vision.inter,
        image_size=shape.tile,
        patch_size=PATCH,
        attention_bias=True,
        norm_type="layer_norm",
    )
    text_config = Qwen2Config(
        vocab_size=shape.vocab,
        hidden_size=text.hidden,
        num_hidden_layers=text.layers,
        num_attention_heads=text.heads,
        num_key_value_heads=text.kv_heads,
        intermediate_size=text.inter,
        max_position_embeddings=shape.context_len,
        rope_parameters=dict(shape.rope),
        use_sliding_window=False,
        tie_word_embeddings=shape.is_tied,
        bos_token_id=shape.num_text_ids,
        eos_token_id=shape.num_text_ids + 2,
        pad_token_id=shape.num_text_ids,
    )
    config = InternVLConfig(
        vision_config=vision_config,
        text_config=text_config,
        image_token_id=shape.image_token_id,
        image_seq_length=shape.tokens_per_tile,
        tie_word_embeddings=shape.is_tied,
    )
    config.architectures = ["InternVLForConditionalGeneration"]
    return config
