"""The CUDA path without a GPU: kernels interpreted, graphs that simply run again.

What it shows: the engine built with fused kernels, padded decode buckets, tile buckets, ragged
prefill and one step ahead gives `generate`'s tokens. What it cannot show: the device itself.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("triton")

from model_runtime.core import EngineCore
from model_runtime.native import acceleration, graphs, triton_ops
from model_runtime.native.graphs import decode_buckets
from model_runtime.protocol import AddRequest, SamplingParams
from tests.checkpoints import make_checkpoint
from tests.model_runtime.harness import Oracle, PromptMaker, Result, make_core, run_until_idle

if torch.cuda.is_available():
    pytest.skip("with a GPU the real path is tested", allow_module_level=True)

KINDS = ["t", "it", "vt", "iit", "t", "ti"]


def ragged_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_starts: torch.Tensor,
    key_starts: torch.Tensor,
    max_query_len: int,
    max_key_len: int,
    *,
    scale: float,
    window_size: tuple[int, int],
) -> torch.Tensor:
    """torch's `varlen_attn` for a causal window, one sequence at a time."""
    assert window_size == (-1, 0)
    outputs = []
    for i in range(len(query_starts) - 1):
        q = query[query_starts[i] : query_starts[i + 1]].transpose(0, 1)
        k, v = (x[key_starts[i] : key_starts[i + 1]].transpose(0, 1) for x in (key, value))
        assert q.shape[1] <= max_query_len and k.shape[1] <= max_key_len
        mask = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).tril(k.shape[1] - q.shape[1])
        output = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, scale=scale, enable_gqa=True
        )
        outputs.append(output.transpose(0, 1))
    return torch.cat(outputs)


@pytest.fixture
def pretended_cuda(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Take the CUDA path on the CPU; returns how many graphs were captured and replayed."""
    counts = [0, 0]

    def capture(run: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        counts[0] += 1

        def replay() -> torch.Tensor:
            counts[1] += 1
            return run()

        return replay

    monkeypatch.setattr(acceleration, "is_accelerated", lambda device: True)
    monkeypatch.setattr(acceleration, "count_processors", lambda device: 4)
    monkeypatch.setattr(graphs, "capture_cuda_graph", capture)
    monkeypatch.setattr(triton_ops, "load_varlen", lambda: ragged_attention)
    return counts


def make_requests(oracle: Oracle) -> list[AddRequest]:
    maker = PromptMaker(oracle.checkpoint, seed=3, max_frames=3)
    sampling = SamplingParams(max_tokens=6, temperature=0.0)
    return [maker.request(f"r{i}", kinds, sampling) for i, kinds in enumerate(KINDS)]


def answer(core: EngineCore, requests: list[AddRequest]) -> dict[str, Result]:
    results: dict[str, Result] = {}
    for request in requests:
        core.handle(request)
    run_until_idle(core, results)
    return results


@pytest.mark.parametrize("variant", [{"text": "qwen2"}, {"text": "qwen3", "vision": "6b"}], ids=str)
def test_tokens_equal_generate(
    tmp_path: Path, variant: dict[str, Any], pretended_cuda: list[int]
) -> None:
    """Whole prompts, chunks behind cached prefixes, decodes in padded buckets, a step ahead."""
    oracle = Oracle(make_checkpoint(tmp_path, **variant))
    core = make_core(
        tmp_path,
        max_num_seqs=3,
        max_num_batched_tokens=24,
        max_tiles_per_step=3,
        max_model_len=256,
        async_scheduling=True,
    )
    num_captured, before = pretended_cuda[0], pretended_cuda[1]
    requests = make_requests(oracle)
    results = answer(core, requests)
    for request in requests:
        assert results[request.request_id].token_ids == oracle.generate(request)
    assert num_captured == len(decode_buckets(3)) + len([1, 2, 3])
    assert pretended_cuda[1] > before


def test_buckets_cover_every_batch() -> None:
    for max_num_seqs in (1, 3, 4, 9, 64, 70, 256):
        sizes = decode_buckets(max_num_seqs)
        assert sizes == sorted(set(sizes)) and sizes[-1] == max_num_seqs
