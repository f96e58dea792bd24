"""The fast paths against the naive one: one sequence at a time, keys gathered, one mask."""

import random
from typing import Any

import pytest
import torch

from model_runtime.attention import attend, gathered_attention
from model_runtime.batch import Batch, PrefillChunk, build_batch
from model_runtime.kv_cache import KVCache, KVGeometry
from model_runtime.protocol import AddRequest, SamplingParams
from model_runtime.scheduler import ScheduledSequence, ScheduledStep
from model_runtime.sequence import Sequence

CPU = torch.device("cpu")


def random_step(chance: random.Random, block_size: int) -> tuple[ScheduledStep, int]:
    """Sequences with blocks in random order: fresh prompts, later chunks and decodes."""
    blocks = list(range(200))
    chance.shuffle(blocks)
    step = ScheduledStep()
    for i in range(chance.randint(1, 7)):
        start = chance.choice([0, 0, 3, 17])
        num_tokens = chance.randint(1, 9) if chance.random() < 0.5 or not start else 1
        request = AddRequest(f"r{i}", [1] * (start + num_tokens), SamplingParams(max_tokens=9))
        sequence = Sequence(request, i)
        sequence.block_table = [blocks.pop() for _ in range(-(-sequence.num_tokens // block_size))]
        chunk = ScheduledSequence(sequence, start, num_tokens, samples=True)
        (step.decodes if start and num_tokens == 1 else step.prefills).append(chunk)
    return step, 200


def naive(query: torch.Tensor, batch: Batch, step: ScheduledStep, cache: KVCache) -> torch.Tensor:
    outputs, row = [], 0
    for chunk in step.sequences:
        blocks = torch.tensor(chunk.sequence.block_table)
        part = PrefillChunk(row, row + chunk.num_tokens, chunk.end, blocks)
        rows = query[part.row_start : part.row_end]
        outputs.append(gathered_attention(rows, cache.keys[0], cache.values[0], part, 0.3))
        row = part.row_end
    return torch.cat(outputs)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("heads", [(4, 2), (7, 1), (3, 3)])
def test_paged_equals_naive(seed: int, heads: tuple[int, int]) -> None:
    chance = random.Random(seed)
    torch.manual_seed(seed)
    block_size = chance.choice([1, 4, 16])
    step, num_blocks = random_step(chance, block_size)
    cache = KVCache(KVGeometry(1, heads[1], 8, torch.float32), num_blocks, block_size, CPU)
    for pool in (*cache.keys, *cache.values):
        pool.normal_()  # the earlier tokens' keys and values
    batch = build_batch(step, block_size, num_blocks, CPU)
    num_tokens = len(batch.input_ids)
    shapes: Any = [(num_tokens, n, 8) for n in (heads[0], heads[1], heads[1])]
    query, key, value = (torch.randn(shape) for shape in shapes)
    cache.write(0, batch.slot_mapping, key, value)
    output = attend(query, key, value, layer=0, batch=batch, cache=cache, scale=0.3)
    torch.testing.assert_close(output, naive(query, batch, step, cache), rtol=1e-5, atol=1e-5)
