"""Weights in fewer bits: close to the exact model, and through the whole engine."""

import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from model_runtime.checkpoint import CheckpointError, load_checkpoint
from model_runtime.loader import choose_impl, load_model
from model_runtime.model import Model
from model_runtime.native.linear import Linear
from model_runtime.protocol import EngineConfig, Quantization, SamplingParams
from tests.model_runtime.harness import (
    PromptMaker,
    Result,
    make_core,
    prompt_logits,
    run_until_idle,
)

CPU = torch.device("cpu")
METHODS: list[Quantization] = ["int8", "bitsandbytes", "bitsandbytes-8bit"]
MIN_SIMILARITY = {"int8": 0.99, "bitsandbytes": 0.9, "bitsandbytes-8bit": 0.98}


def load(folder: Path, quantization: Quantization | None) -> Model:
    config = EngineConfig(checkpoint_path=str(folder), quantization=quantization)
    return load_model(config, load_checkpoint(folder, ""), CPU)


@pytest.mark.filterwarnings("ignore")  # the libraries' own
@pytest.mark.parametrize("method", METHODS)
def test_logits_stay_close(tiny_checkpoint: Path, method: Quantization) -> None:
    exact, model = load(tiny_checkpoint, None), load(tiny_checkpoint, method)
    pixels = torch.randint(0, 256, (1, 56, 56, 3), dtype=torch.uint8)
    token_ids = [5, *[load_checkpoint(tiny_checkpoint, "").image_token_id] * 4, *range(20, 60)]
    expected, actual = (prompt_logits(m, token_ids, 1, pixels).float() for m in (exact, model))
    similarity = F.cosine_similarity(actual, expected, dim=-1).mean()
    assert MIN_SIMILARITY[method] < similarity < 1 - 1e-6  # close, and not the exact one


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", METHODS)
def test_the_engine_runs(tiny_checkpoint: Path, method: Quantization) -> None:
    core = make_core(tiny_checkpoint, quantization=method)
    maker = PromptMaker(load_checkpoint(tiny_checkpoint, ""), seed=1)
    results: dict[str, Result] = {}
    for i, kinds in enumerate(["t", "it", "vt"]):
        params = SamplingParams(max_tokens=5, temperature=0.0, ignore_eos=True)
        core.handle(maker.request(f"r{i}", kinds, params))
    run_until_idle(core, results)
    assert [len(result.token_ids) for result in results.values()] == [5, 5, 5]


def test_int8_products_are_close() -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(96, 64), torch.randn(96), torch.randn(5, 64)
    exact, whole = Linear(weight, bias), Linear(weight, bias, is_int8=True)
    torch.testing.assert_close(whole(x), exact(x), rtol=0.05, atol=0.3)
    assert whole(x.bfloat16()).dtype == torch.bfloat16


def test_each_method_names_its_implementation() -> None:
    def impl(quantization: Quantization | None, model_impl: str, device: str = "cpu") -> str:
        config = EngineConfig(
            checkpoint_path="",
            quantization=quantization,
            model_impl=model_impl,  # type: ignore[arg-type]
        )
        return choose_impl(config, torch.device(device))

    assert impl(None, "auto") == "auto"
    assert impl("int8", "auto") == "native"
    assert impl("bitsandbytes", "auto") == "transformers"
    with pytest.raises(CheckpointError, match="needs --model-impl native"):
        impl("int8", "transformers")
    with pytest.raises(CheckpointError, match="needs --model-impl transformers"):
        impl("bitsandbytes-8bit", "native")
    with pytest.raises(CheckpointError, match="for CPUs"):
        impl("int8", "auto", "cuda")


def test_missing_packages_are_named(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "bitsandbytes" else find_spec(name, *rest),
    )
    with pytest.raises(CheckpointError, match=r"pip install 'internvl-server\[bitsandbytes\]'"):
        load(tiny_checkpoint, "bitsandbytes")
