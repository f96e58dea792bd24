"""Steps that fail: the request that is at fault ends, the others get the tokens of a clean run.

Rows F10, F11, F14 to F19 of the fault table, with one step at a time and with one ahead.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model_runtime.block_pool import BlockPool
from model_runtime.core import EngineCore
from model_runtime.protocol import AddRequest, SamplingParams
from model_runtime.recovery import divide
from model_runtime.scheduler import ScheduledSequence, ScheduledStep
from model_runtime.sequence import Sequence
from model_runtime.soundness import DeviceLostError
from tests.model_runtime.harness import Oracle, PromptMaker, Result, make_core, run_until_idle

Answers = dict[str, Result]
KINDS = ["t", "it", "t", "tt", "it", "t", "tit", "t"]


@pytest.fixture(params=[False, True], ids=["in turn", "ahead"])
def core(tiny_checkpoint: Path, request: pytest.FixtureRequest) -> EngineCore:
    return make_core(tiny_checkpoint, max_model_len=512, async_scheduling=request.param)


@pytest.fixture
def requests(tiny_checkpoint: Path) -> list[AddRequest]:
    """Eight; every other one is drawn at random by a seed of its own."""
    maker = PromptMaker(Oracle(tiny_checkpoint).checkpoint, seed=7)
    return [
        maker.request(
            f"r{i}",
            kinds,
            SamplingParams(max_tokens=8, temperature=i % 2, seed=i, ignore_eos=True),
        )
        for i, kinds in enumerate(KINDS)
    ]


def answer(core: EngineCore, requests: list[AddRequest]) -> Answers:
    results: Answers = {}
    for request in requests:
        core.handle(request)
    run_until_idle(core, results)
    stats = core.step().stats
    assert stats.num_free_blocks == stats.num_blocks and not stats.num_running
    return results


@pytest.fixture
def clean(tiny_checkpoint: Path, requests: list[AddRequest]) -> Answers:
    return answer(make_core(tiny_checkpoint, max_model_len=512), requests)


def tokens(results: Answers, *, without: str = "") -> dict[str, list[int]]:
    return {name: r.token_ids for name, r in results.items() if name != without}


def after(function: Callable[..., Any], harm: Callable[..., None]) -> Callable[..., Any]:
    """`function`, and then the harm, which sees what it was given."""

    def harmed(*args: Any) -> Any:
        result = function(*args)
        harm(*args)
        return result

    return harmed


def names(step: ScheduledStep) -> set[str]:
    return {chunk.sequence.request_id for chunk in step.sequences}


@pytest.mark.parametrize("phase", ["prefills", "decodes"])
def test_f10_an_exception_over_one_request(
    core: EngineCore,
    requests: list[AddRequest],
    clean: Answers,
    phase: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def harm(step: ScheduledStep, _: object) -> None:
        if any(chunk.sequence.request_id == "r3" for chunk in getattr(step, phase)):
            raise RuntimeError("something about r3")

    monkeypatch.setattr(core._runner, "run", after(core._runner.run, harm))
    results = answer(core, requests)
    assert results["r3"].finish_reason == "error"
    assert results["r3"].error == "The request failed in the engine."
    assert tokens(results, without="r3") == tokens(clean, without="r3")


def test_f11_an_exception_of_the_sampler(
    core: EngineCore,
    requests: list[AddRequest],
    clean: Answers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After it has drawn for everybody: drawing again gives the same."""

    def harm(_: torch.Tensor, sequences: list[Sequence]) -> None:
        if any(s.request_id == "r3" and s.num_completion_tokens > 2 for s in sequences):
            raise RuntimeError("something about r3")

    monkeypatch.setattr(core._sampler, "sample", after(core._sampler.sample, harm))
    results = answer(core, requests)
    assert results["r3"].finish_reason == "error"
    assert tokens(results, without="r3") == tokens(clean, without="r3")


