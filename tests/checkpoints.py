"""Makes tiny random-weight InternVL checkpoints in the Hugging Face layout, for tests only.

Knows torch and transformers; nothing in the product does what this file does. The special
tokens stand in the published order, so the traps are the published ones too: `<video>` has
an id but no row in the embedding table. Weights are scaled so that the argmax depends on the
text and on the pixels, and so that generation rarely ends by itself.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    Qwen2Config,
    Qwen2Tokenizer,
    Qwen3Config,
)

PATCH_SIZE = 14
_NUM_MERGES = 128
_QWEN_PLAIN = ("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
_QWEN_PLAIN += ("<|fim_pad|>", "<|repo_name|>", "<|file_sep|>")  # added, but not special
_QWEN_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_QWEN_SPECIAL += ("<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>")
_QWEN_SPECIAL += ("<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>")
_QWEN_SPECIAL += ("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
_INTERNVL = ("<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>")
_INTERNVL += ("<box>", "</box>", "<video>")
_MEDIA_TOKENS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
_CORPUS = (
    "system user assistant You are a helpful assistant. Frame1: Frame2: Frame10: ",
    "What is in the image? The quick brown fox jumps over the lazy dog, and then describes it. ",
    "def add(a, b):\n    return a + b\n\n\nHello world! 12345 67890 \n\n user\n  assistant\n ",
)
# The template published with InternVL3-hf.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n'}}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}{{ '<IMG_CONTEXT>\\n' }}"
    "{% elif content['type'] == 'video' %}{{ '<video>\\n' }}"
    "{% elif content['type'] == 'text' %}{{ content['text'] }}"
    "{% endif %}{% endfor %}{% endif %}{{'<|im_end|>\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|im_start|>assistant\\n' }}{% endif %}"
)


def make_checkpoint(
    folder: Path,
    *,
    seed: int = 0,
    tied: bool = True,
    text: Literal["qwen2", "qwen3"] = "qwen2",
    vision: Literal["300m", "6b"] = "300m",
    shard_bytes: int | None = None,
    tile: int = 56,
    context_len: int = 2048,
    num_text_layers: int = 2,
    max_tiles: int = 12,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write a checkpoint of about 0.3 M parameters into `folder` and return `folder`.

    A tile of 56 pixels is 16 patches and 4 tokens. The same arguments give the same weights.
    """
    vocab, merges = _train_bpe()
    tokenizer = make_tokenizer(vocab, merges)
    config = _make_config(tokenizer, tied, text, vision, tile, context_len, num_text_layers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = InternVLForConditionalGeneration(config)
        _spread_weights(model)
        _quieten(model, tokenizer)
    model.generation_config = _make_generation_config(config)
    shards = {} if shard_bytes is None else {"max_shard_size": shard_bytes}
    model.to(dtype).eval().save_pretrained(folder, **shards)
    tokenizer.save_pretrained(folder)
    _write_processor(folder, tile, max_tiles)
    return folder


def make_tokenizer(vocab: dict[str, int], merges: list[tuple[str, str]]) -> Qwen2Tokenizer:
    """InternVL's tokenizer over a byte-level BPE: Qwen2.5's special tokens, then InternVL's."""
    specials = [AddedToken(name, special=True, normalized=False) for name in _QWEN_SPECIAL]
    plain = [AddedToken(name, special=False, normalized=False) for name in _QWEN_PLAIN]
    internvl = [AddedToken(name, special=True, normalized=False) for name in _INTERNVL]
    added = [*specials, *plain, *internvl]
    # The published order puts the plain tool and fill-in tokens between the two special groups.
    return Qwen2Tokenizer(
        vocab=vocab,
        merges=merges,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token=None,
        model_max_length=8192,
        added_tokens_decoder={len(vocab) + i: token for i, token in enumerate(added)},
        extra_special_tokens=_MEDIA_TOKENS,
        additional_special_tokens=[*_QWEN_SPECIAL[1:], *_INTERNVL],
        chat_template=CHAT_TEMPLATE,
    )


@lru_cache(maxsize=1)
def _train_bpe() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A byte-level BPE of 256 bytes and a few merges. Returns `(vocab, merges)`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + _NUM_MERGES, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [(left, right) for left, right in model["merges"]]


def _make_config(
    tokenizer: Qwen2Tokenizer,
    tied: bool,
    text: str,
    vision: str,
    tile: int,
    context_len: int,
    num_layers: int,
) -> InternVLConfig:
    image_token_id = tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    config = InternVLConfig(
        vision_config=_make_vision_config(tile, is_6b=vision == "6b"),
        text_config=_make_text_config(tokenizer, tied, text, context_len, num_layers),
        image_token_id=image_token_id,
        image_seq_length=(tile // PATCH_SIZE) ** 2 // 4,
        downsample_ratio=0.5,
        tie_word_embeddings=tied,
    )
    config.architectures = ["InternVLForConditionalGeneration"]
    return config


def _make_vision_config(tile: int, *, is_6b: bool) -> InternVLVisionConfig:
    """InternViT-300M's variant, or 6B's: RMS norms, normed queries and keys, no q/k/v biases."""
    return InternVLVisionConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=tile,
        patch_size=PATCH_SIZE,
        attention_bias=not is_6b,
        use_qk_norm=is_6b,
        norm_type="rms_norm" if is_6b else "layer_norm",
        layer_norm_eps=1e-6,
        layer_scale_init_value=0.1,
    )


def _make_text_config(
    tokenizer: Qwen2Tokenizer, tied: bool, text: str, context_len: int, num_layers: int
) -> Qwen2Config | Qwen3Config:
    shape: dict[str, Any] = {
        "vocab_size": tokenizer.convert_tokens_to_ids("<video>"),  # <video> has no row
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": num_layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": context_len,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        "rms_norm_eps": 1e-6,
        "use_sliding_window": False,
        "tie_word_embeddings": tied,
        "bos_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
        "pad_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
    }
    return Qwen3Config(head_dim=16, **shape) if text == "qwen3" else Qwen2Config(**shape)


def _make_generation_config(config: InternVLConfig) -> GenerationConfig:
    text = config.text_config
    return GenerationConfig(
        bos_token_id=text.bos_token_id,
        eos_token_id=[text.eos_token_id, text.bos_token_id],
        pad_token_id=text.pad_token_id,
        do_sample=False,
    )


def _write_processor(folder: Path, tile: int, max_tiles: int) -> None:
    """The processor's files, as published; by hand, since the video class needs torchvision."""
    pixels: dict[str, Any] = {
        "do_resize": True,
        "size": {"height": tile, "width": tile},
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "do_convert_rgb": True,
    }
    image = {"crop_to_patches": False, "min_patches": 1, "max_patches": max_tiles}
    kind = {"processor_class": "InternVLProcessor"}
    files: dict[str, dict[str, Any]] = {
        "preprocessor_config.json": {
            **kind,
            "image_processor_type": "GotOcr2ImageProcessor",
            **pixels,
            **image,
        },
        "video_preprocessor_config.json": {
            **kind,
            "video_processor_type": "InternVLVideoProcessor",
            **pixels,
        },
        "processor_config.json": {**kind, "image_seq_length": (tile // PATCH_SIZE) ** 2 // 4},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


def _spread_weights(model: InternVLForConditionalGeneration) -> None:
    """Replace the flat initial weights: every matrix matters, no norm or bias is constant."""
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.randn(weight.shape)
            if weight.dim() == 1:  # norms, biases, layer scales: around what they were
                weight.add_(noise * 0.1)
            elif "embed" in name or "cls_token" in name:
                weight.copy_(noise * 0.5)
            else:
                fan_in = weight[0].numel()
                weight.copy_(noise * 1.5 / fan_in**0.5)


def _quieten(model: InternVLForConditionalGeneration, tokenizer: Qwen2Tokenizer) -> None:
    """Make special tokens unlikely outputs: their logits lie near zero, never at the top."""
    head = model.get_output_embeddings().weight
    first = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    with torch.no_grad():
        head[first:] *= 0.1
