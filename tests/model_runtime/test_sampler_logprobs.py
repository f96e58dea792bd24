import pytest
import torch

from model_runtime.logprobs import RowLogprobs
from model_runtime.protocol import AddRequest, SamplingParams, TokenLogprobs
from model_runtime.sampler import INVALID, Sampled, Sampler
from model_runtime.sequence import Sequence


def sequence(name: str, **params: object) -> Sequence:
    sampling = SamplingParams(max_tokens=50, seed=1, **params)  # type: ignore[arg-type]
    return Sequence(AddRequest(name, [0, 1], sampling), arrival=0)


def sample(logits: torch.Tensor, *sequences: Sequence) -> list[Sampled]:
    sampler = Sampler((3,), seed=0)
    for each in sequences:
        sampler.add(each)
    return sampler.sample(logits.clone(), list(sequences)).fetch()


def score(logits: torch.Tensor, token_ids: list[int], num_top: list[int]) -> list[TokenLogprobs]:
    return RowLogprobs.of(logits, torch.tensor(token_ids), max(num_top)).fetch(num_top)


@pytest.mark.parametrize("size", [30, 151_674])
@pytest.mark.parametrize("grain", [1000.0, 2.0], ids=["few ties", "many ties"])
def test_logprobs_and_ranks_are_those_of_log_softmax(size: int, grain: float) -> None:
    torch.manual_seed(size)
    logits = torch.randn(4, size).mul(3 * grain).round() / grain
    token_ids = [int(logits[0].argmax()), 1, size // 2, size - 1]
    num_top = [0, 20, 5, 1]
    expected = torch.log_softmax(logits, dim=-1)
    for row, result in enumerate(score(logits, token_ids, num_top)):
        scores = expected[row]
        assert result.token_id == token_ids[row]
        assert result.logprob == scores[token_ids[row]]
        assert result.rank == int((scores > scores[token_ids[row]]).sum()) + 1
        assert [v for _, v in result.top] == scores.sort(descending=True).values[
            : num_top[row]
        ].tolist()
        assert all(scores[token_id] == v for token_id, v in result.top)
        assert len({token_id for token_id, _ in result.top}) == num_top[row]


def test_more_is_asked_for_than_the_vocabulary_has() -> None:
    (result,) = score(torch.tensor([[0.0, 1.0, 2.0]]), [1], [20])
    assert [token_id for token_id, _ in result.top] == [2, 1, 0] and result.rank == 2


def test_bfloat16_is_scored_as_float32() -> None:
    logits = torch.randn(2, 40).bfloat16()
    results = score(logits, [3, 4], [2, 2])
    assert results[1].logprob == torch.log_softmax(logits.float(), dim=-1)[1, 4]


def test_logprobs_are_of_the_model_before_anything_else() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0, 0.0]])
    plain = torch.log_softmax(logits, dim=-1)[0].tolist()
    for wishes in (
        {"temperature": 0.0},
        {"temperature": 3.0, "top_k": 2},
        {"logit_bias": ((2, 50.0),), "repetition_penalty": 2.0, "min_tokens": 1},
        {"allowed_token_ids": (0,)},
    ):
        (sampled,) = sample(logits, sequence("a", logprobs=2, **wishes))
        assert sampled.logprobs is not None
        assert sampled.logprobs.token_id == sampled.token_id
        assert sampled.logprobs.logprob == plain[sampled.token_id]
        assert sampled.logprobs.top == [(1, plain[1]), (2, plain[2])]


def test_logprobs_come_to_those_who_ask_and_change_no_pick() -> None:
    torch.manual_seed(2)
    logits = torch.randn(5, 100)
    wishes: list[dict[str, object]] = [
        {},
        {"logprobs": 0},
        {"temperature": 0.0, "logprobs": 3},
        {"temperature": 0.0},
        {"logprobs": 20, "top_p": 0.5},
    ]
    asked = sample(logits, *(sequence(str(i), **wish) for i, wish in enumerate(wishes)))
    silent = sample(
        logits, *(sequence(str(i), **{**wish, "logprobs": None}) for i, wish in enumerate(wishes))
    )
    assert [each.token_id for each in asked] == [each.token_id for each in silent]
    assert [each.logprobs and len(each.logprobs.top) for each in asked] == [None, 0, 3, None, 20]


def test_a_row_that_is_not_finite_has_no_logprobs() -> None:
    logits = torch.zeros(2, 8)
    logits[0, 3] = float("nan")
    bad, good = sample(logits, sequence("a", logprobs=1), sequence("b", logprobs=1))
    assert bad.token_id == INVALID and good.logprobs is not None
