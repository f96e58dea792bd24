"""The crown test: greedy tokens equal transformers' `generate`, whatever else is in the batch."""

import random
from pathlib import Path
from typing import Any

import pytest

from model_runtime.core import EngineCore
from model_runtime.protocol import AbortRequest, AddRequest, SamplingParams
from tests.checkpoints import make_checkpoint
from tests.model_runtime.harness import (
    Oracle,
    PromptMaker,
    Result,
    collect,
    make_core,
    run_until_idle,
)

KINDS = ["t", "it", "ti", "iit", "vt", "ivt", "tivti", "iiiit", "tt", "vvt"]
VARIANTS: list[dict[str, Any]] = [
    {"text": "qwen2", "tied": True},
    {"text": "qwen2", "tied": False, "seed": 1},
    {"text": "qwen3", "tied": True, "seed": 2},
]


@pytest.fixture(scope="module", params=VARIANTS, ids=lambda v: f"{v['text']}-tied={v['tied']}")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"), **request.param)


@pytest.fixture(scope="module")
def truth(folder: Path) -> list[tuple[AddRequest, list[int]]]:
    """Requests of every kind and the tokens that transformers generates for each."""
    oracle = Oracle(folder)
    maker = PromptMaker(oracle.checkpoint, seed=7)
    lengths = random.Random(3)
    requests = [
        maker.request(
            f"r{i}",
            KINDS[i % len(KINDS)],
            SamplingParams(max_tokens=lengths.randint(1, 16), temperature=0.0),
        )
        for i in range(20)
    ]
    return [(request, oracle.generate(request)) for request in requests]


def test_oracle_sees_the_pictures(truth: list[tuple[AddRequest, list[int]]]) -> None:
    answers = {tuple(tokens) for request, tokens in truth if request.spans and len(tokens) > 4}
    assert len(answers) > 5  # a degenerate checkpoint would answer everything alike


def test_alone_equals_generate(folder: Path, truth: list[tuple[AddRequest, list[int]]]) -> None:
    core = make_core(folder)
    for request, expected in truth:
        results: dict[str, Result] = {}
        core.handle(request)
        run_until_idle(core, results)
        assert results[request.request_id].token_ids == expected, request.request_id


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_num_batched_tokens": 16, "max_num_seqs": 16},  # prompts in many chunks
        {"max_tiles_per_step": 2},
        {"block_size": 1},
        {"block_size": 7, "max_num_batched_tokens": 33},
        {"max_num_seqs": 3},
        {"async_scheduling": True},
        {"async_scheduling": True, "max_num_batched_tokens": 16, "max_tiles_per_step": 1},
        {"model_impl": "transformers"},
    ],
    ids=str,
)
def test_batched_equals_generate(
    folder: Path, truth: list[tuple[AddRequest, list[int]]], options: dict[str, Any]
) -> None:
    """All at once, in several shapes of the loop."""
    core = make_core(folder, **{"max_num_batched_tokens": 64, "max_num_seqs": 16, **options})
    results: dict[str, Result] = {}
    for request, _ in truth:
        core.handle(request)
    run_until_idle(core, results)
    for request, expected in truth:
        assert results[request.request_id].token_ids == expected, request.request_id


@pytest.mark.parametrize("runs_ahead", [False, True])
def test_preempted_and_aborted_neighbours_change_nothing(
    folder: Path, truth: list[tuple[AddRequest, list[int]]], runs_ahead: bool
) -> None:
    """A KV cache for two sequences or so; requests join, leave and are aborted at random."""
    longest = max(len(request.token_ids) + len(tokens) for request, tokens in truth) + 1
    bytes_per_token = 2 * 2 * 2 * 16 * 4  # K and V, 2 layers, 2 KV heads of 16, float32
    core = make_core(
        folder,
        block_size=4,
        max_model_len=longest,
        kv_cache_memory_bytes=(longest + 4) * bytes_per_token,
        max_num_batched_tokens=48,
        max_num_seqs=8,
        async_scheduling=runs_ahead,
    )
    chance = random.Random(11)
    results: dict[str, Result] = {}
    pending = [request for request, _ in truth]
    num_preemptions = 0
    while pending or core.has_work:
        for _ in range(chance.randint(0, 3)):
            if pending:
                core.handle(pending.pop(0))
        _visit_by_stranger(core, truth, chance)
        output = core.step()
        collect([out for out in output.outputs if out.request_id != "stranger"], results)
        core.check()
        num_preemptions = output.stats.num_preemptions
    assert num_preemptions > 0
    assert output.stats.num_free_blocks == output.stats.num_blocks
    for request, expected in truth:
        assert results[request.request_id].token_ids == expected, request.request_id


def _visit_by_stranger(
    core: EngineCore, truth: list[tuple[AddRequest, list[int]]], chance: random.Random
) -> None:
    """The stranger of the step before is sent away; sometimes another one joins."""
    core.handle(AbortRequest("stranger"))
    if chance.random() < 0.3:
        other = chance.choice(truth)[0]
        core.handle(
            AddRequest("stranger", other.token_ids, other.sampling, other.spans, other.tiles)
        )
