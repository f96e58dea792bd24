"""The core with a tiny model: ends, errors, aborts and failed steps."""

from pathlib import Path

import pytest
import torch

from model_runtime.core import EngineCore
from model_runtime.protocol import AbortRequest, AddRequest, SamplingParams
from tests.checkpoints import make_checkpoint
from tests.model_runtime.harness import (
    GREEDY,
    Oracle,
    PromptMaker,
    Result,
    make_core,
    run_until_idle,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def core(folder: Path) -> EngineCore:
    return make_core(folder, max_model_len=256)


@pytest.fixture
def maker(folder: Path) -> PromptMaker:
    return PromptMaker(Oracle(folder).checkpoint, seed=5)


def answer(core: EngineCore, *requests: AddRequest) -> dict[str, Result]:
    results: dict[str, Result] = {}
    for request in requests:
        core.handle(request)
    run_until_idle(core, results)
    return results


def test_sixteen_pictures_are_one_batch(core: EngineCore, maker: PromptMaker) -> None:
    for i in range(16):
        core.handle(maker.request(f"r{i}", "it"))
    most_running = 0
    while core.has_work:
        stats = core.step().stats
        most_running = max(most_running, stats.num_decode_tokens)
    assert most_running == 16


def test_max_tokens_ends_with_length(core: EngineCore, maker: PromptMaker) -> None:
    sampling = SamplingParams(max_tokens=5, temperature=0.0, ignore_eos=True)
    result = answer(core, maker.request("r", "t", sampling))["r"]
    assert len(result.token_ids) == 5 and result.finish_reason == "length"


def test_the_context_ends_an_answer(core: EngineCore, maker: PromptMaker) -> None:
    sampling = SamplingParams(max_tokens=10_000, temperature=0.0, ignore_eos=True)
    request = maker.request("r", "t", sampling)
    result = answer(core, request)["r"]
    assert len(request.token_ids) + len(result.token_ids) == 256
    assert result.finish_reason == "length"


def test_a_stop_token_ends_with_stop(core: EngineCore, maker: PromptMaker) -> None:
    request = maker.request("r", "t")
    third = answer(core, request)["r"].token_ids[2]
    sampling = SamplingParams(max_tokens=12, temperature=0.0, stop_token_ids=(third,))
    result = answer(core, AddRequest("s", request.token_ids, sampling))["s"]
    assert result.token_ids[-1] == third and result.finish_reason == "stop"
    assert len(result.token_ids) <= 3


def test_abort_frees_the_blocks_in_the_same_breath(core: EngineCore, maker: PromptMaker) -> None:
    core.handle(maker.request("gone", "iit"))
    core.step()
    core.handle(AbortRequest("gone"))
    core.check()
    assert core.has_work  # one more report, so that the front end's numbers are true
    stats = core.step().stats
    assert stats.num_running == 0 and stats.num_free_blocks == stats.num_blocks
    assert not core.has_work


@pytest.mark.parametrize(
    "token_ids", [[], [0] * 256, [-1], [10**9]], ids=["empty", "too long", "negative", "beyond"]
)
def test_a_bad_request_is_answered_and_harms_nobody(
    core: EngineCore, maker: PromptMaker, token_ids: list[int]
) -> None:
    good = maker.request("good", "it")
    expected = answer(core, good)["good"].token_ids
    results = answer(core, AddRequest("bad", token_ids, GREEDY), good)
    assert results["bad"].finish_reason == "error" and results["bad"].error
    assert results["good"].token_ids == expected


def test_a_failed_step_ends_its_sequences_and_the_loop_goes_on(
    core: EngineCore, maker: PromptMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object) -> torch.Tensor:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(core._runner, "run", explode)
        assert answer(core, maker.request("r", "it"))["r"].finish_reason == "error"
    assert answer(core, maker.request("r", "it"))["r"].finish_reason in ("length", "stop")


def test_sampled_text_depends_on_the_seed_alone(core: EngineCore, maker: PromptMaker) -> None:
    prompt = maker.request("x", "it")

    def seeded(name: str, seed: int) -> AddRequest:
        sampling = SamplingParams(max_tokens=12, temperature=1.0, seed=seed)
        return AddRequest(name, prompt.token_ids, sampling, prompt.spans, prompt.tiles)

    alone = answer(core, seeded("a", 1))["a"].token_ids
    crowd = answer(core, seeded("a", 1), seeded("b", 2), seeded("c", 1), maker.request("d", "iit"))
    assert crowd["a"].token_ids == crowd["c"].token_ids == alone
    assert crowd["b"].token_ids != alone
