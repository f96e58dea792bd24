"""Prefix and embedding caches: what is shared, what never is, and that nothing is lost."""

from pathlib import Path
from typing import Any

import pytest
import torch

from model_runtime.core import EngineCore
from model_runtime.protocol import AbortRequest, AddRequest, SamplingParams
from tests.model_runtime.harness import (
    Oracle,
    PromptMaker,
    Result,
    collect,
    make_core,
    run_until_idle,
)

GREEDY = SamplingParams(max_tokens=8, temperature=0.0, ignore_eos=True)
BLOCK = 4


@pytest.fixture(scope="module")
def oracle(tiny_checkpoint: Path) -> Oracle:
    return Oracle(tiny_checkpoint)


@pytest.fixture
def core(tiny_checkpoint: Path) -> EngineCore:
    return make_core(tiny_checkpoint, block_size=BLOCK)


@pytest.fixture
def maker(oracle: Oracle) -> PromptMaker:
    return PromptMaker(oracle.checkpoint, seed=5)


def change(request: AddRequest, **fields: Any) -> AddRequest:
    values = {name: getattr(request, name) for name in request.__struct_fields__}
    return AddRequest(**(values | fields))


def ask(core: EngineCore, request: AddRequest) -> Result:
    """Send it, run to the end, check the books; the answer."""
    results: dict[str, Result] = {}
    core.handle(request)
    run_until_idle(core, results)
    return results[request.request_id]


def count_tiles(core: EngineCore, request: AddRequest) -> int:
    core.handle(request)
    num_tiles = 0
    while core.has_work:
        num_tiles += core.step().stats.num_tiles
    return num_tiles


def test_the_same_request_again_comes_from_the_cache(
    core: EngineCore, maker: PromptMaker, oracle: Oracle
) -> None:
    request = maker.request("a", "iti", GREEDY)
    first = ask(core, request)
    again = ask(core, change(request, request_id="b"))
    assert first.num_cached_tokens == 0
    assert again.num_cached_tokens == (len(request.token_ids) - 1) // BLOCK * BLOCK
    assert first.token_ids == again.token_ids == oracle.generate(request)


def test_different_pictures_behind_equal_prompts_share_nothing(
    core: EngineCore, maker: PromptMaker, oracle: Oracle
) -> None:
    """Equal token ids; up to the picture the prefix is shared, from there on never."""
    request = maker.request("a", "tit", GREEDY)
    other = maker.request("b", "tit", GREEDY)
    tiles = other.tiles[0]
    while tiles.num_tiles != request.tiles[0].num_tiles:
        tiles = maker.request("b", "tit", GREEDY).tiles[0]
    spans = [change_span(request.spans[0], tiles.content_hash)]
    twin = change(request, request_id="b", spans=spans, tiles=[tiles])
    first, second = ask(core, request), ask(core, twin)
    assert second.num_cached_tokens == request.spans[0].start // BLOCK * BLOCK
    assert first.token_ids == oracle.generate(request)
    assert second.token_ids == oracle.generate(twin) != first.token_ids


def change_span(span: Any, content_hash: bytes) -> Any:
    return type(span)(span.start, span.num_tokens, content_hash)


def test_a_conversation_takes_up_its_own_answer(
    core: EngineCore, maker: PromptMaker, oracle: Oracle
) -> None:
    request = maker.request("a", "it", GREEDY)
    answer = ask(core, request)
    longer = request.token_ids + answer.token_ids + [9, 8, 7]
    turn = change(request, request_id="b", token_ids=longer)
    result = ask(core, turn)
    assert result.num_cached_tokens >= len(request.token_ids) + len(answer.token_ids) - BLOCK
    assert result.token_ids == oracle.generate(turn)


