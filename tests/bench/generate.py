"""Our engine against transformers' `generate`: same weights, dtype, threads and process.

Tokens per second, ours / theirs. At batch 1 the time runs from the first token to the last, so
that the prompt is left out. With 16 clients everything counts; transformers serves them one
after another, and a few of them are enough to know its speed.
"""

import time
from typing import Any

import torch
import transformers
from transformers import InternVLForConditionalGeneration

from model_runtime.core import EngineCore
from tests.bench.method import seconds
from tests.bench.ratios import RatioRow, compare_row
from tests.bench.workload import Setup, Workload, abort, run_until_idle, start_decoding, step

PROMPT_LEN = 128
NUM_NEW_TOKENS = 32
NUM_CLIENTS = 16
_NUM_SERVED = 4  # of the clients, by transformers


class TokenClock:
    """A streamer, as `generate` calls it: the prompt first, then each token."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, _: torch.Tensor) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass

    def tokens_per_s(self) -> float:
        """After the first token."""
        tokens = self.times[1:]
        return (len(tokens) - 1) / (tokens[-1] - tokens[0])


class Reference:
    """transformers as its user has it: `from_pretrained`, `generate`, greedy, its own cache."""

    def __init__(self, setup: Setup) -> None:
        transformers.logging.disable_progress_bar()
        self._model: Any = InternVLForConditionalGeneration.from_pretrained(
            setup.folder, dtype="auto"
        ).eval()
        self._model.generation_config.eos_token_id = None  # equal lengths

    @torch.inference_mode()
    def generate(self, token_ids: list[int]) -> TokenClock:
        input_ids, clock = torch.tensor([token_ids]), TokenClock()
        self._model.generate(
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            max_new_tokens=NUM_NEW_TOKENS,
            do_sample=False,
            streamer=clock,
        )
        assert len(clock.times) == NUM_NEW_TOKENS + 1
        return clock


def run(setup: Setup) -> list[RatioRow]:
    core, workload, reference = setup.engine(), Workload(setup.shape), Reference(setup)
    pairs = setup.effort.pairs
    return [
        compare_row(
            "decode, 1 client",
            "tokens/s",
            lambda: _decode_alone(core, workload),
            lambda: reference.generate(workload.text(PROMPT_LEN)).tokens_per_s(),
            pairs,
        ),
        compare_row(
            f"whole requests, {NUM_CLIENTS} clients",
            "tokens/s",
            lambda: _serve_together(core, workload),
            lambda: _serve_in_turn(reference, workload),
            pairs,
        ),
    ]


def _decode_alone(core: EngineCore, workload: Workload) -> float:
    request = workload.request(workload.text(PROMPT_LEN), NUM_NEW_TOKENS + 1)
    start_decoding(core, [request])
    elapsed = seconds(lambda: [step(core) for _ in range(NUM_NEW_TOKENS - 1)])
    abort(core, [request])
    return (NUM_NEW_TOKENS - 1) / elapsed


def _serve_together(core: EngineCore, workload: Workload) -> float:
    for _ in range(NUM_CLIENTS):
        core.handle(workload.request(workload.text(PROMPT_LEN), NUM_NEW_TOKENS))
    started = time.perf_counter()
    num_tokens = run_until_idle(core)
    elapsed = time.perf_counter() - started
    assert num_tokens == NUM_CLIENTS * NUM_NEW_TOKENS
    return num_tokens / elapsed


def _serve_in_turn(reference: Reference, workload: Workload) -> float:
    prompts = [workload.text(PROMPT_LEN) for _ in range(_NUM_SERVED)]
    elapsed = seconds(lambda: [reference.generate(prompt) for prompt in prompts])
    return _NUM_SERVED * NUM_NEW_TOKENS / elapsed
