import pytest
import torch

from model_runtime.drawing import draw
from model_runtime.protocol import AddRequest, SamplingParams
from model_runtime.sampler import INVALID, Sampler
from model_runtime.sequence import Sequence

EOS = 3


def sequence(name: str, completion: list[int] | None = None, **params: object) -> Sequence:
    sampling = SamplingParams(max_tokens=50, **params)  # type: ignore[arg-type]
    result = Sequence(AddRequest(name, [0], sampling), arrival=0)
    for token in completion or []:
        result.append(token)
    return result


def sample(logits: torch.Tensor, *sequences: Sequence) -> list[int]:
    sampler = Sampler((EOS,), seed=0)
    for each in sequences:
        sampler.add(each)
    return picks(sampler, logits, list(sequences))


def picks(sampler: Sampler, logits: torch.Tensor, sequences: list[Sequence]) -> list[int]:
    return [one.token_id for one in sampler.sample(logits.clone(), sequences).fetch()]


def test_temperature_zero_takes_the_largest() -> None:
    logits = torch.tensor([[0.0, 5.0, 1.0, 2.0], [9.0, 5.0, 1.0, 2.0]])
    assert sample(logits, sequence("a", temperature=0.0), sequence("b", temperature=0.0)) == [1, 0]


def test_same_seed_same_tokens_alone_and_among_strangers() -> None:
    torch.manual_seed(0)
    rows = torch.randn(12, 4, 50)  # 12 steps, 4 sequences
    alone, crowd = Sampler((EOS,), 0), Sampler((EOS,), 99)
    mine, strangers = sequence("me", seed=7), [sequence(f"s{i}", seed=i) for i in range(3)]
    for sampler in (alone, crowd):
        sampler.add(mine)
    for stranger in strangers:
        crowd.add(stranger)
    first = [picks(alone, step[:1], [mine])[0] for step in rows]
    second = [
        picks(crowd, step[[1, 2, 0, 3]], [*strangers[:2], mine, strangers[2]])[2] for step in rows
    ]
    assert first == second and len(set(first)) > 3


def test_draw_follows_the_probabilities() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2]]))
    uniforms = [(i + 0.5) / 1000 for i in range(1000)]
    params = [SamplingParams(max_tokens=1)]
    counts = torch.bincount(torch.tensor([int(draw(logits, params, [u])[0]) for u in uniforms]))
    assert counts.tolist() == pytest.approx([500, 300, 200], abs=2)


@pytest.mark.parametrize(
    ("params", "allowed"),
    [
        ({"top_k": 2}, {0, 1}),
        ({"top_p": 0.6}, {0, 1}),
        ({"top_p": 0.1}, {0}),
        ({"min_p": 0.5}, {0, 1}),
        ({"temperature": 1e-4}, {0}),
        ({}, {0, 1, 2, 3}),
    ],
)
def test_filters_keep_only_the_likely(params: dict[str, float], allowed: set[int]) -> None:
    logits = torch.log(torch.tensor([[0.45, 0.3, 0.15, 0.1]]))
    sampling = SamplingParams(max_tokens=1, **params)  # type: ignore[arg-type]
    seen = {int(draw(logits, [sampling], [i / 200])[0]) for i in range(200)}
    assert seen == allowed


def test_a_row_that_is_not_finite_is_invalid_alone() -> None:
    logits = torch.tensor([[0.0, 1.0, 0.5, 0.1], [0.0, float("nan"), 0.0, 0.0]])
    picked = sample(logits, sequence("a", temperature=0.0), sequence("b", seed=1))
    assert picked == [1, INVALID]


def test_min_tokens_forbids_the_end() -> None:
    logits = torch.tensor([[0.0, 1.0, 0.5, 9.0]])
    assert sample(logits, sequence("a", temperature=0.0)) == [EOS]
    assert sample(logits, sequence("a", temperature=0.0, min_tokens=1)) == [1]


def test_penalties_lower_what_was_said() -> None:
    logits = torch.tensor([[0.0, 1.0, 0.9, 0.0]])
    said = {"completion": [1, 1], "temperature": 0.0}
    assert sample(logits, sequence("a", **said)) == [1]  # type: ignore[arg-type]
    assert sample(logits, sequence("a", frequency_penalty=0.1, **said)) == [2]  # type: ignore[arg-type]
    assert sample(logits, sequence("a", presence_penalty=0.2, **said)) == [2]  # type: ignore[arg-type]
    assert sample(logits, sequence("a", repetition_penalty=1.5, **said)) == [2]  # type: ignore[arg-type]
