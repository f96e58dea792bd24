"""What requests may ask of the sampler, through the whole engine; transformers is the truth."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model_runtime.core import EngineCore
from model_runtime.logits_processing import Bitmask
from model_runtime.protocol import AddRequest, SamplingParams, SequenceOutput
from tests.model_runtime.harness import (
    GREEDY,
    Oracle,
    PromptMaker,
    Result,
    collect,
    make_core,
    run_until_idle,
)


@pytest.fixture(scope="module")
def oracle(tiny_checkpoint: Path) -> Oracle:
    return Oracle(tiny_checkpoint)


@pytest.fixture(params=[False, True], ids=["step by step", "one step ahead"])
def core(tiny_checkpoint: Path, request: pytest.FixtureRequest) -> EngineCore:
    return make_core(
        tiny_checkpoint,
        max_model_len=1024,
        max_num_batched_tokens=24,
        max_num_seqs=8,
        async_scheduling=request.param,
    )


@pytest.fixture
def maker(oracle: Oracle) -> PromptMaker:
    return PromptMaker(oracle.checkpoint, seed=9)


def answer(core: EngineCore, *requests: AddRequest) -> dict[str, Result]:
    results: dict[str, Result] = {}
    for request in requests:
        core.handle(request)
    run_until_idle(core, results)
    return results


def outputs_of(core: EngineCore, *requests: AddRequest) -> dict[str, list[SequenceOutput]]:
    for request in requests:
        core.handle(request)
    outputs: dict[str, list[SequenceOutput]] = {request.request_id: [] for request in requests}
    while core.has_work:
        for output in core.step().outputs:
            outputs[output.request_id].append(output)
        core.check()
    return outputs


def with_params(request: AddRequest, name: str, **params: Any) -> AddRequest:
    sampling = SamplingParams(**{"max_tokens": 12, "temperature": 0.0, **params})
    return AddRequest(name, request.token_ids, sampling, request.spans, request.tiles)


@torch.inference_mode()
def true_logprobs(oracle: Oracle, request: AddRequest, answer_ids: list[int]) -> torch.Tensor:
    """transformers' log-probabilities at every position of prompt and answer."""
    input_ids = torch.tensor([request.token_ids + answer_ids])
    output = oracle._model(input_ids=input_ids, **oracle._pixel_values(request))
    return torch.log_softmax(output.logits[0], dim=-1)


@pytest.mark.parametrize("kinds", ["t", "iti"])
def test_logprobs_are_those_of_transformers(
    core: EngineCore, maker: PromptMaker, oracle: Oracle, kinds: str
) -> None:
    prompt = maker.request("p", kinds)
    asked = with_params(prompt, "r", logprobs=4, prompt_logprobs=2)
    outputs = outputs_of(core, asked, maker.request("stranger", "it"))["r"]
    token_ids = [token for output in outputs for token in output.new_token_ids]
    truth = true_logprobs(oracle, prompt, token_ids)
    assert token_ids == oracle.generate(prompt)
    scores = [score for output in outputs for score in output.logprobs or []]
    first = outputs[0].prompt_logprobs
    assert first is not None and first[0] is None and len(first) == len(prompt.token_ids)
    assert all(output.prompt_logprobs is None for output in outputs[1:])
    everything = [*first[1:], *scores]
    following = [*prompt.token_ids[1:], *token_ids]
    for position, (score, token_id) in enumerate(zip(everything, following, strict=True)):
        row, num_top = truth[position], 2 if position < len(prompt.token_ids) - 1 else 4
        assert score is not None and score.token_id == token_id
        assert score.logprob == pytest.approx(row[token_id].item(), abs=1e-4)
        best = row.topk(num_top)
        assert [value for _, value in score.top] == pytest.approx(best.values.tolist(), abs=1e-4)
        assert score.rank == int((row > row[token_id]).sum()) + 1


