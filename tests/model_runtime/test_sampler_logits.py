"""Biases, penalties, bans and masks against transformers' own processors, over mixed batches."""

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    NoBadWordsLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
)

from model_runtime.logits_processing import Bitmask
from model_runtime.protocol import AddRequest, SamplingParams
from model_runtime.sampler import NOTHING_ALLOWED, Sampler, needs_processing
from model_runtime.sequence import Sequence

VOCAB, EOS = 50, 3


class OnlyThese:
    """A grammar of one rule."""

    def __init__(self, *token_ids: int) -> None:
        self.token_ids = token_ids

    def bitmask(self) -> Bitmask:
        bits = np.zeros(64, dtype=np.uint8)
        bits[list(self.token_ids)] = 1
        return np.packbits(bits, bitorder="little").view(np.int32)

    def accept(self, token_id: int) -> None:
        assert token_id in self.token_ids


class Broken(OnlyThese):
    def bitmask(self) -> Bitmask:
        raise RuntimeError("no mask")


def sequence(name: str, prompt: list[int], answer: list[int], **params: object) -> Sequence:
    sampling = SamplingParams(max_tokens=500, **params)  # type: ignore[arg-type]
    result = Sequence(AddRequest(name, prompt, sampling), arrival=0)
    for token_id in answer:
        result.append(token_id)
    return result


def random_sequence(numbers: random.Random, **params: object) -> Sequence:
    """Of few different tokens, so that they repeat."""
    prompt, answer = (
        [numbers.randrange(12) for _ in range(numbers.randint(low, 30))] for low in (1, 0)
    )
    return sequence(str(numbers.random()), prompt, answer, **params)


def sampler_of(*sequences: Sequence) -> Sampler:
    sampler = Sampler((EOS,), seed=0)
    for each in sequences:
        sampler.add(each)
    return sampler


def processed(logits: torch.Tensor, *sequences: Sequence) -> torch.Tensor:
    return sampler_of(*sequences)._process(logits.clone(), list(sequences))


def pick(logits: torch.Tensor, *sequences: Sequence) -> list[int]:
    sampled = sampler_of(*sequences).sample(logits.clone(), list(sequences))
    return [one.token_id for one in sampled.fetch()]


# --------------------------------------------------------------------- against transformers


def repetition(row: Sequence) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    return RepetitionPenaltyLogitsProcessor(row.sampling.repetition_penalty)


def bad_words(row: Sequence) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    processor = NoBadWordsLogitsProcessor([list(word) for word in row.sampling.bad_words])
    # vLLM's meaning: a bad word is one of the answer's; it may not begin in the prompt.
    return lambda token_ids, scores: processor(token_ids[:, row.num_prompt_tokens :], scores)


def bias(row: Sequence) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    return SequenceBiasLogitsProcessor([[[t], float(b)] for t, b in row.sampling.logit_bias])


def some_repetition(numbers: random.Random) -> dict[str, object]:
    return {"repetition_penalty": numbers.choice([0.7, 1.3, 2.0])}


def some_bad_words(numbers: random.Random) -> dict[str, object]:
    lengths = [numbers.choice([1, 2, 2, 3]) for _ in range(30)]
    words = {tuple(numbers.randrange(12) for _ in range(length)) for length in lengths}
    return {"bad_words": tuple(sorted(words))}


def some_bias(numbers: random.Random) -> dict[str, object]:
    token_ids = numbers.sample(range(VOCAB), 9)
    return {"logit_bias": tuple((t, numbers.uniform(-100, 100)) for t in token_ids)}


@pytest.mark.parametrize(
    ("wish", "reference"),
    [(some_repetition, repetition), (some_bad_words, bad_words), (some_bias, bias)],
)
def test_logits_change_as_transformers_changes_them(
    wish: Callable[[random.Random], dict[str, object]],
    reference: Callable[[Sequence], Callable[[torch.Tensor, torch.Tensor], torch.Tensor]],
) -> None:
    numbers = random.Random(1)
    torch.manual_seed(1)
    for _ in range(10):
        rows = [
            random_sequence(numbers, **(wish(numbers) if numbers.random() < 0.7 else {}))
            for _ in range(6)
        ]
        logits = torch.randn(6, VOCAB) * 3
        mine = processed(logits, *rows)
        for row, own, before in zip(rows, mine, logits, strict=True):
            expected = before
            if any(getattr(row.sampling, field) not in ((), 1.0) for field in wish(numbers)):
                expected = reference(row)(torch.tensor([row.token_ids]), before[None].clone())[0]
            torch.testing.assert_close(own, expected)


# --------------------------------------------------------------------- each by itself


def test_presence_and_frequency_count_the_answer_alone() -> None:
    rows = [
        sequence("a", [1, 2], [4, 4, 5], presence_penalty=0.5),
        sequence("b", [1, 2], [4, 4, 5], frequency_penalty=0.25),
        sequence("c", [1, 2], [4, 4, 2], presence_penalty=-1.0, repetition_penalty=2.0),
        sequence("d", [1, 2], [4, 4, 5]),
        sequence("e", [1, 2], [], frequency_penalty=2.0),
    ]
    expected = torch.ones(5, VOCAB)
    expected[0, [4, 5]] -= 0.5
    expected[1, [4, 5]] -= torch.tensor([0.5, 0.25])
    expected[2, [1, 2, 4]] = torch.tensor([0.5, 1.5, 1.5])
    assert torch.equal(processed(torch.ones(5, VOCAB), *rows), expected)