def test_salts_separate(core: EngineCore, maker: PromptMaker) -> None:
    request = maker.request("a", "t", GREEDY)
    ask(core, request)
    salted = change(request, request_id="b", cache_salt=b"other tenant")
    assert ask(core, salted).num_cached_tokens == 0
    again = change(salted, request_id="c")
    assert ask(core, again).num_cached_tokens == (len(request.token_ids) - 1) // BLOCK * BLOCK


def test_cached_blocks_give_way(tiny_checkpoint: Path, maker: PromptMaker, oracle: Oracle) -> None:
    """A cache of 40 blocks serves many times that; the oldest prefix goes first."""
    core = make_core(
        tiny_checkpoint, block_size=BLOCK, kv_cache_memory_bytes=40 * BLOCK * 512, max_model_len=160
    )
    requests = [maker.request(f"r{i}", "tt", GREEDY) for i in range(30)]
    for request in requests:
        assert ask(core, request).token_ids == oracle.generate(request)
    assert ask(core, change(requests[-1], request_id="last")).num_cached_tokens > 0
    assert ask(core, change(requests[0], request_id="first")).num_cached_tokens == 0


def test_a_picture_seen_before_is_not_encoded_again(core: EngineCore, maker: PromptMaker) -> None:
    request = maker.request("a", "it", GREEDY)
    assert count_tiles(core, request) == request.tiles[0].num_tiles
    moved = change(request, request_id="b", token_ids=[3, *request.token_ids], tiles=[])
    span = request.spans[0]
    moved = change(moved, spans=[type(span)(span.start + 1, span.num_tokens, span.content_hash)])
    assert count_tiles(core, moved) == 0
    core.check()


def test_what_was_dropped_is_asked_for(tiny_checkpoint: Path, maker: PromptMaker) -> None:
    """No embedding outlives its request here; who counted on it is sent back, and comes again."""
    core = make_core(tiny_checkpoint, mm_embedding_cache_bytes=0)
    request = maker.request("a", "it", GREEDY)
    core.handle(request)
    outputs = []
    while core.has_work:
        outputs.append(core.step())
    content_hash = request.spans[0].content_hash
    assert [content_hash] in [output.encoded for output in outputs]
    core.handle(AbortRequest("nobody"))
    moved = change(request, request_id="b", token_ids=[4, *request.token_ids[1:]], tiles=[])
    core.handle(moved)
    output = core.step()
    assert output.missing_tiles == ["b"] and not output.outputs
    assert [content_hash] in [o.evicted for o in [*outputs, output]]
    assert len(ask(core, change(moved, tiles=request.tiles)).token_ids) == 8


def test_embeddings_stay_within_their_bytes(tiny_checkpoint: Path, maker: PromptMaker) -> None:
    """Room for one picture of seven tiles: the second one drives the first one out."""
    tile_bytes = 4 * 64 * 4  # tokens, hidden, float32
    core = make_core(tiny_checkpoint, mm_embedding_cache_bytes=7 * tile_bytes)
    for i in range(6):
        ask(core, maker.request(f"r{i}", "iit", GREEDY))
        assert core._vision._num_bytes <= 7 * tile_bytes


@pytest.mark.parametrize("n", [2, 5])
def test_n_answers_share_the_prompt(
    core: EngineCore, maker: PromptMaker, oracle: Oracle, n: int
) -> None:
    request = change(maker.request("a", "it", GREEDY), n=n)
    answers = collect_answers(core, request)
    assert set(answers) == set(range(n))
    assert all(answer.token_ids == oracle.generate(request) for answer in answers.values())
    cached = (len(request.token_ids) - 1) // BLOCK * BLOCK
    assert [answers[i].num_cached_tokens for i in range(n)] == [0] + [cached] * (n - 1)


def collect_answers(core: EngineCore, request: AddRequest) -> dict[int, Result]:
    core.handle(request)
    answers: dict[int, Result] = {}
    while core.has_work:
        for output in core.step().outputs:
            answer = answers.setdefault(output.index, Result())
            assert answer.finish_reason is None
            answer.token_ids += output.new_token_ids
            answer.finish_reason = output.finish_reason
            answer.num_cached_tokens = output.num_cached_tokens
        core.check()
    return answers


