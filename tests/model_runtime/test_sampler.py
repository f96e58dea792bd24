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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, 511, 512, 1023, 1024, 1029])
def test_one_bad_value_ends_its_row_and_touches_no_other(
    place: int, value: float, dtype: torch.dtype
) -> None:
    torch.manual_seed(place)
    wishes: list[dict[str, object]] = [
        {"temperature": 0.0},
        {"seed": 5},
        {"seed": 6, "top_p": 0.9},
        {"temperature": 0.0, "repetition_penalty": 1.5, "min_tokens": 9},
    ]
    logits = torch.randn(4, 1030).to(dtype)
    sequences = [sequence(str(i), [1, 2], **wish) for i, wish in enumerate(wishes)]
    expected = sample(logits, *sequences)
    for row in range(4):
        spoilt = logits.clone()
        spoilt[row, place] = value
        assert sample(spoilt, *sequences) == [
            INVALID if i == row else token_id for i, token_id in enumerate(expected)
        ]


def test_a_row_that_is_nothing_but_minus_infinity_is_invalid() -> None:
    logits = torch.full((2, 9), -float("inf"))
    logits[1, 4] = -50.0
    for wish in ({"temperature": 0.0}, {"seed": 1}, {"seed": 1, "top_k": 5}):
        assert sample(logits, sequence("a", **wish), sequence("b", **wish)) == [INVALID, 4]


def test_tiny_temperatures_are_greedy() -> None:
    logits = torch.tensor([[0.0, 1.0, 1.0001, 0.5]])
    assert sample(logits, sequence("a", temperature=1e-6)) == [2]


def test_a_penalised_row_is_greedy_at_temperature_zero_in_a_random_batch() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.9, 0.0]]).repeat(2, 1)
    greedy = sequence("a", [1], temperature=0.0, presence_penalty=0.5)
    assert sample(logits, greedy, sequence("b", seed=1))[0] == 2


def draws(sampler: Sampler, which: Sequence, num_steps: int = 20) -> list[int]:
    sampler.add(which)
    logits = torch.zeros(1, 1000)
    return [picks(sampler, logits, [which])[0] for _ in range(num_steps)]


def test_siblings_of_a_seeded_request_differ_and_can_be_repeated() -> None:
    first, second, alike = (
        sequence(name, seed=seed) for name, seed in zip("aab", (7, 7, 8), strict=True)
    )
    second.index = 1
    answers = [draws(Sampler((EOS,), 0), each) for each in (first, second, alike)]
    assert answers[0] != answers[1] == answers[2]


def test_unseeded_requests_differ_and_the_engine_seed_repeats_them() -> None:
    def pair(seed: int) -> list[list[int]]:
        sampler = Sampler((EOS,), seed)
        return [draws(sampler, sequence(name)) for name in "ab"]

    assert pair(0) == pair(0) and pair(0)[0] != pair(0)[1] and pair(0) != pair(1)


def test_forgetting_leaves_nothing_behind() -> None:
    sampler = Sampler((EOS,), 0)
    sampler.add(sequence("a", seed=1, repetition_penalty=2.0))
    sampler.forget(sequence("a"))
    sampler.forget(sequence("unknown"))
    assert not sampler._histories and not sampler._generators