def test_counts_grow_with_the_answer_and_outlive_a_preemption() -> None:
    row = sequence("a", [1] * 100, [], frequency_penalty=1.0, repetition_penalty=2.0)
    sampler = sampler_of(row)
    for step in range(1, 200):
        row.append(step % 150)  # more different tokens than the arrays begin with
        if step % 50 == 0:
            row.forget_computed()
        if step % 3:
            continue
        logits = sampler._process(torch.full((1, 200), 8.0), [row])
        answer = torch.bincount(torch.tensor(row.completion_token_ids), minlength=200)
        seen = (answer > 0) | (torch.arange(200) == 1)
        assert torch.equal(logits[0], torch.where(seen, 4.0, 8.0) - answer)


def test_min_tokens_forbids_every_stop_until_reached() -> None:
    logits = torch.zeros(3, VOCAB)
    logits[:, EOS], logits[:, 9], logits[:, 5] = 9.0, 8.0, 7.0
    wishes = {"temperature": 0.0, "min_tokens": 2, "stop_token_ids": (9,)}
    rows = [sequence(str(n), [1], [1] * n, **wishes) for n in range(3)]
    assert pick(logits, *rows) == [5, 5, EOS]


def test_a_grammar_binds_its_row_and_no_other() -> None:
    logits = torch.arange(VOCAB).float().repeat(4, 1)
    rows = [sequence(name, [1], [], temperature=0.0) for name in "abcd"]
    rows[1].grammar = OnlyThese(0, 7, 31, 32)
    rows[3].grammar = OnlyThese(2)
    assert pick(logits, *rows) == [VOCAB - 1, 32, VOCAB - 1, 2]


def test_masks_agree_with_each_other() -> None:
    row = sequence("a", [1], [], allowed_token_ids=(4, 5, 6), bad_words=((6,),), temperature=0.0)
    row.grammar = OnlyThese(5, 6, 7)
    assert pick(torch.arange(VOCAB).float()[None], row) == [5]


def test_a_mask_may_be_shorter_or_longer_than_the_vocabulary() -> None:
    row = sequence("a", [1], [], temperature=0.0)
    row.grammar = OnlyThese(5, 40)
    for size, expected in ((33, 5), (41, 40), (64, 40), (65, 40), (200, 40)):
        assert pick(torch.arange(size).float()[None], row) == [expected]


def test_a_grammar_that_fails_ends_its_row_alone() -> None:
    logits = torch.arange(VOCAB).float().repeat(2, 1)
    rows = [sequence(name, [1], [], temperature=0.0) for name in "ab"]
    rows[0].grammar = Broken(5)
    assert pick(logits, *rows) == [NOTHING_ALLOWED, VOCAB - 1]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_without_an_allowed_token_says_so_alone(temperature: float) -> None:
    rows = [
        sequence("a", [1], [], temperature=temperature, allowed_token_ids=(EOS,), min_tokens=1),
        sequence("b", [1], [], temperature=temperature, allowed_token_ids=(8,)),
    ]
    assert pick(torch.zeros(2, VOCAB), *rows) == [NOTHING_ALLOWED, 8]


def test_logits_that_a_runner_made_may_be_changed() -> None:
    with torch.inference_mode():
        logits = torch.zeros(1, VOCAB)
    row = sequence("a", [1], [2], repetition_penalty=1.5, logit_bias=((4, 5.0),), temperature=0.0)
    sampler = Sampler((EOS,), 0)
    sampler.add(row)
    assert needs_processing(row)
    assert sampler.sample(logits, [row]).fetch()[0].token_id == 4


tokens = st.integers(0, VOCAB - 1)


@settings(deadline=None, max_examples=100)
@given(
    allowed=st.none() | st.sets(tokens, min_size=3),
    unwanted=st.sets(tokens, max_size=10),
    single=st.sets(tokens, max_size=10),
    pairs=st.sets(st.tuples(st.just(1), tokens), max_size=10),
    temperature=st.sampled_from([0.0, 0.5, 1.0]),
    top_p=st.sampled_from([0.5, 1.0]),
    seed=st.integers(0, 2**30),
)
def test_what_is_forbidden_never_comes(
    allowed: set[int] | None,
    unwanted: set[int],
    single: set[int],
    pairs: set[tuple[int, int]],
    temperature: float,
    top_p: float,
    seed: int,
) -> None:
    possible = (allowed if allowed is not None else set(range(VOCAB))) - single
    possible -= {last for _, last in pairs}
    bound = sequence(
        "bound",
        [0],
        [1],
        allowed_token_ids=None if allowed is None else tuple(allowed),
        logit_bias=tuple((token_id, -100.0) for token_id in unwanted),
        bad_words=(*((token_id,) for token_id in single), *pairs),
        temperature=temperature,
        top_p=top_p,
        seed=seed,
    )
    free = sequence("free", [0, 1], [], temperature=temperature, top_p=top_p, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, VOCAB, generator=generator) * 4
    token_id, free_token_id = pick(logits, bound, free)
    assert pick(logits[1:], free) == [free_token_id]
    if not possible:
        assert token_id == NOTHING_ALLOWED
    else:
        assert token_id in (possible - unwanted or possible)
