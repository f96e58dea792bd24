"""The draw against transformers' own warpers, against the odds, and against its neighbours."""

import random
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from model_runtime import drawing
from model_runtime.protocol import SamplingParams

VOCAB = 60
FILTERS: list[dict[str, float]] = [
    {},
    {"top_k": 1},
    {"top_k": 7},
    {"top_k": VOCAB},
    {"top_k": 10_000},
    {"top_p": 0.01},
    {"top_p": 0.5},
    {"top_p": 0.95},
    {"top_p": 1.0},
    {"min_p": 0.02},
    {"min_p": 1.0},
    {"top_k": 20, "top_p": 0.8},
    {"top_k": 20, "min_p": 0.1},
    {"top_p": 0.9, "min_p": 0.05},
    {"top_k": 12, "top_p": 0.9, "min_p": 0.03},
]


def draw(logits: torch.Tensor, wanted: list[SamplingParams], uniforms: list[float]) -> list[int]:
    token_ids: list[int] = drawing.draw(logits, wanted, uniforms).tolist()
    return token_ids


def params(temperature: float = 1.0, **filters: float) -> SamplingParams:
    return SamplingParams(max_tokens=1, temperature=temperature, **filters)  # type: ignore[arg-type]


def distribution(logits: torch.Tensor, wanted: SamplingParams) -> torch.Tensor:
    """transformers' probabilities, float64 `[V]`."""
    warpers = LogitsProcessorList([TemperatureLogitsWarper(wanted.temperature)])
    if wanted.top_k:
        warpers.append(TopKLogitsWarper(wanted.top_k))
    warpers.append(TopPLogitsWarper(wanted.top_p))
    warpers.append(MinPLogitsWarper(wanted.min_p))
    return torch.softmax(warpers(None, logits[None].double())[0], dim=-1)


def assert_draws_from(logits: torch.Tensor, wanted: SamplingParams) -> None:
    """The middle of each token's stretch of the cumulative distribution gives that token."""
    probs = distribution(logits, wanted)
    filtered = wanted.top_p < 1 or wanted.min_p > 0 or 0 < wanted.top_k < len(logits)
    order = probs.argsort(descending=True) if filtered else torch.arange(len(logits))
    middles = probs[order].cumsum(0) - probs[order] / 2
    is_plain = probs[order] > 1e-5  # well above what float32 may lose
    order, middles = order[is_plain], middles[is_plain].tolist()
    assert draw(logits.repeat(len(order), 1), [wanted] * len(order), middles) == order.tolist()
    if filtered:
        edges = draw(logits.repeat(2, 1), [wanted] * 2, [0.0, 1 - 2**-53])
        assert edges[0] == order[0] and probs[edges[1]] > 0


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_filters_keep_what_those_of_transformers_keep(
    filters: dict[str, float], temperature: float
) -> None:
    torch.manual_seed(3)
    for _ in range(5):
        assert_draws_from(torch.randn(VOCAB) * 2, params(temperature, **filters))


