"""Why a request can never run. The front end has checked all of it before; the loop relies on
no one but itself."""

import math
from collections.abc import Collection, Iterator

from model_runtime.protocol import AddRequest, SamplingParams

MAX_LOGPROBS = 20


def find_problem(request: AddRequest, vocab_size: int, max_model_len: int) -> str | None:
    """The first thing that is wrong, in words for the client."""
    return next(_problems(request, vocab_size, max_model_len), None)


def _problems(request: AddRequest, vocab_size: int, max_model_len: int) -> Iterator[str]:
    num_tokens = len(request.token_ids)
    if not 0 < num_tokens < max_model_len:
        yield f"The prompt has {num_tokens} tokens; the limit is {max_model_len - 1}."
    elif not _are_tokens(request.token_ids, vocab_size):
        yield "The prompt holds a token id outside the vocabulary."
    ends = [0, *(span.end for span in request.spans)]
    starts = [*(span.start for span in request.spans), num_tokens]
    if any(end > start for end, start in zip(ends, starts, strict=True)):
        yield "A media span lies outside the prompt, or overlaps another."
    if request.n < 1:
        yield "n must be at least 1."
    yield from _problems_with_numbers(request.sampling)
    yield from _problems_with_tokens(request.sampling, vocab_size)


def _problems_with_numbers(params: SamplingParams) -> Iterator[str]:
    is_sound = {
        "max_tokens": params.max_tokens >= 1,
        "min_tokens": params.min_tokens >= 0,
        "temperature": 0 <= params.temperature < math.inf,
        "top_p": 0 < params.top_p <= 1,
        "top_k": params.top_k >= 0,
        "min_p": 0 <= params.min_p <= 1,
        "presence_penalty": math.isfinite(params.presence_penalty),
        "frequency_penalty": math.isfinite(params.frequency_penalty),
        "repetition_penalty": 0 < params.repetition_penalty < math.inf,
        "logit_bias": all(math.isfinite(bias) for _, bias in params.logit_bias),
        "logprobs": params.logprobs is None or 0 <= params.logprobs <= MAX_LOGPROBS,
        "prompt_logprobs": (
            params.prompt_logprobs is None or 0 <= params.prompt_logprobs <= MAX_LOGPROBS
        ),
    }
    yield from (f"{name} is out of its range." for name, sound in is_sound.items() if not sound)


def _problems_with_tokens(params: SamplingParams, vocab_size: int) -> Iterator[str]:
    if params.allowed_token_ids is not None and not params.allowed_token_ids:
        yield "allowed_token_ids is empty."
    if not all(params.bad_words):
        yield "bad_words holds an empty word."
    named = {
        "logit_bias": [token for token, _ in params.logit_bias],
        "bad_words": [token for word in params.bad_words for token in word],
        "allowed_token_ids": params.allowed_token_ids or (),
        "stop_token_ids": params.stop_token_ids,
    }
    for name, tokens in named.items():
        if not _are_tokens(tokens, vocab_size):
            yield f"{name} holds a token id outside the vocabulary."


def _are_tokens(token_ids: Collection[int], vocab_size: int) -> bool:
    return not token_ids or 0 <= min(token_ids) <= max(token_ids) < vocab_size
