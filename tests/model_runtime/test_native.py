"""The native model against transformers' own modules: every variant, every way of storing it."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import InternVLForConditionalGeneration

from model_runtime.checkpoint import CheckpointError, load_checkpoint
from model_runtime.loader import load_model
from model_runtime.model import Model, Normaliser
from model_runtime.native.weights import canonical_name
from model_runtime.protocol import EngineConfig
from tests.checkpoints import make_checkpoint
from tests.model_runtime.harness import make_core, prompt_logits

CPU = torch.device("cpu")
VARIANTS: list[dict[str, Any]] = [
    {"text": "qwen2", "tied": True},
    {"text": "qwen2", "tied": False, "seed": 1},
    {"text": "qwen3", "tied": True, "seed": 2},
    {"text": "qwen3", "tied": False, "vision": "6b", "seed": 3},
    {"text": "qwen2", "tied": False, "shard_bytes": 100_000, "seed": 4},
]


@pytest.fixture(scope="module", params=VARIANTS, ids=str)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"), **request.param)


def load(folder: Path, impl: str, dtype: str = "auto") -> Model:
    config = EngineConfig(checkpoint_path=str(folder), model_impl=impl, dtype=dtype)  # type: ignore[arg-type]
    return load_model(config, load_checkpoint(folder, str(folder)), CPU)


@torch.inference_mode()
def oracle_logits(folder: Path, token_ids: list[int], pixels: torch.Tensor) -> torch.Tensor:
    model: Any = InternVLForConditionalGeneration.from_pretrained(folder).eval()
    values = Normaliser(load_checkpoint(folder, "").tiles, CPU)(pixels)
    logits: torch.Tensor = model(torch.tensor([token_ids]), pixel_values=values).logits[0]
    return logits


@pytest.mark.parametrize("impl", ["native", "transformers"])
def test_logits_equal_transformers(folder: Path, impl: str) -> None:
    """Every position of a prompt with text and three tiles, within 1e-4 of the largest logit."""
    checkpoint = load_checkpoint(folder, "")
    pixels = torch.randint(0, 256, (3, 56, 56, 3), dtype=torch.uint8)
    placeholders = [checkpoint.image_token_id] * 3 * checkpoint.tiles.tokens_per_tile
    token_ids = [5, 6, 7, *placeholders, *range(20, 60)]
    expected = oracle_logits(folder, token_ids, pixels)
    actual = prompt_logits(load(folder, impl), token_ids, start=3, pixels=pixels)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_close(folder: Path, dtype: str) -> None:
    pixels = torch.randint(0, 256, (1, 56, 56, 3), dtype=torch.uint8)
    model, exact = load(folder, "native", dtype), load(folder, "native")
    assert model.dtype == getattr(torch, dtype)
    placeholders = [load_checkpoint(folder, "").image_token_id] * 4
    token_ids = [5, *placeholders, *range(20, 40)]
    actual, expected = (prompt_logits(m, token_ids, 1, pixels).float() for m in (model, exact))
    closeness = torch.nn.functional.cosine_similarity(actual, expected, dim=-1)
    assert closeness.min() > 0.99


def test_auto_takes_native_and_says_so(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "model_runtime"):
        assert load(folder, "auto").impl == "native"
    assert caplog.messages == ["model implementation: native"]


def edit_config(folder: Path, part: str, **changes: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config[part].update(changes)
    path.write_text(json.dumps(config))


def test_auto_falls_back_for_what_native_does_not_know(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_checkpoint(tmp_path)
    yarn = {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4}
    edit_config(tmp_path, "text_config", rope_parameters=yarn)
    with caplog.at_level(logging.INFO, "model_runtime"):
        assert load(tmp_path, "auto").impl == "transformers"
    assert "RoPE of type 'yarn'" in caplog.text
    with pytest.raises(CheckpointError, match="--model-impl native: .*yarn"):
        load(tmp_path, "native")


def test_a_tensor_that_nobody_knows_is_not_ignored(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file) | {"language_model.adapter.weight": torch.ones(2)}
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"language_model\.adapter\.weight"):
        load(tmp_path, "native")


@pytest.mark.parametrize("impl", ["native", "transformers"])
@pytest.mark.parametrize("is_tied", [True, False])
def test_the_file_decides_whether_the_head_is_tied(
    tmp_path: Path, is_tied: bool, impl: str
) -> None:
    """The config says the contrary of what is stored; the stored head counts."""
    make_checkpoint(tmp_path, tied=is_tied)
    hidden = torch.randn(2, 64)
    expected = load(tmp_path, impl).logits(hidden)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = not is_tied
    path.write_text(json.dumps(config))
    torch.testing.assert_close(load(tmp_path, impl).logits(hidden), expected)


def test_sliding_windows_are_refused(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    edit_config(tmp_path, "text_config", layer_types=["sliding_attention", "full_attention"])
    with pytest.raises(CheckpointError, match="sliding_attention"):
        load(tmp_path, "auto")


def test_missing_weights_are_named(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no \\*.safetensors"):
        make_core(tmp_path)


@pytest.mark.parametrize(
    ("stored", "canonical"),
    [
        ("language_model.model.layers.0.x", "language_model.layers.0.x"),
        ("model.language_model.layers.0.x", "language_model.layers.0.x"),
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("lm_head.weight", "lm_head.weight"),
        ("model.vision_tower.encoder.y", "vision_tower.encoder.y"),
        ("multi_modal_projector.z", "multi_modal_projector.z"),
    ],
)
def test_both_published_namings_are_known(stored: str, canonical: str) -> None:
    assert canonical_name(stored) == canonical
