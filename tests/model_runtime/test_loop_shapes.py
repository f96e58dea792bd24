"""What a request is answered does not depend on how the loop turns: seats, chunks, memory, the
step ahead. Random requests with several answers, grammars, penalties, log-probabilities and
aborts in their midst; every answer that nobody aborts comes to its end."""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from llguidance import LLMatcher

from model_runtime.checkpoint import load_checkpoint
from model_runtime.core import EngineCore
from model_runtime.protocol import AbortRequest, AddRequest, SamplingParams, SequenceOutput
from tests.model_runtime.harness import PromptMaker, make_core

Key = tuple[str, int]
SHAPES: list[dict[str, Any]] = [
    {"max_num_seqs": 1},
    {"async_scheduling": True, "max_num_seqs": 3, "max_num_batched_tokens": 8},
    {
        "async_scheduling": True,
        "kv_cache_memory_bytes": 11 * 16 * 1024,  # of about one sequence: preemptions
        "max_num_batched_tokens": 16,
        "max_num_seqs": 8,
    },
    {"max_num_seqs": 2, "mm_embedding_cache_bytes": 0, "max_num_batched_tokens": 7},
]
GRAMMAR = LLMatcher.grammar_from_regex("[a-z ]{3,30}")


@dataclass
class Drawn:
    """Requests, and after how many of a request's outputs what of it is aborted."""

    requests: list[AddRequest]
    aborts: dict[str, int] = field(default_factory=dict)
    answer_aborts: dict[Key, int] = field(default_factory=dict)

    def is_spared(self, key: Key) -> bool:
        return key[0] not in self.aborts and key not in self.answer_aborts


def draw(folder: Path, seed: int) -> Drawn:
    numbers = random.Random(seed)
    maker = PromptMaker(load_checkpoint(folder, "tiny"), seed)
    drawn = Drawn([_request(maker, numbers, f"r{i}") for i in range(12)])
    drawn.requests = [r for r in drawn.requests if len(r.token_ids) < 140]
    for request in drawn.requests:
        if numbers.random() < 0.3:
            drawn.aborts[request.request_id] = numbers.randint(1, 12)
        if numbers.random() < 0.3:
            key = (request.request_id, numbers.randrange(request.n))
            drawn.answer_aborts[key] = numbers.randint(1, 12)
    return drawn


def _request(maker: PromptMaker, numbers: random.Random, name: str) -> AddRequest:
    sampling = SamplingParams(
        max_tokens=numbers.randint(1, 25),
        temperature=numbers.choice([0.0, 1.2]),
        seed=numbers.randrange(1000),
        repetition_penalty=numbers.choice([1.0, 1.0, 1.3]),
        logprobs=numbers.choice([None, 2]),
        prompt_logprobs=numbers.choice([None, None, 1]),
        ignore_eos=numbers.random() < 0.5,
    )
    request = maker.request(name, numbers.choice(["t", "it", "tt", "t"]), sampling)
    return msgspec.structs.replace(
        request, n=numbers.choice([1, 1, 2, 4]), grammar=numbers.choice(["", "", GRAMMAR])
    )


class Run:
    """One turn of all requests through an engine."""

    def __init__(self, core: EngineCore, drawn: Drawn, seed: int) -> None:
        self._core = core
        self._drawn = drawn
        self._arrivals = random.Random(seed)
        self._num_outputs: dict[str, int] = {}
        self.tokens: dict[Key, list[int]] = {}
        self.ends: dict[Key, str] = {}

    def finish(self) -> dict[Key, list[int]]:
        """The answers that nobody aborted."""
        waiting = list(self._drawn.requests)
        for _ in range(5000):
            if not waiting and not self._core.has_work:
                break
            if waiting and (self._arrivals.random() < 0.4 or not self._core.has_work):
                self._core.handle(waiting.pop(0))
            for output in self._core.step().outputs:
                self._take(output)
            self._core.check()
        spared = {(r.request_id, i) for r in self._drawn.requests for i in range(r.n)}
        spared = {key for key in spared if self._drawn.is_spared(key)}
        assert spared <= set(self.ends), "an answer never ended"
        return {key: self.tokens[key] for key in spared}

    def _take(self, output: SequenceOutput) -> None:
        key = (output.request_id, output.index)
        assert key not in self.ends, "an output after the end"
        assert output.finish_reason != "error", output.error
        self.tokens.setdefault(key, []).extend(output.new_token_ids)
        if output.finish_reason is not None:
            self.ends[key] = output.finish_reason
        self._abort_after(output.request_id)

    def _abort_after(self, request_id: str) -> None:
        count = self._num_outputs[request_id] = self._num_outputs.get(request_id, 0) + 1
        if self._drawn.aborts.get(request_id) == count:
            self._core.handle(AbortRequest(request_id))
        for (name, index), after in self._drawn.answer_aborts.items():
            if (name, after) == (request_id, count):
                self._core.handle(AbortRequest(name, index))


@pytest.mark.parametrize("seed", range(4))
def test_answers_do_not_depend_on_the_shape_of_the_loop(tiny_checkpoint: Path, seed: int) -> None:
    drawn = draw(tiny_checkpoint, seed)
    expected = Run(make_core(tiny_checkpoint, max_model_len=160), drawn, seed).finish()
    assert len(expected) > 5
    for number, shape in enumerate(SHAPES):
        core = make_core(tiny_checkpoint, max_model_len=160, **shape)
        assert Run(core, drawn, seed + number).finish() == expected, shape
        stats = core.step().stats
        assert stats.num_free_blocks == stats.num_blocks