def test_n_sampled_answers_differ_and_are_repeatable(core: EngineCore, maker: PromptMaker) -> None:
    params = SamplingParams(max_tokens=12, temperature=1.5, seed=11, ignore_eos=True)
    request = change(maker.request("a", "t", params), n=4)
    answers = collect_answers(core, request)
    assert len({tuple(answer.token_ids) for answer in answers.values()}) == 4
    again = collect_answers(core, change(request, request_id="b"))
    assert {i: a.token_ids for i, a in again.items()} == {
        i: a.token_ids for i, a in answers.items()
    }


def test_an_abort_ends_all_answers(core: EngineCore, maker: PromptMaker) -> None:
    core.handle(change(maker.request("a", "it", GREEDY), n=3))
    for _ in range(3):
        core.step()
    core.handle(AbortRequest("a"))
    assert not core.step().outputs and not core.has_work
    core.check()
    stats = core.step().stats
    assert stats.num_free_blocks == stats.num_blocks


def test_a_large_picture_does_not_stall_other_streams(
    tiny_checkpoint: Path, maker: PromptMaker
) -> None:
    """Twelve pictures arrive beside a running stream, which gets a token in every step."""
    core = make_core(tiny_checkpoint, max_tiles_per_step=2)
    core.handle(
        maker.request(
            "stream", "t", SamplingParams(max_tokens=60, temperature=0.0, ignore_eos=True)
        )
    )
    core.step()
    core.handle(maker.request("album", "i" * 12 + "t", GREEDY))
    answered: set[str] = set()
    while "album" not in answered:
        output = core.step()
        answered = {one.request_id for one in output.outputs}
        assert "stream" in answered and output.stats.num_tiles <= 2


def poison(core: EngineCore, token_id: int) -> None:
    """The token's embedding is not a number from now on; the output head stays."""
    decoder = core._runner._model._decoder  # type: ignore[attr-defined]
    decoder._embeddings = decoder._embeddings.clone()
    decoder._embeddings[token_id] = float("nan")


def poisoned(maker: PromptMaker, name: str, token_id: int) -> AddRequest:
    request = maker.request(name, "tt", GREEDY)
    return change(request, token_ids=[*request.token_ids[:5], token_id, *request.token_ids[5:]])


@pytest.mark.parametrize("runs_ahead", [False, True])
def test_values_that_are_not_finite_end_their_request_and_harm_nobody(
    tiny_checkpoint: Path, maker: PromptMaker, oracle: Oracle, runs_ahead: bool
) -> None:
    """Neither beside it in the batch, nor in the blocks that it leaves behind."""
    core = make_core(
        tiny_checkpoint,
        block_size=BLOCK,
        kv_cache_memory_bytes=60 * BLOCK * 512,
        max_model_len=160,
        max_num_batched_tokens=24,
        max_num_seqs=4,
        async_scheduling=runs_ahead,
    )
    token_id = oracle.checkpoint.vocab_size - 2  # the tiny models never say it
    poison(core, token_id)
    results: dict[str, Result] = {}
    good = [maker.request(f"good{i}", "tt", GREEDY) for i in range(12)]
    for i, request in enumerate(good):
        core.handle(poisoned(maker, f"bad{i}", token_id))
        core.handle(request)
        core.handle(poisoned(maker, f"leaving{i}", token_id))
        collect(core.step().outputs, results)
        core.handle(AbortRequest(f"leaving{i}"))  # in the middle of its prompt, perhaps
    run_until_idle(core, results)
    for i, request in enumerate(good):
        assert results[request.request_id].token_ids == oracle.generate(request)
        assert "not finite" in (results[f"bad{i}"].error or "")
    assert all(torch.isfinite(pool).all() for pool in core._runner._cache.keys)