@pytest.mark.parametrize("filters", FILTERS[1:], ids=str)
def test_candidates_and_the_whole_vocabulary_agree(
    filters: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(4)
    logits = torch.randn(40, 500) * 3
    numbers = torch.rand(40).tolist()
    whole = draw(logits, [params(**filters)] * 40, numbers)
    monkeypatch.setattr(drawing, "NUM_CANDIDATES", 16)
    assert draw(logits, [params(**filters)] * 40, numbers) == whole


@pytest.mark.parametrize(
    "filters", [{}, {"top_p": 0.9}, {"top_k": 300}, {"top_k": 40}, {"min_p": 0.001}], ids=str
)
def test_a_real_vocabulary_is_drawn_from_rightly(filters: dict[str, float]) -> None:
    torch.manual_seed(5)
    logits = torch.randn(151_674)
    logits[torch.randperm(151_674)[:1000]] += torch.linspace(4, 14, 1000)
    wanted = params(**filters)
    probs = distribution(logits, wanted)
    best = [t for t in probs.argsort(descending=True)[:5].tolist() if probs[t] > 1e-3]
    order = probs.argsort(descending=True) if filters else torch.arange(len(logits))
    up_to = dict(zip(order.tolist(), probs[order].cumsum(0).tolist(), strict=True))
    middles = [up_to[t] - probs[t].item() / 2 for t in best]
    assert draw(logits.repeat(len(best), 1), [wanted] * len(best), middles) == best


@pytest.mark.parametrize(
    "filters", [{}, {"top_k": 6}, {"top_p": 0.8}, {"min_p": 0.1}, {"temperature": 2.0}], ids=str
)
def test_frequencies_follow_the_probabilities(filters: dict[str, float]) -> None:
    torch.manual_seed(6)
    logits, num_draws = torch.randn(12), 20_000
    wanted, numbers = params(**filters), random.Random(0)
    uniforms = [numbers.random() for _ in range(num_draws)]
    counts = Counter(draw(logits.repeat(num_draws, 1), [wanted] * num_draws, uniforms))
    expected = distribution(logits, wanted) * num_draws
    assert all(expected[token_id] > 0 for token_id in counts)
    kept = [t for t in range(12) if expected[t] > 0]
    chi_square = sum((counts[t] - expected[t].item()) ** 2 / expected[t].item() for t in kept)
    assert chi_square < 31.3  # 11 degrees of freedom: 1 in 1000


def test_a_row_draws_the_same_alone_and_in_any_company() -> None:
    torch.manual_seed(7)
    numbers = random.Random(7)
    logits = torch.randn(40, 30_011) * torch.rand(40, 1) * 6
    logits[20:] = logits[20:].bfloat16().float()
    wanted = [params(numbers.choice([0.5, 1.0, 1.5]), **numbers.choice(FILTERS)) for _ in range(40)]
    uniforms = [numbers.random() for _ in range(40)]
    alone = [draw(logits[i : i + 1], [wanted[i]], [uniforms[i]])[0] for i in range(40)]
    for _ in range(25):
        rows = numbers.sample(range(40), numbers.randint(1, 12))
        crowd = draw(logits[rows], [wanted[i] for i in rows], [uniforms[i] for i in rows])
        assert crowd == [alone[i] for i in rows]


def test_softmax_of_a_row_is_the_same_alone_and_in_any_company() -> None:
    """What the draw relies on: the one float sum in it belongs to its row."""
    torch.manual_seed(8)
    logits = torch.randn(17, 5003)
    together = torch.softmax(logits, dim=-1)
    for size in (1, 2, 5):
        for start in range(0, 17 - size, size):
            part = torch.softmax(logits[start : start + size].clone(), dim=-1)
            assert torch.equal(part, together[start : start + size])


@pytest.mark.parametrize("temperature", [1e-5, 1e-3, 100.0])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e37])
def test_extremes_of_temperature_and_logits_do_no_harm(temperature: float, scale: float) -> None:
    logits = torch.tensor([[1.0, -1.0, 3.0, -float("inf")]]) * scale
    for filters in ({}, {"top_p": 0.999}, {"min_p": 0.5}, {"top_k": 3}):
        for number in (0.0, 0.5, 1 - 2**-53):
            (token_id,) = draw(logits, [params(temperature, **filters)], [number])
            assert token_id != 3
            assert token_id == 2 or scale <= 1.0 and (temperature == 100.0 or scale < 1.0)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=40),
    st.integers(0, 45),
    st.floats(0.01, 1.0),
    st.floats(0.0, 1.0),
    st.floats(0.05, 3.0),
    st.floats(0.0, 1.0, exclude_max=True),
)
def test_nothing_outside_the_kept_set_is_ever_picked(
    values: list[float],
    top_k: int,
    top_p: float,
    min_p: float,
    temperature: float,
    number: float,
) -> None:
    wanted = params(temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    (token_id,) = draw(torch.tensor([values]), [wanted], [number])
    probs = torch.softmax(torch.tensor(values).double() / temperature, dim=-1).tolist()
    order = sorted(range(len(values)), key=lambda i: -probs[i])
    rank = sum(prob > probs[token_id] * (1 + 1e-5) for prob in probs)
    in_top_k = probs if not top_k else [probs[i] for i in order[:top_k]]
    mass_before = sum(prob for prob in in_top_k if prob > probs[token_id] * (1 + 1e-5))
    assert not top_k or rank < top_k
    assert mass_before < top_p * sum(in_top_k) * (1 + 1e-5)
    assert probs[token_id] >= min_p * max(probs) * (1 - 1e-5)