def test_f14_one_row_that_is_not_finite(
    core: EngineCore,
    requests: list[AddRequest],
    clean: Answers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sample = core._sampler.sample

    def spoilt(logits: torch.Tensor, sequences: list[Sequence]) -> Any:
        for row, sequence in enumerate(sequences):
            if sequence.request_id == "r3":
                logits = logits.index_fill(0, torch.tensor([row]), torch.nan)
        return sample(logits, sequences)

    monkeypatch.setattr(core._sampler, "sample", spoilt)
    results = answer(core, requests)
    assert "not finite" in (results["r3"].error or "")
    assert tokens(results, without="r3") == tokens(clean, without="r3")


@pytest.mark.parametrize("is_device_lost", [True, False])
def test_f15_nothing_is_finite(
    core: EngineCore,
    requests: list[AddRequest],
    is_device_lost: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The worker ends when the model is broken, and not when requests are."""
    logits = core._runner._model.logits

    def spoilt(hidden: torch.Tensor) -> torch.Tensor:
        return logits(hidden) * torch.nan

    def spoil(step: ScheduledStep, last_tokens: Any) -> Any:
        output = run(step, last_tokens)
        return output if "" in names(step) else replace(output, logits=output.logits * torch.nan)

    run = core._runner.run
    if is_device_lost:
        monkeypatch.setattr(core._runner._model, "logits", spoilt)
    else:
        monkeypatch.setattr(core._runner, "run", spoil)
    ends: list[str | None] = []
    try:
        for request in requests:
            ends += [result.error for result in answer(core, [request]).values()]
    except DeviceLostError:
        assert is_device_lost and 1 <= len(ends) <= 2
    else:
        assert not is_device_lost and len(ends) == len(requests) and all(ends)


@pytest.mark.parametrize("limit", [300, 70, 63])
def test_f16_no_memory_for_large_steps(
    core: EngineCore,
    requests: list[AddRequest],
    clean: Answers,
    limit: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are done in smaller ones; nobody notices."""
    assert max(len(request.token_ids) for request in requests) > 64

    def harm(step: ScheduledStep, _: object) -> None:
        if sum(chunk.num_tokens for chunk in step.sequences) > limit:
            raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(core._runner, "run", after(core._runner.run, harm))
    assert tokens(answer(core, requests)) == tokens(clean)


def test_f16_no_memory_for_one_request(
    core: EngineCore,
    requests: list[AddRequest],
    clean: Answers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outputs = []

    def harm(step: ScheduledStep, _: object) -> None:
        if "r6" in names(step):
            raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(core._runner, "run", after(core._runner.run, harm))
    for request in requests:
        core.handle(request)
    while core.has_work:
        outputs += core.step().outputs
        core.check()
    failed = [output for output in outputs if output.error]
    assert [(o.request_id, o.error_kind) for o in failed] == [("r6", "no_memory")]
    for name, expected in tokens(clean, without="r6").items():
        assert [t for o in outputs if o.request_id == name for t in o.new_token_ids] == expected


@pytest.mark.parametrize("is_one_too_much", [False, True])
def test_f17_no_memory_for_pictures(
    core: EngineCore,
    requests: list[AddRequest],
    clean: Answers,
    is_one_too_much: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tile by tile it goes; and if not, only the requests with that picture fail."""
    encode = core._vision._encode_tiles
    first = requests[1].tiles[0].pixels[:300]

    def harmed(pixels: torch.Tensor) -> torch.Tensor:
        if len(pixels) > 1 or (is_one_too_much and bytes(pixels.flatten()[:300].tolist()) == first):
            raise torch.OutOfMemoryError("out of memory")
        return encode(pixels)

    monkeypatch.setattr(core._vision, "_encode_tiles", harmed)
    results = answer(core, requests)
    assert [n for n, r in results.items() if r.error] == ["r1"] * is_one_too_much
    spared = "r1" if is_one_too_much else ""
    assert tokens(results, without=spared) == tokens(clean, without=spared)


@pytest.mark.parametrize("number", range(1, 200, 7))
def test_f18_a_block_that_is_not_to_be_had(
    tiny_checkpoint: Path, requests: list[AddRequest], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The n-th time that a running sequence needs more room: preempted, and the same in the end."""
    options: dict[str, Any] = {"max_model_len": 512, "max_num_seqs": 4, "block_size": 16}
    few = [request for request in requests if not request.spans]
    clean = answer(make_core(tiny_checkpoint, **options), few)
    core = make_core(tiny_checkpoint, **options)
    calls = 0
    grow = BlockPool.grow

    def grow_at_times(self: BlockPool, block_table: list[int], num_tokens: int) -> bool:
        nonlocal calls
        calls += 1
        return calls != number and grow(self, block_table, num_tokens)

    adopt = BlockPool.adopt

    def adopt_always(self: BlockPool, *args: Any) -> int | None:
        with monkeypatch.context() as patch:
            patch.setattr(BlockPool, "grow", grow)
            return adopt(self, *args)

    monkeypatch.setattr(BlockPool, "grow", grow_at_times)
    monkeypatch.setattr(BlockPool, "adopt", adopt_always)
    assert tokens(answer(core, few)) == tokens(clean)


def test_f19_an_error_of_the_device_ends_the_worker(
    core: EngineCore, requests: list[AddRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def harm(step: ScheduledStep, _: object) -> None:
        raise torch.AcceleratorError("illegal memory access")

    monkeypatch.setattr(core._runner, "run", after(core._runner.run, harm))
    with pytest.raises(torch.AcceleratorError):
        answer(core, requests)


@pytest.mark.parametrize("num_tokens", [1, 63, 64, 500])
def test_chunks_are_divided_without_a_gap(num_tokens: int) -> None:
    sequence = Sequence(AddRequest("r", [1] * 600, SamplingParams(max_tokens=1)), 0)
    chunk = ScheduledSequence(sequence, 10, num_tokens, samples=True)
    parts = divide(ScheduledStep([chunk]), for_memory=True)
    if num_tokens < 64:
        assert not parts
    else:
        first, second = (part.prefills[0] for part in parts)
        assert (first.start, first.end, second.end) == (10, second.start, chunk.end)
        assert not first.samples and second.samples
    assert not divide(ScheduledStep([chunk]), for_memory=False)
