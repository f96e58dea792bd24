"""Log-probabilities in OpenAI's and vLLM's JSON. Pure functions."""

from collections.abc import Callable, Iterable
from typing import Any

from model_runtime.protocol import TokenLogprobs

TokenBytes = Callable[[int], bytes]
LEAST = -9999.0  # what OpenAI writes for "practically impossible"; JSON has no infinity


def chat_logprobs(scores: Iterable[TokenLogprobs], token_bytes: TokenBytes) -> dict[str, Any]:
    """A choice's `logprobs`."""
    content = [
        {
            **_entry(score.token_id, score.logprob, token_bytes),
            "top_logprobs": [_entry(*alternative, token_bytes) for alternative in score.top],
        }
        for score in scores
    ]
    return {"content": content, "refusal": None}


def prompt_logprobs(
    scores: Iterable[TokenLogprobs | None], token_bytes: TokenBytes
) -> list[dict[str, Any] | None]:
    """vLLM's: for each prompt token the likeliest ones and itself, by id; null for the first."""
    return [None if score is None else _by_id(score, token_bytes) for score in scores]


def _by_id(score: TokenLogprobs, token_bytes: TokenBytes) -> dict[str, Any]:
    ranked = [(token_id, value, rank) for rank, (token_id, value) in enumerate(score.top, start=1)]
    if all(token_id != score.token_id for token_id, _ in score.top):
        ranked.append((score.token_id, score.logprob, score.rank))
    return {
        str(token_id): {
            "logprob": max(value, LEAST),
            "rank": rank,
            "decoded_token": _text(token_bytes(token_id)),
        }
        for token_id, value, rank in ranked
    }


def _entry(token_id: int, logprob: float, token_bytes: TokenBytes) -> dict[str, Any]:
    raw = token_bytes(token_id)
    return {"token": _text(raw), "logprob": max(logprob, LEAST), "bytes": list(raw)}


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
