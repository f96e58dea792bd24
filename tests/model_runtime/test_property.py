"""The promise as a property: whatever is asked, beside whatever, the tokens are `generate`'s.

Each trial draws a checkpoint, an implementation, the shape of the loop, a KV cache that may
hold little more than one sequence, and a traffic of requests with random arrivals, shared
prefixes, repeated pictures, and strangers that are aborted. Greedy float32 tokens of every
request must equal transformers' own `generate`, asked alone.
"""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from model_runtime.core import EngineCore
from model_runtime.protocol import AbortRequest, AddRequest, SamplingParams
from tests.checkpoints import make_checkpoint
from tests.model_runtime.harness import Oracle, PromptMaker, Result, collect, make_core

CHECKPOINTS: list[dict[str, Any]] = [
    {"text": "qwen2", "tied": True},
    {"text": "qwen2", "tied": False, "seed": 1},
    {"text": "qwen3", "tied": True, "vision": "6b", "seed": 2},
    {"text": "qwen3", "tied": False, "seed": 3},
]
REQUESTS_PER_CHECKPOINT = 80  # 320 in all, each computed once by the oracle
TRIALS_PER_IMPL = 3
BYTES_PER_TOKEN = 2 * 2 * 2 * 16 * 4  # K and V, 2 layers, 2 KV heads of 16, float32
PARTS = ["t", "i", "v", "t", "i"]


@dataclass
class Asked:
    request: AddRequest
    expected: list[int]


@pytest.fixture(scope="module", params=CHECKPOINTS, ids=lambda c: f"{c['text']}-{c['tied']}")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"), **request.param)


@pytest.fixture(scope="module")
def asked(folder: Path) -> list[Asked]:
    """Random requests with the oracle's answers. A third continue an earlier prompt."""
    oracle, chance = Oracle(folder), random.Random(17)
    maker = PromptMaker(oracle.checkpoint, seed=17, max_frames=16)
    requests: list[AddRequest] = []
    for i in range(REQUESTS_PER_CHECKPOINT):
        sampling = SamplingParams(max_tokens=chance.randint(1, 14), temperature=0.0)
        kinds = "".join(chance.choice(PARTS) for _ in range(chance.randint(1, 4)))
        fresh = maker.request(f"r{i}", kinds, sampling)
        is_turn = bool(requests) and chance.random() < 0.35
        requests.append(continued(chance.choice(requests), fresh) if is_turn else fresh)
    return [Asked(request, oracle.generate(request)) for request in requests]


def continued(earlier: AddRequest, fresh: AddRequest) -> AddRequest:
    """`fresh` with `earlier` in front, as the next turn of a conversation has it."""
    offset = len(earlier.token_ids)
    if offset > 250:
        return fresh
    moved = [type(s)(s.start + offset, s.num_tokens, s.content_hash) for s in fresh.spans]
    return AddRequest(
        fresh.request_id,
        earlier.token_ids + fresh.token_ids,
        fresh.sampling,
        earlier.spans + moved,
        earlier.tiles + fresh.tiles,
    )


def draw_core(
    folder: Path, impl: str, asked: list[Asked], chance: random.Random, *, is_tight: bool
) -> EngineCore:
    """A random shape of the loop. `is_tight`: a KV cache for little more than one sequence."""
    longest = max(len(a.request.token_ids) + a.request.sampling.max_tokens for a in asked)
    block_size = chance.choice([1, 4, 7, 16])
    num_slots = longest + 2 * block_size if is_tight else chance.choice([2, 20]) * longest
    max_num_seqs = 16 if is_tight else chance.choice([2, 5, 16])
    return make_core(
        folder,
        model_impl=impl,
        block_size=block_size,
        max_model_len=longest + 1,
        kv_cache_memory_bytes=(num_slots + block_size) * BYTES_PER_TOKEN,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=chance.choice([16, 40, 200]),
        max_tiles_per_step=chance.choice([1, 3, 16]),
        mm_embedding_cache_bytes=chance.choice([0, 20_000, 1 << 20]),
        async_scheduling=chance.random() < 0.5,
    )


def run_traffic(
    core: EngineCore, asked: list[Asked], chance: random.Random
) -> tuple[dict[str, Result], int]:
    """Everybody arrives at a random step; strangers come and are sent away; books are checked.

    The results, and how often a sequence had to give its blocks back.
    """
    results: dict[str, Result] = {}
    pending = chance.sample(asked, len(asked))
    stranger = 0
    while pending or core.has_work:
        for _ in range(chance.choice([0, 0, 1, 2, 5])):
            if pending:
                core.handle(pending.pop().request)
        if pending and chance.random() < 0.1:
            stranger += 1
            core.handle(AbortRequest(f"stranger{stranger - 1}"))
            core.handle(renamed(chance.choice(asked).request, f"stranger{stranger}"))
        output = core.step()
        collect([o for o in output.outputs if not o.request_id.startswith("stranger")], results)
        core.check()
    assert output.stats.num_free_blocks == output.stats.num_blocks
    return results, output.stats.num_preemptions


def renamed(request: AddRequest, name: str) -> AddRequest:
    return AddRequest(name, request.token_ids, request.sampling, request.spans, request.tiles)


@pytest.mark.parametrize("impl", ["native", "transformers"])
@pytest.mark.parametrize("trial", range(TRIALS_PER_IMPL))
def test_tokens_equal_generate_in_any_traffic(
    folder: Path, asked: list[Asked], impl: str, trial: int
) -> None:
    chance = random.Random(f"{impl}/{trial}")
    core = draw_core(folder, impl, asked, chance, is_tight=trial == 0)
    results, num_preemptions = run_traffic(core, asked, chance)
    assert num_preemptions > 0 or trial > 0
    for one in asked:
        assert results[one.request.request_id].token_ids == one.expected, one.request.request_id


def test_alone_each_equals_generate(folder: Path, asked: list[Asked]) -> None:
    core = make_core(folder)
    for one in asked:
        results: dict[str, Result] = {}
        core.handle(one.request)
        while core.has_work:
            collect(core.step().outputs, results)
        assert results[one.request.request_id].token_ids == one.expected
    core.check()