def test_prompt_logprobs_do_not_depend_on_what_is_cached(
    core: EngineCore, maker: PromptMaker
) -> None:
    request = with_params(maker.request("p", "itt"), "first", prompt_logprobs=0)
    again = with_params(request, "again", prompt_logprobs=0)
    first = outputs_of(core, request)["first"][0].prompt_logprobs
    second = outputs_of(core, again)["again"][0].prompt_logprobs
    assert first is not None and second is not None
    for one, other in zip(first[1:], second[1:], strict=True):
        assert one is not None and other is not None
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)


def test_penalties_and_bans_work_on_what_the_model_brings(
    core: EngineCore, maker: PromptMaker
) -> None:
    request = maker.request("x", "t")
    plain = answer(core, with_params(request, "plain"))["plain"].token_ids
    wishes = {"min_tokens": 12, "repetition_penalty": 1.3, "bad_words": ((plain[0],),)}
    result = answer(core, with_params(request, "bound", **wishes))["bound"]
    assert result.finish_reason == "length" and len(result.token_ids) == 12
    assert plain[0] not in result.token_ids


class OnlyFive:
    """A grammar; breaks where it is told to."""

    def __init__(self, breaks_at: int | None = None) -> None:
        self.accepted: list[int] = []
        self._breaks_at = breaks_at

    def bitmask(self) -> Bitmask:
        return np.array([1 << 5], dtype=np.int32)

    def accept(self, token_id: int) -> None:
        if len(self.accepted) == self._breaks_at:
            raise RuntimeError("broken")
        self.accepted.append(token_id)


def bind(core: EngineCore, name: str, grammar: OnlyFive) -> OnlyFive:
    core._answers._sequences[name][0].grammar = grammar
    return grammar


def test_a_grammar_hears_of_every_token(core: EngineCore, maker: PromptMaker) -> None:
    core.handle(maker.request("r", "t"))
    grammar = bind(core, "r", OnlyFive())
    results: dict[str, Result] = {}
    run_until_idle(core, results)
    assert results["r"].token_ids == grammar.accepted == [5] * 12


def test_a_grammar_that_breaks_ends_its_request_alone(
    core: EngineCore, maker: PromptMaker, oracle: Oracle
) -> None:
    good = maker.request("good", "it")
    core.handle(maker.request("bad", "t"))
    core.handle(good)
    bind(core, "bad", OnlyFive(breaks_at=3))
    results: dict[str, Result] = {}
    run_until_idle(core, results)
    assert results["bad"].finish_reason == "error" and results["bad"].token_ids == [5] * 3
    assert results["good"].token_ids == oracle.generate(good)


BEYOND = 10**9
NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    "params",
    [
        {"logit_bias": ((BEYOND, 1.0),)},
        {"logit_bias": ((4, NAN),)},
        {"logit_bias": ((4, INFINITE),)},
        {"bad_words": ((1, -1),)},
        {"bad_words": ((),)},
        {"allowed_token_ids": (BEYOND,)},
        {"allowed_token_ids": ()},
        {"allowed_token_ids": (4,), "bad_words": ((4,),)},
        {"stop_token_ids": (BEYOND,), "min_tokens": 1},
        {"logprobs": 21},
        {"prompt_logprobs": -1},
        {"max_tokens": 0},
        {"temperature": NAN},
        {"temperature": -1.0},
        {"top_p": 0.0},
        {"min_p": 1.5},
        {"repetition_penalty": 0.0},
        {"presence_penalty": INFINITE},
    ],
    ids=str,
)
def test_impossible_wishes_are_answered_and_harm_nobody(
    core: EngineCore, maker: PromptMaker, oracle: Oracle, params: dict[str, Any]
) -> None:
    good = maker.request("good", "t", GREEDY)
    results = answer(core, with_params(good, "bad", **params), good)
    assert results["bad"].finish_reason == "error" and results["bad"].error
    assert results["good"].token_ids == oracle.generate(good)


def test_collected_results_hold_errors(core: EngineCore, maker: PromptMaker) -> None:
    results: dict[str, Result] = {}
    core.handle(with_params(maker.request("p", "t"), "bad", logprobs=99))
    collect(core.step().outputs, results)
    assert results["bad"].error == "logprobs is out of its range."
